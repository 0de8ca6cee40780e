//! What doctor looks at, gathered once: the host, the configuration, its interfaces, and the daemon's picture if there
//! is one. Judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::hops::{self, Hops};
use crate::cli::Context;
use crate::config::model::Config;
use crate::config::{self, Loaded};
use crate::control::daemon::ControlError;
use crate::control::schema::{Attachment, Status};
use crate::io::bpf::{self, DataPlane};
use crate::io::net::inspect::{self, Interface};

/// All facts.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) host: Host,
    pub(super) config: Result<Loaded, String>,
    pub(super) interfaces: BTreeMap<String, Result<Interface, String>>,
    /// Addresses on the host, with their interfaces.
    pub(super) addresses: BTreeSet<(IpAddr, String)>,
    /// Addresses of the configuration that another host answers for, with its MAC; empty without the right to ask.
    pub(super) holders: BTreeMap<IpAddr, [u8; 6]>,
    pub(super) ports: inspect::Host,
    /// Where our program is: by the daemon, or without one by the pinned data plane.
    pub(super) attached: Vec<Attachment>,
    /// The daemon, if it runs in another network namespace than this command.
    pub(super) elsewhere: Option<u32>,
    /// What the kernel says of next hops, where no daemon does; `None` if one does, or without a configuration.
    pub(super) hops: Option<Result<Hops, String>>,
    /// The daemon's picture; `None` if there is no daemon.
    pub(super) status: Option<Status>,
    /// Why there is none, if it is another cause than that it is not running.
    pub(super) status_error: Option<ControlError>,
}

/// The kernel and this process.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// `uname -r`.
    pub(super) release: String,
    /// `CapEff` of this process.
    pub(super) capabilities: u64,
    /// Whether a program that was loaded to see it was translated; without rights by `net.core.bpf_jit_enable`, which is
    /// hidden in network namespaces other than the first.
    pub(super) jit: Option<bool>,
    /// Where maps and links will be pinned.
    pub(super) pin_dir: PathBuf,
    /// Whether a bpffs is there, or at the nearest directory above.
    pub(super) bpffs: bool,
    /// Whether the kernel has the BPF system call, by the file that it makes.
    pub(super) bpf: bool,
}

impl Facts {
    pub(super) async fn gather(context: &Context) -> Self {
        let config = config::load(&context.config).map_err(|e| e.to_string());
        let (status, status_error) = match context.client.get::<Status>("/v1/status").await {
            Ok(status) => (Some(status), None),
            Err(_) if context.client.is_deserted().await => (None, None),
            Err(e) => (None, Some(e)),
        };
        let mut interfaces = BTreeMap::new();
        for name in config.iter().flat_map(|c| &c.config.edge.interfaces) {
            interfaces.insert(name.clone(), inspect::interface(name).await.map_err(|e| e.to_string()));
        }
        let hops = match (&config, &status) {
            (Ok(loaded), None) => Some(hops::ask(&loaded.config).await),
            _ => None,
        };
        let pin_dir =
            config.as_ref().map_or_else(|_| "/sys/fs/bpf/rollcall".into(), |c| c.config.control.pin_dir.clone());
        let attached = status.as_ref().map_or_else(|| pinned(&pin_dir), |s| s.attached.clone());
        let elsewhere = status.as_ref().map(|s| s.daemon.pid).filter(|&pid| is_elsewhere(pid));
        let addresses = host_addresses();
        let holders = match &config {
            Ok(loaded) => holders(&loaded.config, &addresses).await,
            Err(_) => BTreeMap::new(),
        };
        Self {
            attached,
            elsewhere,
            hops,
            holders,
            host: Host::gather(pin_dir),
            config,
            interfaces,
            addresses,
            ports: inspect::host(),
            status,
            status_error,
        }
    }
}

/// Asks where each address is, or belongs.
async fn holders(config: &Config, on_host: &BTreeSet<(IpAddr, String)>) -> BTreeMap<IpAddr, [u8; 6]> {
    let mut asked: BTreeMap<&str, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for (what, ip) in super::addresses::config_addresses(config) {
        let there = on_host.iter().find(|(address, _)| *address == ip).map(|(_, interface)| interface.as_str());
        let place = there.or_else(|| super::addresses::place(what, config));
        if let (IpAddr::V4(ip), Some(place)) = (ip, place) {
            asked.entry(place).or_default().insert(ip);
        }
    }
    let mut holders = BTreeMap::new();
    for (interface, addresses) in asked {
        let found = inspect::holders(interface, addresses).await.unwrap_or_default();
        holders.extend(found.into_iter().map(|(ip, mac)| (IpAddr::V4(ip), mac)));
    }
    holders
}

/// What a daemon that does not run left attached. Unreadable without rights, and then as good as not there.
fn pinned(pin_dir: &Path) -> Vec<Attachment> {
    let attached = DataPlane::open_readonly(pin_dir).and_then(|plane| plane.attached());
    attached.map(|all| all.iter().map(Attachment::new).collect()).unwrap_or_default()
}

/// Whether the process is known to be in another network namespace.
fn is_elsewhere(pid: u32) -> bool {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    namespace("self").zip(namespace(&pid.to_string())).is_some_and(|(own, its)| own != its)
}

impl Host {
    fn gather(pin_dir: PathBuf) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
        let jit_enable = || {
            let text = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok()?;
            Some(text.trim().parse::<u32>().ok()? > 0)
        };
        Self {
            release: nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default(),
            capabilities: effective.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default(),
            jit: bpf::is_jit_on().or_else(jit_enable),
            bpffs: is_bpffs(&pin_dir),
            bpf: Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists(),
            pin_dir,
        }
    }
}

/// Whether the directory, or the nearest above that exists, is on a bpffs.
fn is_bpffs(directory: &Path) -> bool {
    let existing = directory.ancestors().find(|d| d.exists());
    existing.is_some_and(|d| statfs(d).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC))
}

fn host_addresses() -> BTreeSet<(IpAddr, String)> {
    let all = getifaddrs().into_iter().flatten();
    all.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))?;
        Some((ip, entry.interface_name))
    })
    .collect()
}
