//! Bounded state: buckets, ports, records, and their collection.

use lb_common::abi::{Algorithm, Hop, Member, Reason};
use lb_common::wire::l4::{ACK, FIN, SYN};
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::Sizes;
use lb_tests::packet::world::{Family, V4, V6, World, answer, member_of};
use rstest::rstest;

#[rstest]
#[case(V4, false)]
#[case(V6, true)]
fn half_open_newcomer_overwrites_the_oldest_and_frees_what_it_owned(#[case] family: Family, #[case] v6: bool) {
    let mut world = World::with(&Sizes { max_flows: 16, buckets: 1 }, Algorithm::RoundRobin);
    for port in 0..100 {
        world.syn(family, 10_000 + port, 1);
    }
    assert_eq!(world.plane.flow_entries(v6), 4, "one reverse entry for each slot");
    let members = if v6 { [6, 7] } else { [2, 3] };
    let stats: Vec<_> = members.iter().map(|m| world.plane.stats(*m)).collect();
    assert_eq!(stats.iter().map(|s| s.overwritten).sum::<u64>(), 96);
    assert_eq!(stats.iter().map(|s| s.unanswered).sum::<u64>(), 96);
    assert_eq!(stats.iter().map(|s| s.opened - s.closed).sum::<u64>(), 4);
}

#[test]
fn established_flow_survives_a_flood_of_syns() {
    let mut world = World::with(&Sizes { max_flows: 16, buckets: 1 }, Algorithm::RoundRobin);
    let syn = world.handshake(V4, 1);
    for port in 0..500 {
        world.syn(V4, 10_000 + port, 1);
    }
    let data = world.forwards(&Craft::tcp(&V4.from(1), &V4.service(), ACK, 101, 501));
    assert_eq!((data.src, data.dst), (syn.src, syn.dst));
}

#[test]
fn flow_limit_refuses_the_newest_and_keeps_the_others() {
    let mut world = World::with(&Sizes { max_flows: 3, buckets: 64 }, Algorithm::RoundRobin);
    for port in 1..=3 {
        world.handshake(V4, port);
    }
    let syn = world.syn(V4, 4, 100);
    world.forwards(&answer(&syn, L4::Tcp { seq: 500, ack: 101, flags: SYN | ACK }, b""));
    let ack = Craft::tcp(&V4.from(4), &V4.service(), ACK, 101, 501);
    assert_eq!(world.reason(&ack), Reason::DropFlowsFull);
    world.forwards(&Craft::tcp(&V4.from(1), &V4.service(), ACK, 101, 501));
    world.handshake(V6, 1);
}

#[test]
fn source_ports_run_out_per_backend_and_are_counted() {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 64 }, Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    settings.port_count = 2;
    world.plane.configure(settings);
    let mut sources = Vec::new();
    for port in 0..4 {
        let syn = world.syn(V4, 100 + port, 1);
        sources.push((syn.src, syn.dst));
    }
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 4, "two ports towards each of two backends, none twice");
    let syn = Craft::tcp(&V4.from(200), &V4.service(), SYN, 1, 0);
    assert_eq!(world.reason(&syn), Reason::DropPortsExhausted);
    assert_eq!(world.plane.stats(2).ports_exhausted + world.plane.stats(3).ports_exhausted, 1);
}

#[test]
fn source_port_is_reused_as_late_as_possible() {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 1024 }, Algorithm::Maglev);
    world.plane.service(1, 6, &V4.service(), Algorithm::Maglev, &[2], 0);
    let ports: Vec<u16> = (0..900).map(|i| world.syn(V4, 10_000 + i, 1).src.port()).collect();
    let expected: Vec<u16> = (2000..2900).collect();
    assert_eq!(ports, expected);
}

#[rstest]
#[case(V4, false)]
#[case(V6, true)]
fn collection_frees_what_is_idle_and_only_that(#[case] family: Family, #[case] v6: bool) {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 64 }, Algorithm::RoundRobin);
    let closed = world.handshake(family, 1);
    world.forwards(&Craft::tcp(&family.from(1), &family.service(), FIN | ACK, 101, 501));
    world.forwards(&answer(&closed, L4::Tcp { seq: 501, ack: 102, flags: FIN | ACK }, b""));
    let alive = world.handshake(family, 2);
    let clock = world.plane.collect(64);
    assert_eq!((clock.kept[usize::from(v6)], clock.freed), (2, 0));
    let mut settings = world.plane.settings;
    settings.closed = 0;
    world.plane.configure(settings);
    let clock = collect_until(&mut world, |kept| kept == 1, v6);
    assert_eq!(clock, 1);
    assert_eq!(world.plane.flow_entries(v6), 2, "both directions of the living one");
    let data = world.forwards(&Craft::tcp(&family.from(2), &family.service(), ACK, 101, 501));
    assert_eq!((data.src, data.dst), (alive.src, alive.dst));
    assert_eq!(world.active(member_of(&alive)), 1);
    settings.established = 0;
    world.plane.configure(settings);
    assert_eq!(collect_until(&mut world, |kept| kept == 0, v6), 0);
    assert_eq!(world.plane.flow_entries(v6), 0);
    assert_eq!(world.active(member_of(&alive)), 0, "given up as idle");
}

