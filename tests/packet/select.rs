//! Which backend gets a new flow.

use lb_common::abi::{Addr4, Algorithm, Bucket, Hop, NO_MEMBER, Reason, Settings, Slot, maps};
use lb_common::wire::l4::{SYN, TCP};
use lb_tests::packet::craft::Craft;
use lb_tests::packet::plane::{Sizes, table};
use lb_tests::packet::world::{Family, V4, V6, World, member_of};
use rstest::rstest;

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

/// Overwrites the owner word of every half-open IPv4 slot.
fn owners(world: &mut World, owner: impl Fn(u64) -> u64) {
    let mut buckets = world.plane.array::<Bucket<Addr4>>(maps::HALF_OPEN4);
    for index in 0..buckets.len() {
        let mut bucket = buckets.get(&index, 0).expect("a bucket");
        bucket.slots.iter_mut().for_each(|slot| slot.owner = owner(slot.owner));
        buckets.set(index, bucket, 0).expect("HALF_OPEN4");
    }
}

#[test]
fn round_robin_flow_that_is_refused_before_a_member_is_chosen_takes_no_turn() {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 64 }, Algorithm::RoundRobin);
    let good = world.plane.settings;
    let mut turns = Vec::new();
    for port in 0..20 {
        let mut syn = Craft::tcp(&V4.from(100 + port), &V4.service(), SYN, 1, 0);
        turns.push(member_of(&world.forwards(&syn)));
        // One refusal each time: two would give the turn back.
        syn = Craft::tcp(&V4.from(200 + port), &V4.service(), SYN, 1, 0);
        match port % 3 {
            0 => {
                // Nobody's way back.
                syn.macs.1 = [3, 0, 0, 0, 0, 1];
                assert_eq!(world.reason(&syn), Reason::DropMartian);
            }
            1 => {
                world.plane.configure(Settings { pool4_len: 0, ..good });
                assert_eq!(world.reason(&syn), Reason::DropNoSource);
                world.plane.configure(good);
            }
            _ => {
                // As if another CPU were changing each slot.
                owners(&mut world, |owner| owner << 2 | Slot::<Addr4>::BUSY);
                assert_eq!(world.reason(&syn), Reason::DropBusy);
                owners(&mut world, |owner| owner >> 2);
            }
        }
    }
    let expected: Vec<u32> = (0..20).map(|i| turns[i % 2]).collect();
    assert_eq!(turns, expected);
    assert_ne!(turns[0], turns[1]);
    assert_eq!((world.plane.stats(2).opened, world.plane.stats(3).opened), (10, 10));
}

#[test]
fn round_robin_member_that_cannot_take_its_turn_does_not_hold_up_the_others() {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 1 }, Algorithm::RoundRobin);
    world.plane.member_via(3, 1, &format!("{}:8080", V4.backends[1]), Hop::default());
    let mut turns = Vec::new();
    for port in 0..8 {
        let syn = Craft::tcp(&V4.from(100 + port), &V4.service(), SYN, 1, 0);
        let ran = world.plane.run(&syn.bytes());
        turns.push(ran.reason);
    }
    let (opened, refused) = (None, Some(Reason::DropNoNextHop));
    assert_eq!(turns, [opened, refused].repeat(4));
    // Refused flows took none of the four slots from those that were there.
    let ledger = world.plane.ledger(false);
    assert_eq!((ledger.live_slots, ledger.records, ledger.busy_slots), (4, 4, 0), "{ledger:?}");
    assert_eq!(world.plane.stats(2).overwritten, 0);
}

#[rstest]
#[case(V4, false, [2, 3])]
#[case(V6, true, [6, 7])]
fn refused_flow_leaves_a_full_bucket_as_it_was(#[case] family: Family, #[case] v6: bool, #[case] members: [u32; 2]) {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 1 }, Algorithm::RoundRobin);
    let mut settings = world.plane.settings;
    settings.port_count = 2;
    world.plane.configure(settings);
    let first: Vec<Craft> = (1..=4).map(|port| world.syn(family, port, 1)).collect();
    for port in 11..=14 {
        let syn = Craft::tcp(&family.from(port), &family.service(), SYN, 1, 0);
        assert_eq!(world.reason(&syn), Reason::DropPortsExhausted);
    }
    let again: Vec<Craft> = (1..=4).map(|port| world.syn(family, port, 1)).collect();
    assert_eq!(again, first, "retransmissions of the four that were there");
    let ledger = world.plane.ledger(v6);
    assert_eq!((ledger.live_slots, ledger.records, ledger.active, ledger.busy_slots), (4, 4, 4, 0), "{ledger:?}");
    let stats = members.map(|member| world.plane.stats(member));
    assert_eq!(stats.map(|s| (s.opened, s.closed, s.overwritten, s.ports_exhausted)), [(2, 0, 0, 2); 2]);
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
