//! Echo requests: a VIP answers from XDP, all other ICMP is the host's.

use lb_common::abi::{Called, LocalKind, Reason};
use lb_tests::packet::craft::{CLIENT_MAC, Craft, EDGE_MAC, L4};
use lb_tests::packet::plane::{DROP, PASS, TX};
use lb_tests::packet::world::{Family, V4, V6, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rstest::rstest;

/// Types of echo request and reply.
fn types(family: Family) -> (u8, u8) {
    if family.vip == V4.vip { (8, 0) } else { (128, 129) }
}

fn ping(family: Family, to: &str, payload: &[u8]) -> Craft {
    Craft::icmp(&family.from(1), &format!("{to}:1"), types(family).0, 0, 0x1234_0001, payload)
}

#[track_caller]
fn passes(world: &mut World, frame: &[u8], reason: Reason) {
    let ran = world.plane.run(frame);
    assert_eq!((ran.verdict, ran.reason), (PASS, Some(reason)));
    assert_eq!(ran.packet, frame, "untouched");
}

#[rstest]
fn echo_to_a_vip_is_answered(
    #[values(V4, V6)] family: Family,
    #[values(vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 7)])] tags: Vec<(u16, u16)>,
    #[values(0, 1, 56, 1400)] len: usize,
    #[values(0, 26)] padding: usize,
) {
    let mut world = World::new();
    let mut request = ping(family, family.vip, &vec![0xa5; len]);
    (request.tags, request.ttl) = (tags.clone(), 1);
    let mut frame = request.bytes();
    frame.extend(vec![0xee; padding]);
    let ran = world.plane.run(&frame);
    assert_eq!((ran.verdict, ran.reason), (TX, Some(Reason::TxEcho)));
    let answer = Craft::read(&ran.packet);
    assert_eq!(answer.macs, (CLIENT_MAC, EDGE_MAC));
    assert_eq!((answer.src, answer.dst), (request.dst, request.src));
    assert_eq!((answer.ttl, &answer.tags, &answer.payload), (64, &tags, &request.payload));
    assert_eq!(answer.l4, L4::Icmp { kind: types(family).1, code: 0, rest: 0x1234_0001 });
}

#[rstest]
fn checksum_of_an_answer_is_right_whatever_was_sent(#[values(V4, V6)] family: Family) {
    let world = std::cell::RefCell::new(World::new());
    let mut runner = TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
    let echo = (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..70), 1u8..=255);
    let run = runner.run(&echo, |(rest, payload, ttl)| {
        let mut request =
            Craft::icmp(&family.from(1), &format!("{}:1", family.vip), types(family).0, 0, rest, &payload);
        request.ttl = ttl;
        let ran = world.borrow_mut().plane.run(&request.bytes());
        prop_assert_eq!(ran.reason, Some(Reason::TxEcho));
        prop_assert_eq!(Craft::read(&ran.packet).payload, payload);
        Ok(())
    });
    run.expect("every answer is one that a receiver accepts");
}

#[rstest]
fn icmp_that_is_the_hosts_passes(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let (request, reply) = types(family);
    passes(&mut world, &ping(family, family.pool, b"x").bytes(), Reason::PassOtherProtocol);
    passes(
        &mut world,
        &ping(family, if request == 8 { "203.0.113.1" } else { "[2001:db8::1]" }, b"x").bytes(),
        Reason::PassNotOurs,
    );
    // Answers, redirects, time stamps, neighbour and router discovery.
    let others: &[u8] =
        if request == 8 { &[reply, 5, 9, 10, 13, 17, 30] } else { &[reply, 130, 133, 134, 135, 136, 137] };
    for kind in others {
        for to in [family.vip, family.pool] {
            let message = Craft::icmp(&family.from(1), &format!("{to}:1"), *kind, 0, 0, &[0; 24]);
            passes(&mut world, &message.bytes(), Reason::PassOtherProtocol);
        }
    }
    let mut stray = ping(family, family.vip, b"x");
    stray.macs.0 = [2, 0, 0, 0, 9, 9];
    passes(&mut world, &stray.bytes(), Reason::PassOtherMac);
}

#[test]
fn echo_with_options_or_extension_headers_is_the_hosts() {
    let mut world = World::new();
    let mut request = ping(V4, V4.vip, b"x");
    // Record route, which an answer would have to continue.
    request.options = vec![7, 7, 4, 0, 0, 0, 0, 1];
    passes(&mut world, &request.bytes(), Reason::PassOtherProtocol);
    let mut request = ping(V6, V6.vip, b"x");
    request.extensions = vec![(60, vec![0; 8])];
    passes(&mut world, &request.bytes(), Reason::PassOtherProtocol);
}

#[rstest]
fn echo_that_is_cut_or_from_nobody_is_dropped(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let whole = ping(family, family.vip, b"payload").bytes();
    let header = if family.vip == V4.vip { 34 } else { 54 };
    for n in header..whole.len() {
        let ran = world.plane.run(&whole[..n]);
        assert_eq!((ran.verdict, ran.reason), (DROP, Some(Reason::DropTruncated)), "at {n}");
    }
    for from in [family.vip, family.pool, if header == 34 { "224.0.0.1" } else { "[ff02::1]" }] {
        let request = Craft::icmp(&format!("{from}:1"), &format!("{}:1", family.vip), types(family).0, 0, 0, b"x");
        assert_eq!(world.reason(&request), Reason::DropMartian, "{from}");
    }
}

/// The bitmap may err towards yes: then the exact look-up decides.
#[rstest]
fn echo_to_an_address_that_only_looks_like_ours_passes(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    let other = if family.vip == V4.vip { "203.0.113.1" } else { "[2001:db8::1]" };
    world.plane.local(other.trim_matches(['[', ']']).parse().expect("an address"), 0);
    passes(&mut world, &ping(family, other, b"x").bytes(), Reason::PassNotOurs);
}

#[rstest]
fn echo_to_an_address_that_is_both_vip_and_source_is_answered(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    world.plane.local(family.pool.trim_matches(['[', ']']).parse().expect("an address"), LocalKind::VIP);
    assert_eq!(world.reason(&ping(family, family.pool, b"x")), Reason::TxEcho);
}

#[rstest]
fn icmp_without_its_program_is_the_hosts(#[values(V4, V6)] family: Family) {
    let mut world = World::new();
    world.plane.uninstall(Called::Icmp);
    passes(&mut world, &ping(family, family.vip, b"x").bytes(), Reason::PassNoProgram);
}
