//! The programs that run in the guest: built here, packed by [`super::initramfs`], run one after another by its init.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A program for the guest.
pub struct Payload {
    /// Its name in the report.
    pub name: &'static str,
    /// The host's file.
    pub executable: PathBuf,
    /// Its arguments in the guest.
    pub args: &'static [&'static str],
}

/// Name, cargo's target selection and the arguments of each payload.
const PAYLOADS: &[(&str, &[&str], &[&str])] = &[
    ("guest", &["build", "--package=lb-tests", "--bin=lb-guest"], &[super::initramfs::FACTS]),
    // The life of a flow, per family and protocol. Not all packet tests: each loads the program, which an emulated
    // verifier takes some ten seconds for.
    (
        "packet",
        &["test", "--package=lb-tests", "--test=packet", "--no-run"],
        &["--test-threads=2", "tcp_flow_from_syn", "udp_flow_is_established", "collection_frees_what_is_idle"],
    ),
    // The memory agent on a cgroup of version 2, which the host need not have.
    ("net", &["test", "--package=lb-tests", "--test=net", "--no-run"], &["agent_follows_a_cgroup"]),
];

/// Builds all payloads.
pub fn build() -> Result<Vec<Payload>> {
    PAYLOADS
        .iter()
        .map(|(name, select, args)| {
            Ok(Payload { name, executable: executable(select).with_context(|| format!("payload {name}"))?, args })
        })
        .collect()
}

/// Runs cargo and returns the executable of the target that `select` ends up naming; cargo builds others beside it.
fn executable(select: &[&str]) -> Result<PathBuf> {
    let target = select.iter().find_map(|a| a.strip_prefix("--test=").or_else(|| a.strip_prefix("--bin=")));
    let target = target.context("a payload names its target")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(select).arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let out = cargo.output().context("cannot run cargo")?;
    ensure!(out.status.success(), "`cargo {}` failed", select.join(" "));
    let messages = String::from_utf8_lossy(&out.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .with_context(|| format!("`cargo {}` built no executable", select.join(" ")))
}
