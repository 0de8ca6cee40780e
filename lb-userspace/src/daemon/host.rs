//! What the host must offer before the daemon touches anything: privileges, and interfaces that
//! exist. Whether the kernel is new enough is the data plane's to say.

use super::error::system;
use crate::config::model::Config;
use crate::control::daemon::{ControlError, ErrorCode};

/// Capabilities that the daemon needs: number in `linux/capability.h`, name, what for.
const NEEDED: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "to attach the program and to manage addresses"),
    (13, "CAP_NET_RAW", "to announce addresses"),
    (38, "CAP_PERFMON", "to have the program verified as it is written"),
    (39, "CAP_BPF", "to load the program and its maps"),
];
const CAP_SYS_ADMIN: u32 = 21;

/// Whether this process may do what a daemon does.
pub fn check_privileges() -> Result<(), ControlError> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|e| system(format!("cannot read /proc/self/status: {e}")).with_hint("mount /proc"))?;
    let missing = missing_capabilities(&status);
    if missing.is_empty() {
        return Ok(());
    }
    let lacks: Vec<String> = missing.iter().map(|(name, what)| format!("{name} ({what})")).collect();
    Err(ControlError::new(ErrorCode::Permission, format!("this process lacks {}", lacks.join(", ")))
        .with_hint("run it as root, or give the systemd unit these as AmbientCapabilities"))
}

fn missing_capabilities(status: &str) -> Vec<(&'static str, &'static str)> {
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |cap: u32| effective & 1 << cap != 0;
    // CAP_SYS_ADMIN implies the two that were split from it in 5.8.
    let implied = |cap: u32| matches!(cap, 38 | 39) && has(CAP_SYS_ADMIN);
    NEEDED.iter().filter(|(cap, ..)| !has(*cap) && !implied(*cap)).map(|&(_, name, what)| (name, what)).collect()
}

/// Whether the interfaces of `config` are there; if it has no services, none is needed. Those that run already by `old`
/// may be away for now: the program returns with them, and other changes need not wait for it.
pub fn check_interfaces(config: &Config, old: Option<&Config>) -> Result<(), ControlError> {
    if config.services.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = config
        .edge
        .interfaces
        .iter()
        .map(String::as_str)
        .filter(|i| nix::net::if_::if_nametoindex(*i).is_err())
        .filter(|i| old.is_none_or(|old| !old.edge.interfaces.iter().any(|known| known == i)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let there: Vec<String> = nix::net::if_::if_nameindex()
        .map(|list| list.iter().map(|i| i.name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    Err(system(format!("there is no interface {}; the host has {}", missing.join(", "), there.join(", ")))
        .with_hint("create it, or correct edge.interfaces"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(hex: &str) -> Vec<&'static str> {
        let status = format!("Name:\trollcall\nCapPrm:\tffff\nCapEff:\t{hex}\n");
        missing_capabilities(&status).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn capabilities_missing_are_named() {
        assert_eq!(missing("0000000000000000"), ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing("000001ffffffffff"), [""; 0]);
        assert_eq!(missing(&format!("{:x}", 1u64 << 12 | 1 << 13 | 1 << 21)), [""; 0]);
        assert_eq!(missing(&format!("{:x}", 1u64 << 12 | 1 << 13 | 1 << 39)), ["CAP_PERFMON"]);
    }
}
