//! One arm and two, IPv4 and IPv6, TCP and UDP; and everything that is none of the balancer's business.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lb_tests::testbed::bed::{FAMILIES, Shape};
use lb_tests::testbed::load::Load;
use lb_tests::testbed::rollcall::members;
use lb_tests::testbed::udp;
use rstest::rstest;

use crate::stage::{Stage, assert_no_failures};

/// Ports differ between service and members, so each answer also proves the port's translation.
#[rstest]
fn every_service_answers_from_every_backend(
    #[values(Shape::TwoArm, Shape::OneArm)] shape: Shape,
    #[values("round-robin", "maglev", "least-conn", "source")] algorithm: &'static str,
) {
    let mut stage = Stage::new(shape, 3, algorithm);
    for family in FAMILIES {
        let mut plan = stage.plan(family, 0);
        plan.limit = Some(300);
        let tally = Load::start(&stage.bed.clients[0], plan).wait();
        assert_no_failures(&tally);
        assert_eq!(tally.backends.len(), 3, "{:?}", tally.backends);

        let echo = SocketAddr::new(stage.bed.vip(family), udp::PORT);
        let mut seen = std::collections::BTreeSet::new();
        for source in stage.bed.client_addresses(family, 1) {
            let socket = udp::client(&stage.bed.clients[1], source);
            let timeout = Duration::from_secs(2);
            seen.insert(udp::ask(&socket, echo, &["one", "two", "three"], timeout).expect("UDP is answered"));
        }
        assert!(seen.len() >= 2, "20 clients, all answered by {seen:?}");
    }
    let status = stage.settled();
    let opened: u64 = members(&status).filter_map(|m| m["flows_opened"].as_u64()).sum();
    assert!(opened >= 640, "600 connections and 40 UDP flows, {opened} counted");
}

#[rstest]
fn traffic_for_no_service_reaches_the_host_untouched(#[values(Shape::TwoArm, Shape::OneArm)] shape: Shape) {
    let stage = Stage::new(shape, 2, "round-robin");
    let listener = stage.bed.edge.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(4) {
            let mut stream = stream.expect("a client connects");
            let mut text = [0; 4];
            stream.read_exact(&mut text).expect("the client sends four bytes");
            stream.write_all(&text).expect("the client reads");
        }
    });
    for family in FAMILIES {
        for address in [stage.bed.edge_address(family), stage.bed.vip(family)] {
            stage.bed.clients[0].run("ping", &["-c", "2", "-i", "0.2", "-W", "2", &address.to_string()]);
            stage.bed.clients[0].enter(|| echo_once(address, port));
        }
    }
    server.join().expect("the server saw four clients");
}

fn echo_once(address: IpAddr, port: u16) {
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(3))
        .unwrap_or_else(|e| panic!("the host's own port {port} at {address}: {e}"));
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout above zero is valid");
    stream.write_all(b"ping").expect("the host reads");
    let mut text = [0; 4];
    stream.read_exact(&mut text).expect("the host answers");
    assert_eq!(&text, b"ping");
}
