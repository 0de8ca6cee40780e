//! What is not for a service passes untouched, counted.

use lb_common::abi::Reason;
use lb_common::wire::l4::SYN;
use lb_tests::packet::craft::Craft;
use lb_tests::packet::plane::PASS;
use lb_tests::packet::world::{Family, V4, V6, World};
use rstest::rstest;

#[track_caller]
fn passes(world: &mut World, packet: &[u8], reason: Reason) {
    let ran = world.plane.run(packet);
    assert_eq!((ran.verdict, ran.reason), (PASS, Some(reason)));
    assert_eq!(ran.packet, packet, "untouched");
}

#[rstest]
#[case::other_address(Craft::tcp("198.51.100.7:1", "203.0.113.1:80", SYN, 1, 0), Reason::PassNotOurs)]
#[case::other_port_of_the_vip(Craft::tcp("198.51.100.7:1", "192.0.2.10:22", SYN, 1, 0), Reason::PassNoService)]
#[case::pool_address_other_port(Craft::tcp("198.51.100.7:1", "10.9.9.1:22", SYN, 1, 0), Reason::PassNoService)]
#[case::other_address_v6(Craft::udp("[2001:db8::9]:1", "[2001:db8::1]:80", b"x"), Reason::PassNotOurs)]
#[case::other_port_v6(Craft::udp("[2001:db8::9]:1", "[2001:db8::10]:53", b"x"), Reason::PassNoService)]
fn other_traffic_passes(#[case] packet: Craft, #[case] reason: Reason) {
    passes(&mut World::new(), &packet.bytes(), reason);
}

#[rstest]
fn icmp_to_our_addresses_passes(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    for to in [family.service(), format!("{}:80", family.pool)] {
        let mut frame = Craft::udp(&family.from(1), &to, &[0; 32]).bytes();
        frame[if family.vip == V4.vip { 14 + 9 } else { 14 + 6 }] = if family.vip == V4.vip { 1 } else { 58 };
        passes(&mut world, &frame, Reason::PassOtherProtocol);
    }
}

#[test]
fn frame_for_another_mac_passes() {
    let mut world = World::new();
    for mac in [[2, 0, 0, 0, 9, 9], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let mut packet = Craft::tcp(&V4.from(1), &V4.service(), SYN, 1, 0);
        packet.macs.0 = mac;
        passes(&mut world, &packet.bytes(), Reason::PassOtherMac);
    }
    world.handshake(V4, 2);
    let mut stray = Craft::tcp(&V4.from(2), &V4.service(), lb_common::wire::l4::ACK, 101, 501);
    stray.macs.0 = [2, 0, 0, 0, 9, 9];
    passes(&mut world, &stray.bytes(), Reason::PassOtherMac);
}

#[test]
fn arp_icmp_and_unknown_protocols_pass() {
    let mut world = World::new();
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
    arp.resize(60, 0);
    passes(&mut world, &arp, Reason::PassNotIp);
    for (family, proto, at) in [(V4, 1u8, 23usize), (V6, 58, 20), (V4, 47, 23)] {
        let mut packet = Craft::udp(&family.from(1), &family.service(), b"ping").bytes();
        packet[at] = proto;
        passes(&mut world, &packet, Reason::PassOtherProtocol);
    }
}

#[test]
fn frame_with_three_tags_passes() {
    let mut packet = Craft::tcp(&V4.from(1), &V4.service(), SYN, 1, 0);
    packet.tags = vec![(0x88a8, 1), (0x8100, 2), (0x8100, 3)];
    passes(&mut World::new(), &packet.bytes(), Reason::PassNotIp);
}
