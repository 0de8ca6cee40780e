//! A bare XDP_PASS program for the far ends of the edge's veth pairs: the kernel delivers what XDP sends out of a veth
//! only to a peer that runs an XDP program itself. Two instructions, loaded by `bpf(2)` directly, so that the testbed
//! does not depend on the object under test.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::testbed::netns::Namespace;

const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const FLAG_DRIVER_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`, eight bytes each.
static PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The head of `union bpf_attr` for BPF_PROG_LOAD, as in linux/bpf.h.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The head of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct Link {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for BPF_OBJ_PIN.
#[repr(C)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Attaches the program to `interface` in native mode and pins the link as `pin`; it lives as long as pin and interface.
#[track_caller]
pub fn attach(namespace: &Namespace, interface: &str, pin: &Path) {
    let attached = namespace.enter(|| -> io::Result<()> {
        let ifindex = nix::net::if_::if_nametoindex(interface)?;
        let program = load()?;
        let link = bpf(
            LINK_CREATE,
            &Link {
                prog_fd: raw(&program),
                target_ifindex: ifindex,
                attach_type: ATTACH_TYPE_XDP,
                flags: FLAG_DRIVER_MODE,
            },
        )?;
        let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
        // Pinning returns 0, not a descriptor: nothing to own.
        call(OBJ_PIN, &Pin { pathname: path.as_ptr() as u64, bpf_fd: raw(&link), file_flags: 0 })?;
        Ok(())
    });
    attached.unwrap_or_else(|e| panic!("cannot attach XDP_PASS to {interface} in {}: {e}", namespace.name()));
}

fn load() -> io::Result<OwnedFd> {
    let mut prog_name = [0; 16];
    prog_name[..4].copy_from_slice(b"pass");
    bpf(
        PROG_LOAD,
        &Load {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: 2,
            insns: PASS.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log: [0; 2],
            kern_version: 0,
            prog_flags: 0,
            prog_name,
            prog_ifindex: 0,
            expected_attach_type: ATTACH_TYPE_XDP,
        },
    )
}

fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn bpf<T>(command: libc::c_long, attribute: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attribute)?;
    // SAFETY: these commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_long, attribute: &T) -> io::Result<i32> {
    // SAFETY: `attribute` is a plain C structure laid out as the kernel's, alive for the call, with its size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    match i32::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
