//! UDP flows.

use lb_common::abi::{Algorithm, Reason, service_flags};
use lb_common::wire::l4::UDP;
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::table;
use lb_tests::packet::world::{Family, V4, V6, World, answer, is_to_client, member_of};
use rstest::rstest;

const CHECKED: L4 = L4::Udp { checksum: true };

fn datagram(family: Family, port: u16, payload: &[u8]) -> Craft {
    Craft::udp(&family.from(port), &family.service(), payload)
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn udp_flow_is_established_by_the_second_datagram_after_an_answer(#[case] family: Family) {
    let mut world = World::new();
    let first = world.forwards(&datagram(family, 50000, b"one"));
    let member = member_of(&first);
    world.forwards(&datagram(family, 50000, b"two"));
    assert_eq!(world.plane.stats(member).established, 0, "no answer yet");
    let reply = world.forwards(&answer(&first, CHECKED, b"pong"));
    is_to_client(&reply);
    assert_eq!((reply.src.to_string(), reply.payload.as_slice()), (family.service(), b"pong".as_slice()));
    world.forwards(&datagram(family, 50000, b"three"));
    assert_eq!(world.plane.stats(member).established, 1);
    let later = world.forwards(&datagram(family, 50000, b"four"));
    assert_eq!((later.src, later.dst), (first.src, first.dst));
    assert_eq!(world.packets(member), (4, 1));
    assert_eq!(world.plane.stats(member).opened, 1);
}

#[test]
fn udp_without_checksum_stays_without_over_ipv4() {
    let mut world = World::new();
    let mut packet = datagram(V4, 50001, b"x");
    packet.l4 = L4::Udp { checksum: false };
    assert_eq!(world.forwards(&packet).l4, L4::Udp { checksum: false });
}

#[test]
fn udp_without_checksum_is_refused_over_ipv6() {
    let mut world = World::new();
    let mut packet = datagram(V6, 50002, b"x");
    packet.l4 = L4::Udp { checksum: false };
    assert_eq!(world.reason(&packet), Reason::DropMalformed);
}

#[test]
fn udp_checksum_that_comes_out_as_zero_is_sent_as_ffff() {
    // One payload among 65,536 makes the outgoing sum zero; the reader of the packet rejects a wrong or missing one.
    let mut world = World::new();
    let mut found = 0;
    let first = world.forwards(&datagram(V4, 50003, &[0, 0]));
    let base = u16::from_be_bytes(checksum(&mut world, [0, 0]));
    for candidate in base.saturating_sub(2)..=base.saturating_add(2) {
        let bytes = candidate.to_be_bytes();
        if checksum(&mut world, bytes) == [0xff, 0xff] {
            found += 1;
        }
    }
    assert_eq!(found, 1, "of {first:?}");
}

fn checksum(world: &mut World, payload: [u8; 2]) -> [u8; 2] {
    let ran = world.plane.run(&datagram(V4, 50003, &payload).bytes());
    Craft::read(&ran.packet);
    [ran.packet[40], ran.packet[41]]
}

#[test]
fn udp_one_way_service_needs_no_answer() {
    let mut world = World::new();
    world.plane.service(2, UDP, &V4.service(), Algorithm::Maglev, &table(&[4], 1), service_flags::ONE_WAY);
    world.forwards(&datagram(V4, 50004, b"a"));
    world.forwards(&datagram(V4, 50004, b"b"));
    assert_eq!(world.plane.stats(4).established, 1);
}
