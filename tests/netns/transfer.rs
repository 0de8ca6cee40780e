//! What arrives is what was sent: big and many downloads, ports used again at once, datagrams.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use lb_tests::testbed::bed::{FAMILIES, Shape};
use lb_tests::testbed::{download, poll, udp};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};

use crate::stage::Stage;

const GIGABYTE: u64 = 1_000_000_000;

#[test]
fn a_gigabyte_arrives_byte_for_byte() {
    let mut stage = Stage::new(Shape::TwoArm, 2, "round-robin");
    download::publish(&stage.bed, "big", GIGABYTE);
    for family in FAMILIES {
        let sources = stage.bed.client_addresses(family, 0);
        let limit = Duration::from_secs(120);
        let failures = download::fetch(&stage.bed.clients[0], stage.web(family), &sources, "big", GIGABYTE, 1, limit);
        assert_eq!(failures, Vec::<String>::new(), "{family:?}");
    }
    stage.settled();
}

#[test]
fn a_thousand_connections_at_once_arrive_byte_for_byte() {
    const BYTES: u64 = 200_000;
    let mut stage = Stage::new(Shape::OneArm, 3, "maglev");
    download::publish(&stage.bed, "part", BYTES);
    for family in FAMILIES {
        let sources = stage.bed.client_addresses(family, 1);
        let limit = Duration::from_secs(120);
        let failures = download::fetch(&stage.bed.clients[1], stage.web(family), &sources, "part", BYTES, 1000, limit);
        assert_eq!(failures, Vec::<String>::new(), "{family:?}");
    }
    stage.settled();
}

/// How a client ends a connection before it uses the same port again.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By a reset: no TIME_WAIT on either side.
    Reset,
    /// The server closes first and keeps the TIME_WAIT.
    ServerCloses,
}

#[test]
fn a_client_that_uses_one_port_again_and_again_is_served() {
    let mut stage = Stage::new(Shape::TwoArm, 2, "maglev");
    for family in FAMILIES {
        let source = SocketAddr::new(stage.bed.client_addresses(family, 0)[0], 40_000);
        for end in [End::Reset, End::ServerCloses] {
            stage.bed.clients[0].enter(|| {
                for round in 0..50 {
                    once(source, stage.web(family), end).unwrap_or_else(|e| panic!("{end:?}, round {round}: {e}"));
                }
            });
        }
    }
    stage.settled();
}

fn once(source: SocketAddr, target: SocketAddr, end: End) -> Result<(), String> {
    use std::io::{Read, Write};
    let mut stream = connect(source, target).map_err(|e| format!("cannot connect: {e}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(3))).map_err(|e| e.to_string())?;
    let close = if matches!(end, End::ServerCloses) { "close" } else { "keep-alive" };
    write!(stream, "GET / HTTP/1.1\r\nhost: x\r\nconnection: {close}\r\n\r\n").map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    match end {
        End::ServerCloses => {
            stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
        }
        End::Reset => {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).map_err(|e| e.to_string())?;
            answer.extend_from_slice(&buffer[..n]);
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            socket::setsockopt(&stream, sockopt::Linger, &linger).map_err(|e| e.to_string())?;
        }
    }
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
}

/// A connection from one fixed port, which may still be in use by an ended one.
fn connect(source: SocketAddr, target: SocketAddr) -> std::io::Result<TcpStream> {
    use std::os::fd::AsRawFd;
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(source))?;
    // The client's own stack refuses the port until its last FIN is acknowledged, on a busy machine after `close` returned.
    poll::until(Duration::from_secs(3), "the client's port free again", || {
        match socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
            Err(Errno::EADDRNOTAVAIL) => Err("its kernel still holds the last connection".into()),
            connected => Ok(connected),
        }
    })?;
    Ok(fd.into())
}

#[test]
fn datagrams_of_one_client_stay_with_one_server() {
    let mut stage = Stage::new(Shape::TwoArm, 3, "round-robin");
    for family in FAMILIES {
        let source: IpAddr = stage.bed.client_addresses(family, 0)[0];
        let echo = SocketAddr::new(stage.bed.vip(family), udp::PORT);
        let socket = udp::client(&stage.bed.clients[0], source);
        let payloads: Vec<String> = (0..100).map(|n| format!("datagram {n} {}", "x".repeat(n * 13))).collect();
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        udp::ask(&socket, echo, &payloads, Duration::from_secs(2)).expect("every datagram comes back");
    }
    stage.settled();
}