#[test]
fn collection_rests_the_port_of_a_flow_that_the_backend_closed_first() {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 64 }, Algorithm::RoundRobin);
    let syn = world.handshake(V4, 1);
    world.forwards(&answer(&syn, L4::Tcp { seq: 501, ack: 101, flags: FIN | ACK }, b""));
    world.forwards(&Craft::tcp(&V4.from(1), &V4.service(), FIN | ACK, 101, 502));
    let mut settings = world.plane.settings;
    settings.closed = 0;
    world.plane.configure(settings);
    wait_a_jiffy(&mut world);
    assert_eq!(world.plane.collect(64).kept[0], 1, "TIME_WAIT at the backend");
    settings.time_wait = 0;
    world.plane.configure(settings);
    assert_eq!(collect_until(&mut world, |kept| kept == 0, false), 0);
}

#[rstest]
#[case(V4, false)]
#[case(V6, true)]
fn collection_ends_the_flows_of_a_member_that_is_closed_and_both_ends_are_reset(
    #[case] family: Family,
    #[case] v6: bool,
) {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 64 }, Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    settings.reset_unknown = 1;
    world.plane.configure(settings);
    let (one, other) = (world.handshake(family, 1), world.handshake(family, 2));
    let (shut, open) = (member_of(&one), member_of(&other));
    assert_ne!(shut, open);
    let mut members = world.plane.array::<Member>("MEMBERS");
    let before = members.get(&shut, 0).expect("an index of the array");
    members.set(shut, Member { hop: Hop::closed(), ..before }, 0).expect("an index of the array");
    let data = |port| Craft::tcp(&family.from(port), &family.service(), ACK, 101, 501);
    assert_eq!(world.reason(&data(1)), Reason::DropNoNextHop, "nothing reaches it");
    assert_eq!(collect_until(&mut world, |kept| kept == 1, v6), 1);
    assert_eq!((world.active(shut), world.active(open)), (0, 1));
    assert_eq!(world.reason(&data(1)), Reason::TxReset, "the client learns of it");
    let late = answer(&one, L4::Tcp { seq: 501, ack: 101, flags: ACK }, b"");
    assert_eq!(world.reason(&late), Reason::TxReset, "the backend learns of it");
    world.forwards(&data(2));
}

#[test]
fn collection_frees_half_open_flows_after_their_time() {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 64 }, Algorithm::RoundRobin);
    world.syn(V4, 1, 1);
    world.syn(V6, 1, 1);
    world.plane.collect(64);
    assert_eq!((world.plane.flow_entries(false), world.plane.flow_entries(true)), (1, 1));
    let mut settings = world.plane.settings;
    settings.half_open = 0;
    world.plane.configure(settings);
    wait_a_jiffy(&mut world);
    world.plane.collect(64);
    assert_eq!((world.plane.flow_entries(false), world.plane.flow_entries(true)), (0, 0));
    assert_eq!(world.active(2) + world.active(3) + world.active(6) + world.active(7), 0);
}

#[test]
fn new_flows_collect_without_the_collector() {
    let mut world = World::with(&Sizes { max_flows: 8, buckets: 64 }, Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    settings.established = 0;
    for port in 1..=8 {
        world.handshake(V4, port);
    }
    world.plane.configure(settings);
    wait_a_jiffy(&mut world);
    for port in 100..120 {
        world.syn(V4, port, 1);
    }
    world.handshake(V4, 200);
}

/// Lets jiffies advance by at least two, as `collect` sees them.
fn wait_a_jiffy(world: &mut World) {
    let start = world.plane.collect(1).jiffies;
    while world.plane.collect(1).jiffies < start + 2 {}
}

/// Collects until the records kept satisfy `done`, at most for the time of a few jiffies; yields their number.
fn collect_until(world: &mut World, done: impl Fn(u64) -> bool, v6: bool) -> u64 {
    wait_a_jiffy(world);
    let mut kept = 0;
    for _ in 0..100 {
        kept = world.plane.collect(64).kept[usize::from(v6)];
        if done(kept) {
            break;
        }
    }
    kept
}
