//! Packets that are not well formed: never a crash, never a packet to the wrong place, each counted under its reason.

use lb_common::abi::Reason;
use lb_common::wire::l4::{ACK, SYN};
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::{DROP, PASS};
use lb_tests::packet::world::{Family, V4, V6, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rstest::rstest;

fn valid() -> Vec<Craft> {
    let mut all = Vec::new();
    for family in [V4, V6] {
        for tags in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 7)]] {
            for l4 in [L4::Tcp { seq: 1, ack: 0, flags: SYN }, L4::Udp { checksum: true }] {
                let mut packet = Craft::udp(&family.from(7000), &family.service(), b"payload");
                (packet.tags, packet.l4) = (tags.clone(), l4);
                all.push(packet.clone());
                if family.vip == V4.vip {
                    packet.options = vec![1; 12];
                } else {
                    packet.extensions = vec![(0, vec![0; 8]), (60, [vec![0, 1], vec![0; 14]].concat())];
                }
                all.push(packet);
            }
        }
    }
    all
}

#[test]
fn every_truncation_is_refused_and_counted() {
    let mut world = World::new();
    for packet in valid() {
        let whole = packet.bytes();
        // `BPF_PROG_TEST_RUN` wants an Ethernet header.
        for n in 14..whole.len() {
            let ran = world.plane.run(&whole[..n]);
            let reason = ran.reason.unwrap_or_else(|| panic!("{n} of {} bytes of {packet:?} forwarded", whole.len()));
            let header = 14 + packet.tags.len() * 4 + if packet.src.is_ipv4() { 20 } else { 40 };
            if n < header {
                assert!(matches!(reason, Reason::PassMalformed | Reason::PassNotIp), "{reason:?} at {n} of {packet:?}");
                assert_eq!(ran.verdict, PASS);
            } else {
                assert_eq!((ran.verdict, reason), (DROP, Reason::DropTruncated), "at {n} of {packet:?}");
            }
        }
        world.forwards(&packet);
    }
}

#[test]
fn padding_behind_the_packet_is_legal() {
    let mut world = World::new();
    for packet in valid() {
        let mut frame = packet.bytes();
        frame.extend([0xaa; 26]);
        let ran = world.plane.run(&frame);
        assert_eq!(ran.reason, None, "{packet:?}");
        assert_eq!(Craft::read(&ran.packet).payload, packet.payload);
    }
}

#[rstest]
#[case::ipv4_header_length(V4, 14, 0x44, Reason::DropMalformed)]
#[case::ipv4_version(V4, 14, 0x65, Reason::DropMalformed)]
#[case::ipv4_total_length(V4, 17, 10, Reason::DropMalformed)]
#[case::ipv4_total_without_l4(V4, 17, 25, Reason::DropTruncated)]
#[case::ipv4_first_fragment(V4, 20, 0x20, Reason::DropMalformed)]
#[case::ipv4_later_fragment(V4, 21, 0x01, Reason::DropFragment)]
#[case::ipv4_ttl_1(V4, 22, 1, Reason::TxTimeExceeded)]
#[case::ipv4_ttl_0(V4, 22, 0, Reason::TxTimeExceeded)]
#[case::ipv6_version(V6, 14, 0x40, Reason::DropMalformed)]
#[case::ipv6_payload_length(V6, 19, 4, Reason::DropTruncated)]
#[case::ipv6_hop_limit(V6, 21, 1, Reason::TxTimeExceeded)]
fn bad_field_is_refused_under_its_reason(
    #[case] family: Family,
    #[case] at: usize,
    #[case] value: u8,
    #[case] reason: Reason,
) {
    let mut frame = Craft::udp(&family.from(7001), &family.service(), b"payload").bytes();
    frame[at] = value;
    assert_eq!(World::new().plane.run(&frame).reason, Some(reason));
}

