//! Giving up what the agent does not need: all of it.

use std::io;

use crate::control::daemon::{ControlError, ErrorCode};

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0: the calling thread.
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops all capabilities of the calling thread, and any way to get some again. What was done, in words.
pub(super) fn drop_all() -> Result<String, ControlError> {
    let had = permitted();
    drop_sets().map_err(|e| {
        ControlError::new(ErrorCode::System, format!("cannot drop capabilities: {e}"))
            .with_hint("run the agent as an unprivileged user, such as by systemd's DynamicUser=yes")
    })?;
    Ok(match had {
        0 => "has no capabilities and can gain none".to_owned(),
        n => format!("dropped all {n} capabilities"),
    })
}

fn drop_sets() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            // EINVAL: there are no more. EPERM: whoever may not shrink the bounding set cannot use it either.
            break;
        }
    }
    let header = Header { version: VERSION, pid: 0 };
    let none = [Sets::default(); 2];
    // SAFETY: version 3 has a header and two structures of sets, which live through the call; the kernel only reads them.
    // Ambient capabilities go with the permitted ones.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How many capabilities the calling thread may use.
fn permitted() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).map_or(0, u64::count_ones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_all_leaves_the_thread_nothing() {
        // Capabilities are each thread's own, and this one ends here.
        let status = std::thread::spawn(|| {
            drop_all().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = status.join().unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    }
}
