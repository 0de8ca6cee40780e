//! The end of a tunnel on a backend host, for kernels without the tunnel devices: takes packets out of their outer header
//! and hands them to the host's stack by a TUN device.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::testbed::netns::Namespace;

/// Name of the device.
const DEVICE: &str = "tun0";
/// How often a thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// Protocol numbers of IPv4 and IPv6 as payloads.
const PAYLOADS: [i32; 2] = [4, 41];
/// `TUNSETIFF`, see linux/if_tun.h.
const SET_INTERFACE: libc::c_ulong = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`.
const TUN: u16 = 0x1001;

/// The tunnel's end in one namespace.
pub struct Tunnel {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Tunnel {
    /// Opens it: IPv4 in IPv4, IPv4 and IPv6 in IPv6.
    #[track_caller]
    pub fn open(host: &Namespace) -> Self {
        let device = host.enter(device);
        host.ip(&format!("link set {DEVICE} up\n"));
        // What comes out of the tunnel has its way back by another device.
        host.sysctl(&format!("net.ipv4.conf.{DEVICE}.rp_filter"), "0");
        host.sysctl("net.ipv4.conf.all.rp_filter", "0");
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (family, payload) in
            [(libc::AF_INET, PAYLOADS[0]), (libc::AF_INET6, PAYLOADS[0]), (libc::AF_INET6, PAYLOADS[1])]
        {
            let socket = host.enter(|| socket(family, payload));
            let (stop, device) = (stop.clone(), device.try_clone().expect("a descriptor can be duplicated"));
            threads.push(std::thread::spawn(move || carry(&socket, family == libc::AF_INET, device, &stop)));
        }
        Self { stop, threads }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn device() -> File {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect("the kernel has TUN devices");
    // `struct ifreq`: the name, then the flags.
    let mut request = [0u8; 40];
    request[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    request[16..18].copy_from_slice(&TUN.to_ne_bytes());
    // SAFETY: a descriptor of ours, and a request of the size that the kernel reads and writes.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), SET_INTERFACE, request.as_mut_ptr()) };
    assert_eq!(done, 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
    file
}

fn socket(family: i32, payload: i32) -> OwnedFd {
    // SAFETY: a plain system call.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, payload) };
    assert!(fd >= 0, "raw socket: {}", std::io::Error::last_os_error());
    // SAFETY: just opened, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let look = libc::timeval { tv_sec: 0, tv_usec: LOOK.subsec_micros().into() };
    let big: libc::c_int = 8 << 20;
    // SAFETY: values of the types and sizes that these options have.
    unsafe {
        let (time, size) = (size_of_val(&look) as u32, size_of_val(&big) as u32);
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const look).cast(), time);
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const big).cast(), size);
    }
    socket
}

/// IPv4 sockets yield the outer header, too; IPv6 ones do not.
fn carry(socket: &OwnedFd, with_header: bool, mut device: File, stop: &AtomicBool) {
    let mut buffer = vec![0u8; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: a buffer of this length.
        let n = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let Ok(n) = usize::try_from(n) else { continue };
        let header = if with_header { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
        // What the stack refuses is lost, as on any link.
        let _ = device.write(&buffer[header.min(n)..n]);
    }
}