#[rstest]
fn length_that_cannot_be_opens_no_flow(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let udp = Craft::udp(&family.from(7010), &family.service(), b"payload").bytes();
    let syn = Craft::tcp(&family.from(7011), &family.service(), SYN, 1, 0).bytes();
    let (length, doff) = (udp.len() - 7 - 4 + 1, syn.len() - 8);
    for (frame, at, value) in [(&udp, length, 7), (&udp, length, 16), (&syn, doff, 4 << 4), (&syn, doff, 6 << 4)] {
        let mut frame = frame.clone();
        frame[at] = value;
        assert_eq!(world.plane.run(&frame).reason, Some(Reason::DropMalformed), "{value:#x} at {at}");
    }
    assert_eq!(world.plane.flow_entries(family.vip == V6.vip), 0);
}

#[test]
fn malformed_frame_for_another_mac_passes() {
    let mut packet = Craft::udp(&V4.from(7012), &V4.service(), b"payload");
    packet.macs.0 = [2, 0, 0, 0, 9, 9];
    let mut frame = packet.bytes();
    frame[14] = 0x44;
    assert_eq!(World::new().plane.run(&frame).reason, Some(Reason::PassOtherMac));
}

#[rstest]
#[case::ours("192.0.2.10:9")]
#[case::loopback("127.0.0.1:9")]
#[case::zero("0.0.0.0:9")]
#[case::multicast("224.0.0.1:9")]
#[case::broadcast("255.255.255.255:9")]
fn source_that_cannot_be_is_refused(#[case] src: &str) {
    assert_eq!(World::new().reason(&Craft::udp(src, &V4.service(), b"x")), Reason::DropMartian);
}

#[test]
fn ipv6_fragments_of_nothing_and_routing_are_refused() {
    let mut world = World::new();
    let mut packet = Craft::udp(&V6.from(7002), &V6.service(), b"payload");
    for (header, reason) in [
        ((44, vec![0, 0, 0, 1, 0, 0, 0, 9]), Reason::DropMalformed),
        ((44, vec![0, 0, 0, 8, 0, 0, 0, 9]), Reason::DropFragment),
        ((43, vec![0, 0, 0, 1, 0, 0, 0, 0]), Reason::DropMalformed),
    ] {
        packet.extensions = vec![header];
        assert_eq!(world.reason(&packet), reason);
    }
    packet.extensions = vec![(44, vec![0, 0, 0, 0, 0, 0, 0, 9])];
    assert_eq!(world.forwards(&packet).extensions.len(), 1, "an atomic fragment is whole");
}

/// Random bytes over valid packets: whatever is sent out must go to a backend or, as a reply, to a client, with right
/// checksums if they were right before.
#[test]
fn mutated_packets_are_never_misdirected() {
    let mut world = World::new();
    let mut settings = world.plane.settings;
    settings.reset_unknown = 1;
    world.plane.configure(settings);
    world.handshake(V4, 7003);
    let packets = valid();
    let mut runner = TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
    let cell = std::cell::RefCell::new(world);
    let strategy = (0..packets.len(), proptest::collection::vec((0usize..90, any::<u8>()), 0..5), 0usize..30);
    runner
        .run(&strategy, |(which, changes, cut)| {
            let mut frame = packets[which].bytes();
            for (at, value) in changes {
                let len = frame.len();
                frame[at % len] = value;
            }
            frame.truncate((frame.len() - cut).max(14));
            let ran = cell.borrow_mut().plane.run(&frame);
            match ran.reason {
                Some(Reason::TxReset | Reason::TxEcho | Reason::TxTimeExceeded) => {}
                Some(_) => prop_assert!(matches!(ran.verdict, DROP | PASS)),
                None => {
                    let to = ran.packet[..5].to_vec();
                    prop_assert!(to == [2, 0, 0, 0, 1], "sent to {to:?}");
                }
            }
            if ran.verdict == PASS {
                prop_assert_eq!(ran.packet, frame);
            }
            Ok(())
        })
        .expect("no misdirected packet");
    let _ = ACK;
}
