//! Kernel, privileges, bpffs.

use super::facts::Host;
use super::{bad, ok};
use crate::control::schema::{Check, CheckResult};

/// The oldest kernel that has all that the program needs.
const FLOOR: (u32, u32) = (5, 15);

/// Capabilities that the daemon needs: bit and name. `CAP_SYS_ADMIN` stands for the last two.
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;

pub(super) fn checks(host: &Host) -> Vec<Check> {
    vec![kernel(host), bpf(host), jit(host), capabilities(host), bpffs(host)]
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel(host: &Host) -> Check {
    let (major, minor) = FLOOR;
    match version(&host.release) {
        Some(found) if found >= FLOOR => ok("kernel", format!("{}, at least {major}.{minor}", host.release)),
        _ => bad(
            CheckResult::Fail,
            "kernel",
            format!("{:?} is not known to be {major}.{minor} or newer", host.release),
            "the program uses helpers and map flags that older kernels lack",
            "boot a newer kernel; Debian 12 and Ubuntu 22.04 have one",
        ),
    }
}

fn bpf(host: &Host) -> Check {
    if host.bpf {
        ok("bpf system call", "present")
    } else {
        bad(
            CheckResult::Fail,
            "bpf system call",
            "/proc/sys/kernel/unprivileged_bpf_disabled is missing",
            "nothing can be loaded without it",
            "use a kernel with CONFIG_BPF_SYSCALL=y",
        )
    }
}

fn jit(host: &Host) -> Check {
    match host.jit {
        Some(true) => ok("bpf jit", "on"),
        Some(false) => bad(
            CheckResult::Warn,
            "bpf jit",
            "off: programs are not translated into machine code",
            "each packet is interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        None => bad(
            CheckResult::Warn,
            "bpf jit",
            "this process may neither load a program to see, nor read net.core.bpf_jit_enable",
            "whether each packet is interpreted, several times slower, is unknown",
            "run doctor as root",
        ),
    }
}

fn capabilities(host: &Host) -> Check {
    let has = |bit: u32| host.capabilities >> bit & 1 == 1;
    let missing: Vec<_> = (CAPABILITIES.iter())
        .filter(|(bit, _)| !(has(*bit) || matches!(bit, 38 | 39) && has(CAP_SYS_ADMIN)))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        ok("capabilities", "all that the daemon needs")
    } else {
        bad(
            CheckResult::Fail,
            "capabilities",
            format!("this process lacks {}", missing.join(", ")),
            "a daemon started like this command could not load and attach the program",
            "run doctor and the daemon as root, or give the daemon's unit these as AmbientCapabilities",
        )
    }
}

fn bpffs(host: &Host) -> Check {
    let name = "bpf file system";
    if host.bpffs {
        return ok(name, format!("{} is on one", host.pin_dir.display()));
    }
    bad(
        CheckResult::Fail,
        name,
        format!("{} is not on one, or is hidden from this user", host.pin_dir.display()),
        "maps and links are pinned there, so that traffic outlives the daemon",
        "mount -t bpf bpf /sys/fs/bpf; under `ip netns exec`, mount one elsewhere and set control.pin_dir",
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn host() -> Host {
        Host {
            release: "6.1.0-18-amd64".into(),
            capabilities: u64::MAX,
            jit: Some(true),
            pin_dir: "/sys/fs/bpf/rollcall".into(),
            bpffs: true,
            bpf: true,
        }
    }

    #[test]
    fn host_in_order_has_only_ok() {
        assert!(checks(&host()).iter().all(|c| c.result == CheckResult::Ok));
    }

    #[rstest]
    #[case("5.15.0-91-generic", CheckResult::Ok)]
    #[case("6.1", CheckResult::Ok)]
    #[case("10.0-rc1", CheckResult::Ok)]
    #[case("5.14.21", CheckResult::Fail)]
    #[case("4.19.0", CheckResult::Fail)]
    #[case("", CheckResult::Fail)]
    fn kernel_by_release_passes_from_the_floor_on(#[case] release: &str, #[case] result: CheckResult) {
        assert_eq!(kernel(&Host { release: release.into(), ..host() }).result, result);
    }

    #[rstest]
    #[case(0, "CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_BPF")]
    #[case(1 << 12 | 1 << 13 | 1 << 21, "")]
    #[case(1 << 12 | 1 << 13 | 1 << 39, "CAP_PERFMON")]
    fn capabilities_missing_are_named(#[case] capabilities: u64, #[case] missing: &str) {
        let check = super::capabilities(&Host { capabilities, ..host() });
        assert_eq!(check.result == CheckResult::Ok, missing.is_empty());
        assert!(check.evidence.ends_with(missing) || missing.is_empty(), "{}", check.evidence);
    }

    #[test]
    fn each_other_lack_is_found_by_its_own_check() {
        let found = |host: Host| -> Vec<String> {
            checks(&host).into_iter().filter(|c| c.result != CheckResult::Ok).map(|c| c.name).collect()
        };
        assert_eq!(found(Host { jit: Some(false), ..host() }), ["bpf jit"]);
        assert_eq!(found(Host { jit: None, ..host() }), ["bpf jit"]);
        assert_eq!(found(Host { bpf: false, ..host() }), ["bpf system call"]);
        assert_eq!(found(Host { bpffs: false, ..host() }), ["bpf file system"]);
    }
}
