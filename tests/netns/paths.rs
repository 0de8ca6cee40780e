//! Paths with routers in between: small MTUs, traceroute, ping, datagrams in fragments.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, FAMILIES, Family, Plan, Shape, Side};
use lb_tests::testbed::netns::Namespace;
use lb_tests::testbed::nginx;
use lb_tests::testbed::rollcall::{Configuration, Rollcall};
use lb_tests::testbed::udp::{self, Echo};

use crate::stage::Stage;

/// A link narrower than those around it; IPv6 needs 1280 at least.
const NARROW: u16 = 1400;
/// What is sent each way.
const BYTES: usize = 1_000_000;

/// A web server in a few lines: GET of `/big` yields [`BYTES`], any other GET nothing, and a POST how much came.
struct Sink {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Sink {
    #[track_caller]
    fn start(host: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // The loopback's, as nginx's, so that both families can use one port.
        let addresses: [SocketAddr; 2] = [([0, 0, 0, 0], nginx::PORT).into(), ([0; 16], nginx::PORT).into()];
        let threads = addresses.map(|address| {
            let listener = host.enter(|| listen(address)).unwrap_or_else(|e| panic!("cannot listen at {address}: {e}"));
            listener.set_nonblocking(true).expect("a listener can be told not to wait");
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => drop(std::thread::spawn(move || serve(stream))),
                        Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
                    }
                }
            })
        });
        Self { stop, threads: threads.into() }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
    };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(64)?)?;
    Ok(fd.into())
}

/// One request; a peer that goes away ends it.
fn serve(stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let Ok(read) = stream.try_clone() else { return };
    let (mut reader, mut stream) = (BufReader::new(read), stream);
    let (mut first, mut len) = (String::new(), 0);
    if reader.read_line(&mut first).is_err() {
        return;
    }
    let mut line = String::new();
    while matches!(reader.read_line(&mut line), Ok(n) if n > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            len = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; len];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let answer = if first.starts_with("GET /big") { "x".repeat(BYTES) } else { len.to_string() };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    let _ = stream.write_all((head + &answer).as_bytes());
}

/// How many packets had this verdict.
#[track_caller]
fn verdicts(rollcall: &Rollcall, bed: &Bed, reason: &str) -> u64 {
    let stats = rollcall.json(bed, &["stats"]);
    let all = stats["verdicts"].as_array().expect("a list");
    all.iter().find(|v| v["reason"] == reason).and_then(|v| v["packets"].as_u64()).expect("every reason is listed")
}

fn url(address: IpAddr, path: &str) -> String {
    format!("http://{}{path}", SocketAddr::new(address, 80))
}

