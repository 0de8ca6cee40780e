//! A UDP server that answers with its name and what it was sent, and its client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::testbed::bed::Bed;
use crate::testbed::netns::Namespace;

/// Port that the echo servers listen on.
pub const PORT: u16 = 9090;

/// Each backend has one address a family besides its loopback, so the answer's source is the address asked.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// How often a serving thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// Room for any datagram.
const LONGEST: usize = 65_536;

/// Echo servers on a backend host, one for each family.
pub struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Starts one on every backend host, named as nginx names it: b1, b2, ….
    #[track_caller]
    pub fn start_all(bed: &Bed) -> Vec<Self> {
        bed.backends.iter().zip(1..).map(|(host, n)| Self::start(host, &format!("b{n}"))).collect()
    }

    /// Starts one in `host`, answering as `name`.
    #[track_caller]
    pub fn start(host: &Namespace, name: &str) -> Self {
        Self::serving(bind(host, ANY), name)
    }

    /// Starts one that listens on these addresses alone, so that its answers come from them.
    #[track_caller]
    pub fn start_at(host: &Namespace, name: &str, addresses: [IpAddr; 2]) -> Self {
        Self::serving(bind(host, addresses), name)
    }

    fn serving(sockets: [UdpSocket; 2], name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = sockets.map(|socket| {
            let (name, stop) = (name.to_owned(), Arc::clone(&stop));
            std::thread::spawn(move || serve(&socket, &name, || stop.load(Ordering::Relaxed)))
        });
        Self { stop, threads: threads.into_iter().collect() }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers `name:<what came>` until `stop` says so.
pub fn serve(socket: &UdpSocket, name: &str, stop: impl Fn() -> bool) {
    socket.set_read_timeout(Some(LOOK)).expect("a timeout above zero is valid");
    let mut buffer = vec![0; LONGEST];
    while !stop() {
        // A timeout, or an ICMP error of an earlier answer: neither ends the service.
        let Ok((n, peer)) = socket.recv_from(&mut buffer) else { continue };
        let answer = [name.as_bytes(), b":", &buffer[..n]].concat();
        let _ = socket.send_to(&answer, peer);
    }
}

/// Asks `target` from `socket`, once for each payload; the name that answered, the same each time.
pub fn ask(socket: &UdpSocket, target: SocketAddr, payloads: &[&str], timeout: Duration) -> Result<String, String> {
    socket.set_read_timeout(Some(timeout)).map_err(|e| e.to_string())?;
    socket.connect(target).map_err(|e| e.to_string())?;
    let mut name: Option<String> = None;
    let mut buffer = vec![0; LONGEST];
    for payload in payloads {
        socket.send(payload.as_bytes()).map_err(|e| format!("cannot send: {e}"))?;
        let n = socket.recv(&mut buffer).map_err(|e| format!("no answer to {} bytes: {e}", payload.len()))?;
        let answer = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let (server, echo) = answer.split_once(':').ok_or_else(|| format!("an answer without a name: {answer:?}"))?;
        if echo != *payload {
            return Err(format!("{} bytes came back as {}: {payload:?}, {echo:?}", payload.len(), echo.len()));
        }
        if let Some(first) = &name
            && first != server
        {
            return Err(format!("one flow, two servers: {first}, then {server}"));
        }
        name = Some(server.to_owned());
    }
    name.ok_or_else(|| "nothing was asked".to_owned())
}

/// A client's socket on one of its addresses.
#[track_caller]
pub fn client(host: &Namespace, source: IpAddr) -> UdpSocket {
    host.enter(|| UdpSocket::bind((source, 0))).unwrap_or_else(|e| panic!("cannot bind {source}: {e}"))
}

#[track_caller]
fn bind(host: &Namespace, addresses: [IpAddr; 2]) -> [UdpSocket; 2] {
    addresses.map(|address| {
        let address = SocketAddr::new(address, PORT);
        host.enter(|| udp_socket(address)).unwrap_or_else(|e| panic!("cannot serve UDP at {address}: {e}"))
    })
}

/// A bound socket; for IPv6 without IPv4 in it, so that both families can use one port.
pub fn udp_socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    Ok(fd.into())
}
