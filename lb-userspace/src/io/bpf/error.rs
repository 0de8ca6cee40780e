//! What can go wrong in the kernel side. Each message says what, where, why, and what to do.
//!
//! Causes are kept as text, whole chain included, with the errno beside it: callers decide by variant or errno, people
//! read the text.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::types::Mode;

/// An error of the data plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BpfError {
    /// The process may not use BPF, or may not write the pin directory.
    #[error(
        "{what}: {cause}. Rollcall needs root, or CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON, and a BPF file system \
         that it may write (to mount one itself it needs CAP_SYS_ADMIN)"
    )]
    Permission {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        cause: String,
    },
    /// The kernel is older than the floor.
    #[error("this kernel is {release}; Rollcall needs 5.15 or newer")]
    KernelTooOld {
        /// What runs.
        release: String,
    },
    /// The pin directory is on another file system.
    #[error(
        "{} is not on a BPF file system, so nothing can be pinned there. Mount one: mount -t bpf bpf {}",
        path.display(),
        mount_point.display()
    )]
    NotBpffs {
        /// The pin directory.
        path: PathBuf,
        /// Where a bpffs should be.
        mount_point: PathBuf,
    },
    /// A bpffs refuses names with dots.
    #[error("{}: the BPF file system reserves names with a dot; choose a pin directory without one", path.display())]
    DottedPath {
        /// The pin directory.
        path: PathBuf,
    },
    /// A size that no map can have.
    #[error("{key} = {value}: {why}")]
    BadSize {
        /// The configuration's key.
        key: &'static str,
        /// Its value.
        value: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The embedded object is not what this module expects.
    #[error("the embedded eBPF object is unusable: {0}. This is a fault of the build")]
    Object(String),
    /// Nothing is pinned.
    #[error("no data plane is pinned in {}; start it: rollcall run", path.display())]
    NotRunning {
        /// The pin directory.
        path: PathBuf,
    },
    /// Something that belongs to a pinned set is not there.
    #[error("{} is missing from the pinned data plane; take down what is left: rollcall down", path.display())]
    Incomplete {
        /// The missing pin.
        path: PathBuf,
    },
    /// Pinned maps of another ABI.
    #[error(
        "the pinned data plane has map ABI {pinned}, this program has {expected}; run the version that made it, or take \
         it down (its flows are lost): rollcall down"
    )]
    AbiVersion {
        /// Of the pins.
        pinned: u32,
        /// Ours.
        expected: u32,
    },
    /// A pinned map is not what the object declares.
    #[error(
        "pinned map {map} has {what} {pinned}, this program needs {expected}; take the data plane down (its flows are \
         lost): rollcall down"
    )]
    MapMismatch {
        /// The map.
        map: &'static str,
        /// What differs: type, key size, value size, entries, flags.
        what: &'static str,
        /// The pinned map's.
        pinned: u32,
        /// What is needed.
        expected: u32,
    },
    /// A key that is fixed while the data plane is up differs from the configuration.
    #[error(
        "{key} is {configured} in the configuration, but the running data plane was created with {running}, and it is \
         fixed while the data plane is up; set it back, or take the data plane down (its flows are lost): rollcall down"
    )]
    Fixed {
        /// The configuration's key.
        key: &'static str,
        /// What the pinned maps have.
        running: u32,
        /// What was asked for.
        configured: u32,
    },
    /// The kernel's tick rate could not be measured.
    #[error("cannot measure the kernel's tick rate: {0}")]
    Calibration(String),
    /// No such interface.
    #[error("no interface {name} in this network namespace; `ip link` lists them, edge.interfaces names them")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// Another XDP program is there.
    #[error(
        "interface {interface} already has an XDP program: {program}. See it: bpftool net show dev {interface}. Remove \
         it: {removal}"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// Its program, in words: id, name, mode.
        program: String,
        /// A command.
        removal: String,
    },
    /// The kernel or the driver refused the program.
    #[error("cannot attach to {interface} in {} mode: {cause}", mode.name())]
    Attach {
        /// The interface.
        interface: String,
        /// The mode that was tried.
        mode: Mode,
        /// Why, with the errno explained.
        cause: String,
    },
    /// After the attach the interface runs something else.
    #[error("attached to {interface}, but the kernel reports {found}; something else changes its XDP program")]
    Unverified {
        /// The interface.
        interface: String,
        /// What it runs.
        found: String,
    },
    /// Any other refusal of the kernel.
    #[error("{what}: {cause}")]
    Kernel {
        /// What was tried.
        what: String,
        /// Its answer.
        cause: String,
        /// The errno, if there is one.
        errno: Option<i32>,
    },
}

impl BpfError {
    /// Wraps a refusal of the kernel.
    pub(super) fn kernel(what: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let errno = errno(error);
        let (what, cause) = (what.into(), chain(error));
        match errno {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { what, cause },
            _ => Self::Kernel { what, cause, errno },
        }
    }

    /// As [`Self::kernel`], with the path that was touched.
    pub(super) fn at(verb: &str, path: &Path, error: &(dyn Error + 'static)) -> Self {
        Self::kernel(format!("cannot {verb} {}", path.display()), error)
    }
}

/// The errno at the bottom of an error.
pub(super) fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(n) = e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(n);
        }
        next = e.source();
    }
    None
}

/// An error with all its sources, each said once; a verifier log is cut to its end, where the reason stands.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = tail(&error.to_string(), 24);
    let mut next = error.source();
    while let Some(e) = next {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = e.source();
    }
    text
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    if all.len() <= lines {
        return text.to_owned();
    }
    format!("{}\n...\n{}", all[0], all[all.len() - lines + 1..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_refusal_for_lack_of_rights_is_a_permission_error() {
        let e = BpfError::kernel("cannot create a map", &io::Error::from_raw_os_error(libc::EPERM));
        assert!(matches!(&e, BpfError::Permission { .. }), "{e}");
        assert!(e.to_string().contains("CAP_BPF"), "{e}");
        let e = BpfError::kernel("cannot create a map", &io::Error::from_raw_os_error(libc::E2BIG));
        assert!(matches!(e, BpfError::Kernel { errno: Some(libc::E2BIG), .. }));
    }

    #[test]
    fn tail_of_a_long_log_keeps_first_and_last_lines() {
        let log: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
        let cut = tail(&log.join("\n"), 24);
        assert!(cut.starts_with("line 0\n...\nline 77\n") && cut.ends_with("line 99"), "{cut}");
    }
}
