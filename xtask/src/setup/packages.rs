//! Debian packages: the servers and tools that tests and demo use. Installed without starting any service.

use std::process::Command;
use std::sync::Once;

use anyhow::{Context, Result, bail};

use super::Need;
use crate::sys::{self, Root};

/// A program and the packages that may bring it, best first.
struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
}

const fn tool(program: &'static str, packages: &'static [&'static str]) -> Tool {
    Tool { program, packages }
}

const TOOLS: &[Tool] = &[
    tool("nginx", &["nginx-light", "nginx"]),
    tool("ip", &["iproute2"]),
    tool("ping", &["iputils-ping"]),
    tool("traceroute", &["traceroute"]),
    tool("ethtool", &["ethtool"]),
    tool("bpftool", &["bpftool", "linux-tools-generic"]),
    tool("iperf3", &["iperf3"]),
    tool("tcpdump", &["tcpdump"]),
    tool("curl", &["curl"]),
    tool("openssl", &["openssl"]),
    tool("promtool", &["prometheus"]),
    tool("prometheus-node-exporter", &["prometheus-node-exporter"]),
    tool("haproxy", &["haproxy"]),
    tool("prometheus-alertmanager", &["prometheus-alertmanager"]),
    tool("qemu-system-x86_64", &["qemu-system-x86"]),
    tool("cpio", &["cpio"]),
    tool("depmod", &["kmod"]),
    tool("busybox", &["busybox-static"]),
];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// What is checked here.
pub fn need() -> Need {
    Need { name: "servers and tools".to_owned(), purpose: "tests and demo", found, bring, optional: false }
}

fn missing() -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter().filter(|tool| sys::find(tool.program).is_none())
}

fn found() -> Result<String, String> {
    let missing: Vec<_> = missing().map(|tool| format!("{} (package {})", tool.program, tool.packages[0])).collect();
    if missing.is_empty() {
        Ok(format!("all {} present", TOOLS.len()))
    } else {
        Err(format!("no {}", missing.join(", ")))
    }
}

fn bring() -> Result<()> {
    update()?;
    let mut packages = Vec::new();
    for tool in missing() {
        let offered = tool.packages.iter().find(|package| is_offered(package));
        packages.push(*offered.with_context(|| {
            format!(
                "{}: this distribution offers none of {}; install it by hand",
                tool.program,
                tool.packages.join(", ")
            )
        })?);
    }
    install(&packages)
}

/// Whether the distribution has a package by this name that can be installed.
pub fn is_offered(package: &str) -> bool {
    let policy = sys::read(Command::new("apt-cache").args(["policy", package])).unwrap_or_default();
    policy.lines().any(|line| line.trim().strip_prefix("Candidate:").is_some_and(|version| version.trim() != "(none)"))
}

/// Whether a package is installed.
pub fn is_installed(package: &str) -> bool {
    let state = sys::read(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Abbrev}", package]));
    state.is_some_and(|state| state.starts_with("ii"))
}

/// Refreshes the package lists, once a run.
pub fn update() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = apt(&["update"]));
    result
}

/// Installs packages; their services are not started.
pub fn install(packages: &[&str]) -> Result<()> {
    update()?;
    let quiet = Policy::no_starts()?;
    let result = apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat());
    quiet.lift()?;
    result
}

fn apt(arguments: &[&str]) -> Result<()> {
    if sys::find("apt-get").is_none() {
        bail!("there is no apt-get here: set-up knows Debian and Ubuntu; install by hand what `--check` lists");
    }
    let mut command = Root::find().command("env", "installing packages")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "Dpkg::Use-Pty=0"]).args(arguments);
    // Its output is progress, not a result.
    command.stdout(std::io::stderr());
    sys::run(&mut command)
}

/// While it exists, packages may not start services. A policy that is there already is respected.
struct Policy {
    ours: bool,
}

impl Policy {
    fn no_starts() -> Result<Self> {
        if std::fs::exists(POLICY)? {
            return Ok(Self { ours: false });
        }
        let script = format!("printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}");
        sys::run(Root::find().command("sh", "installing packages")?.args(["-c", &script]))?;
        Ok(Self { ours: true })
    }

    fn lift(self) -> Result<()> {
        if self.ours {
            sys::run(Root::find().command("rm", "installing packages")?.args(["-f", POLICY]))?;
        }
        Ok(())
    }
}