/// Transfers of [`BYTES`] as if nothing stood between. First in the direction in which full segments do not fit; after that
/// the other end is told of smaller ones in the handshake, so that the host behind the router sends no larger ones either.
#[track_caller]
fn transfers(bed: &Bed, family: Family, side: Side, file: &str) {
    let vip = bed.vip(family);
    let down = ["-sS", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", &url(vip, "/big")];
    let up = ["-sS", "-m", "20", "-H", "Expect:", "--data-binary", &format!("@{file}"), &url(vip, "/")];
    let both = if side == Side::Client { [&down[..], &up] } else { [&up[..], &down] };
    for arguments in both {
        assert_eq!(bed.clients[0].run("curl", arguments), BYTES.to_string(), "{family:?}, {arguments:?}");
    }
}

/// Full segments do not fit behind a router, on the clients' side for downloads, on the backends' for uploads: its error
/// must reach who sent them, through the translation.
#[test]
fn path_mtu_is_discovered_through_the_balancer_on_both_sides() {
    for side in [Side::Client, Side::Backend] {
        let bed = Bed::build(Plan::test(Shape::TwoArm, 1));
        let _router = bed.insert_router(side, NARROW);
        let _sink = Sink::start(&bed.backends[0]);
        let configuration = Configuration::usual(&bed, "maglev");
        let rollcall = Rollcall::start(&bed, &configuration);
        let file = bed.scratch.path("upload");
        std::fs::write(&file, vec![b'x'; BYTES]).expect("the testbed's folder is writable");
        for family in FAMILIES {
            let before = verdicts(&rollcall, &bed, "tx_icmp_error");
            transfers(&bed, family, side, &file.display().to_string());
            let translated = verdicts(&rollcall, &bed, "tx_icmp_error") - before;
            assert!(translated >= 1, "{side:?}, {family:?}: nothing was too big, so nothing was tried");
        }
    }
}

/// Hops of a traceroute by number, in the order in which they were printed.
fn hops(text: &str) -> Vec<(u32, String)> {
    let hop = |line: &str| -> Option<(u32, String)> {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    };
    text.lines().filter_map(hop).collect()
}

#[test]
fn traceroute_and_ping_find_vip_and_backend_behind_routers() {
    let bed = Bed::build(Plan::test(Shape::TwoArm, 1));
    let _routers = [Side::Client, Side::Backend].map(|side| bed.insert_router(side, 1500));
    let (_sink, _echo) = (Sink::start(&bed.backends[0]), Echo::start_all(&bed));
    let rollcall = Rollcall::start(&bed, &Configuration::usual(&bed, "maglev"));
    for family in FAMILIES {
        let vip = bed.vip(family).to_string();
        let six = if family == Family::V4 { "-4" } else { "-6" };
        let udp_port = udp::PORT.to_string();
        for (what, ways) in [("TCP", ["-T", "-p", "80"]), ("UDP", ["-U", "-p", &udp_port])] {
            let arguments = [&[six, "-n", "-q", "1", "-w", "3", "-N", "1"][..], &ways, &[&vip]].concat();
            let text = bed.clients[0].run("traceroute", &arguments);
            let found = hops(&text);
            // Router, edge, router behind the edge, backend: what is behind the edge speaks as the VIP.
            let numbers: Vec<u32> = found.iter().map(|(n, _)| *n).collect();
            assert_eq!(numbers, [1, 2, 3, 4], "{what}: {text}");
            assert_ne!(found[0].1, vip, "{what}: {text}");
            assert!(found[1..].iter().all(|(_, by)| *by == vip), "{what}: {text}");
        }
        assert_eq!(verdicts(&rollcall, &bed, "drop_ttl"), 0);
        let before = verdicts(&rollcall, &bed, "tx_echo");
        for size in ["0", "56", "1400"] {
            bed.clients[0].run("ping", &["-c", "2", "-i", "0.2", "-W", "3", "-s", size, &vip]);
        }
        assert_eq!(verdicts(&rollcall, &bed, "tx_echo") - before, 6, "answered by the program");
        // In fragments it is the host's.
        bed.clients[0].run("ping", &["-c", "2", "-i", "0.2", "-W", "3", "-s", "4000", &vip]);
        assert_eq!(verdicts(&rollcall, &bed, "tx_echo") - before, 6);
    }
    assert!(verdicts(&rollcall, &bed, "tx_time_exceeded") >= 4);
}

#[test]
fn datagrams_in_fragments_come_back_whole() {
    let mut stage = Stage::new(Shape::TwoArm, 2, "round-robin");
    for family in FAMILIES {
        let echo = SocketAddr::new(stage.bed.vip(family), udp::PORT);
        let payloads: Vec<String> = [8192, 3000, 20_000, 8192, 60_000].map(|len| "abcdefg".repeat(len / 7)).into();
        let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
        for source in stage.bed.client_addresses(family, 0) {
            let socket = udp::client(&stage.bed.clients[0], source);
            udp::ask(&socket, echo, &payloads, Duration::from_secs(3)).unwrap_or_else(|e| {
                let mut why = e.chars().take(80).collect::<String>();
                write!(why, "; {}", stage.rollcall.json(&stage.bed, &["stats"])["verdicts"])
                    .expect("a string takes all");
                panic!("{why}")
            });
        }
    }
    stage.settled();
}
