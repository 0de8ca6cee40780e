//! Which backend gets a new flow.

use lb_common::abi::{Algorithm, NO_MEMBER, Reason};
use lb_common::wire::l4::{SYN, TCP};
use lb_tests::packet::craft::Craft;
use lb_tests::packet::plane::{Sizes, table};
use lb_tests::packet::world::{V4, V6, World, member_of};

#[test]
fn round_robin_two_members_alternate_exactly() {
    let mut world = World::with(&Sizes { max_flows: 1024, buckets: 512 }, Algorithm::RoundRobin);
    let mut counts = [0u32; 2];
    for port in 0..400 {
        counts[(member_of(&world.syn(V4, 10_000 + port, 1)) - 2) as usize] += 1;
        world.syn(V6, 10_000 + port, 1);
    }
    assert_eq!(counts, [200, 200]);
    assert_eq!((world.plane.stats(6).opened, world.plane.stats(7).opened), (200, 200));
}

#[test]
fn round_robin_retransmits_do_not_take_a_turn() {
    let mut world = World::with(&Sizes::default(), Algorithm::RoundRobin);
    let first = member_of(&world.syn(V4, 1, 1));
    world.syn(V4, 1, 1);
    world.syn(V4, 1, 1);
    assert_ne!(member_of(&world.syn(V4, 2, 1)), first);
}

#[test]
fn maglev_spreads_by_the_flow_and_keeps_to_it() {
    let mut counts = [0u32; 2];
    let mut where_to = Vec::new();
    for _ in 0..2 {
        let mut world = World::with(&Sizes { max_flows: 1024, buckets: 512 }, Algorithm::Maglev);
        for port in 0..400 {
            let member = member_of(&world.syn(V4, 10_000 + port, 1));
            counts[(member - 2) as usize] += 1;
            where_to.push(member);
        }
    }
    assert!(counts.iter().all(|n| (320..=480).contains(n)), "{counts:?}");
    assert_eq!(where_to[..400], where_to[400..], "same seed and table, same choice");
}

#[test]
fn table_without_backend_refuses_and_says_so() {
    let mut world = World::new();
    let syn = Craft::tcp(&V4.from(1), &V4.service(), SYN, 1, 0);
    world.plane.service(1, TCP, &V4.service(), Algorithm::Maglev, &[], 0);
    assert_eq!(world.reason(&syn), Reason::DropNoBackend);
    world.plane.service(1, TCP, &V4.service(), Algorithm::Maglev, &[NO_MEMBER], 0);
    assert_eq!(world.reason(&syn), Reason::DropNoBackend);
}

#[test]
fn table_swap_leaves_known_flows_where_they_are() {
    let mut world = World::new();
    let syn = world.handshake(V4, 1);
    let other = if member_of(&syn) == 2 { 3 } else { 2 };
    world.plane.service(1, TCP, &V4.service(), Algorithm::Maglev, &table(&[other], 8), 0);
    let data = world.forwards(&Craft::tcp(&V4.from(1), &V4.service(), lb_common::wire::l4::ACK, 101, 501));
    assert_eq!(member_of(&data), member_of(&syn));
    assert_eq!(member_of(&world.syn(V4, 2, 1)), other);
}
