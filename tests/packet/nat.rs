//! Full NAT: flows of each family and protocol through all their phases.

use lb_common::abi::{Algorithm, Reason};
use lb_common::wire::l4::{ACK, SYN, TCP};
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::{Plane, Sizes, TX, table};

#[test]
fn syn_opens_a_flow() {
    let mut plane = Plane::new(&Sizes::default());
    plane.service(1, TCP, "192.0.2.10:80", Algorithm::Maglev, &table(&[1], 7), 0);
    plane.member(1, 1, "10.0.0.11:8080", 1);
    let syn = Craft::tcp("198.51.100.7:40000", "192.0.2.10:80", SYN, 100, 0);
    let ran = plane.run(&syn.bytes());
    assert_eq!((ran.verdict, ran.reason), (TX, None));
    let out = Craft::read(&ran.packet);
    assert_eq!(out.dst.to_string(), "10.0.0.11:8080");
    assert_eq!(out.src.to_string(), "10.9.9.1:2000");
    assert_eq!(out.ttl, 63);
    let _ = (ACK, Reason::DropBusy, L4::Udp { checksum: true });
}
