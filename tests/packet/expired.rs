//! A TTL or hop limit that ends at the edge.

use lb_common::abi::{Called, Reason};
use lb_common::wire::l4::{ACK, FIN, SYN};
use lb_tests::packet::craft::{CLIENT_MAC, Craft, EDGE_MAC, L4};
use lb_tests::packet::plane::{DROP, TX};
use lb_tests::packet::world::{Family, V4, V6, World, answer};
use rstest::rstest;

fn is_v4(family: Family) -> bool {
    family.vip == V4.vip
}

/// Runs a packet that must be answered, and checks the answer.
#[track_caller]
fn answered(world: &mut World, frame: &[u8], packet: &Craft) {
    let ran = world.plane.run(frame);
    assert_eq!((ran.verdict, ran.reason), (TX, Some(Reason::TxTimeExceeded)), "{packet:?}");
    let error = Craft::read(&ran.packet);
    assert_eq!((error.macs, &error.tags), ((packet.macs.1, EDGE_MAC), &packet.tags));
    assert_eq!((error.src.ip(), error.dst.ip(), error.ttl), (packet.dst.ip(), packet.src.ip(), 64));
    let kind = if packet.src.is_ipv4() { 11 } else { 3 };
    assert_eq!(error.l4, L4::Icmp { kind, code: 0, rest: 0 });
    let l3 = 14 + 4 * packet.tags.len();
    let sent = &packet.bytes()[l3..];
    assert_eq!(error.payload, sent[..sent.len().min(128) & !3], "its beginning, as it came");
    assert_eq!(ran.packet.len(), l3 + if packet.src.is_ipv4() { 28 } else { 48 } + error.payload.len(), "no padding");
}

#[rstest]
fn packet_whose_ttl_ends_here_is_answered(
    #[values(V4, V6)] family: Family,
    #[values(vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 7)])] tags: Vec<(u16, u16)>,
    #[values(0, 1)] ttl: u8,
) {
    let mut world = World::new();
    for len in [0, 1, 2, 3, 31, 88, 200, 1400] {
        let mut datagram = Craft::udp(&family.from(1), &family.service(), &vec![0x5a; len]);
        (datagram.ttl, datagram.tags) = (ttl, tags.clone());
        answered(&mut world, &datagram.bytes(), &datagram);
        let mut padded = datagram.bytes();
        padded.extend([0xee; 30]);
        answered(&mut world, &padded, &datagram);
    }
    let mut syn = Craft::tcp(&family.from(1), &family.service(), SYN, 1, 0);
    (syn.ttl, syn.tags) = (ttl, tags);
    answered(&mut world, &syn.bytes(), &syn);
    if is_v4(family) {
        syn.options = vec![1; 12];
    } else {
        syn.extensions = vec![(60, vec![0; 8])];
    }
    answered(&mut world, &syn.bytes(), &syn);
    assert_eq!(world.plane.flow_entries(!is_v4(family)), 0, "it opened nothing");
}

#[rstest]
fn packet_of_a_known_flow_is_answered_in_both_directions(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let syn = world.handshake(family, 40000);
    for flags in [ACK, FIN | ACK] {
        let mut data = Craft::tcp(&family.from(40000), &family.service(), flags, 101, 501);
        data.ttl = 1;
        answered(&mut world, &data.bytes(), &data);
        let mut reply = answer(&syn, L4::Tcp { seq: 501, ack: 101, flags }, b"x");
        reply.ttl = 1;
        answered(&mut world, &reply.bytes(), &reply);
    }
    // None of it reached the other side, so none of it ended the flow.
    world.forwards(&Craft::tcp(&family.from(40000), &family.service(), ACK, 101, 501));
    assert_eq!(world.packets(lb_tests::packet::world::member_of(&syn)).0, 3);
}

#[rstest]
fn answers_are_bounded_and_the_rest_is_dropped_for_its_service(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    // One tick in which nothing comes back: a second that no test outlives.
    let mut settings = world.plane.settings;
    settings.hz = 1 << 30;
    world.plane.configure(settings);
    let mut datagram = Craft::udp(&family.from(1), &family.service(), b"x");
    datagram.ttl = 1;
    let frame = datagram.bytes();
    let mut verdicts = (0, 0);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..100 * cpus + 50 {
        match world.plane.run(&frame).reason {
            Some(Reason::TxTimeExceeded) => verdicts.0 += 1,
            Some(Reason::DropTtl) => verdicts.1 += 1,
            other => panic!("{other:?}"),
        }
    }
    // A hundred on each CPU that the test ran on.
    assert!(verdicts.0 >= 100 && verdicts.0 % 100 <= 1 && verdicts.1 >= 50, "{verdicts:?}");
    let service = if is_v4(family) { 2 } else { 4 };
    assert_eq!(world.plane.drops(service, Reason::DropTtl), verdicts.1);
}

#[rstest]
fn packet_that_nobody_can_be_told_of_gets_no_answer(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let from = if is_v4(family) { "224.0.0.1:9" } else { "[ff02::1]:9" };
    let mut datagram = Craft::udp(from, &family.service(), b"x");
    datagram.ttl = 1;
    assert_eq!(world.reason(&datagram), Reason::DropTtl);
    datagram = Craft::udp(&family.from(1), &family.service(), b"x");
    datagram.ttl = 1;
    world.plane.uninstall(Called::Expired);
    let ran = world.plane.run(&datagram.bytes());
    assert_eq!((ran.verdict, ran.reason), (DROP, Some(Reason::DropNoProgram)));
}

/// What is the host's ends at the host, whatever its TTL.
#[rstest]
fn packet_for_no_service_passes_with_any_ttl(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let mut datagram = Craft::udp(&family.from(1), &format!("{}:33434", family.vip), b"x");
    datagram.ttl = 1;
    assert_eq!(datagram.macs, (EDGE_MAC, CLIENT_MAC));
    assert_eq!(world.reason(&datagram), Reason::PassNoService);
}
