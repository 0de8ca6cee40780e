//! `least-conn`: of two members the one with fewer active flows for its weight.

use lb_common::abi::Algorithm;
use lb_common::wire::l4::{ACK, FIN, RST, SYN, TCP};
use lb_tests::packet::craft::{Craft, L4};
use lb_tests::packet::plane::{Sizes, table};
use lb_tests::packet::world::{Family, V4, V6, World, answer, member_of};
use rstest::rstest;

fn world() -> World {
    World::with(&Sizes { max_flows: 1024, buckets: 512 }, Algorithm::LeastConn)
}

/// Ends the flow of a client's port by a reset of the client.
fn reset(world: &mut World, family: Family, port: u16) {
    world.forwards(&Craft::tcp(&family.from(port), &family.service(), RST | ACK, 101, 501));
}

#[rstest]
#[case(V4, [2, 3])]
#[case(V6, [6, 7])]
fn least_conn_flows_that_stay_at_one_member_send_new_ones_to_the_other(
    #[case] family: Family,
    #[case] members: [u32; 2],
) {
    let mut world = world();
    let flows: Vec<(u16, u32)> = (1..=40).map(|port| (port, member_of(&world.handshake(family, port)))).collect();
    assert_eq!(members.map(|id| world.active(id)), [20, 20], "equals take turns");
    // All flows of the second member end; those of the first stay.
    for (port, _) in flows.iter().filter(|(_, member)| *member == members[1]) {
        reset(&mut world, family, *port);
    }
    assert_eq!(members.map(|id| world.active(id)), [20, 0]);
    for port in 101..=120 {
        assert_eq!(member_of(&world.handshake(family, port)), members[1]);
    }
    assert_eq!(members.map(|id| world.active(id)), [20, 20]);
}

#[test]
fn least_conn_unequal_durations_keep_the_counts_level_where_round_robin_does_not() {
    let mut worst = [0; 2];
    for (i, algorithm) in [Algorithm::LeastConn, Algorithm::RoundRobin].into_iter().enumerate() {
        let mut world = World::with(&Sizes { max_flows: 1024, buckets: 512 }, algorithm);
        // The first member's flows last for ever, the second's for four new ones.
        let mut short = std::collections::VecDeque::new();
        for port in 1..=200 {
            if member_of(&world.handshake(V4, port)) == 3 {
                short.push_back(port);
            }
            if short.len() > 4 + usize::from(port) / 2 {
                reset(&mut world, V4, short.pop_front().expect("it is not empty"));
            }
            if port % 2 == 0 && short.len() > 4 {
                reset(&mut world, V4, short.pop_front().expect("it is not empty"));
            }
        }
        worst[i] = world.active(2).abs_diff(world.active(3));
    }
    assert!(worst[0] <= 2 && worst[1] >= 80, "{worst:?}");
}

#[test]
fn least_conn_counts_are_for_the_weight() {
    // The table has both alike, so that the comparison alone tells the weights.
    let mut world = world();
    world.plane.amend(2, |member| member.weight = 768);
    for port in 1..=80 {
        world.handshake(V4, port);
    }
    assert_eq!([world.active(2), world.active(3)], [60, 20]);
    world.plane.amend(2, |member| member.weight = 256);
    for port in 81..=100 {
        assert_eq!(member_of(&world.handshake(V4, port)), 3);
    }
}

#[test]
fn least_conn_three_members_compares_two_different_ones() {
    let mut world = world();
    world.plane.member(8, 1, "10.0.0.3:8080", 1);
    world.plane.service(1, TCP, &V4.service(), Algorithm::LeastConn, &table(&[2, 3, 8], 3), 0);
    // Member 2 carries so much that any comparison turns it down.
    world.plane.array::<u64>(lb_common::abi::maps::ACTIVE).set(2, 1000, 0).expect("ACTIVE");
    for port in 1..=60 {
        assert_ne!(member_of(&world.syn(V4, port, 1)), 2);
    }
    assert!((25..=35).contains(&world.active(3)), "{}", world.active(3));
}

#[test]
fn least_conn_table_of_one_member_takes_it() {
    let mut world = world();
    world.plane.service(1, TCP, &V4.service(), Algorithm::LeastConn, &[3], 0);
    assert_eq!(member_of(&world.syn(V4, 1, 1)), 3);
}

#[test]
fn active_word_follows_every_way_a_flow_ends() {
    let mut world = World::with(&Sizes { max_flows: 64, buckets: 1 }, Algorithm::LeastConn);
    // Overwritten while half-open: five into four slots.
    for port in 1..=5 {
        world.syn(V4, port, 1);
    }
    assert_eq!(world.active(2) + world.active(3), 4);
    // Refused by the backend.
    let syn = world.syn(V4, 6, 1);
    let before = world.active(2) + world.active(3);
    world.forwards(&answer(&syn, L4::Tcp { seq: 0, ack: 2, flags: RST | ACK }, b""));
    assert_eq!(world.active(2) + world.active(3), before - 1);
    // Closed by both sides.
    let syn = world.handshake(V4, 7);
    let before = world.active(2) + world.active(3);
    world.forwards(&Craft::tcp(&V4.from(7), &V4.service(), FIN | ACK, 101, 501));
    world.forwards(&answer(&syn, L4::Tcp { seq: 501, ack: 102, flags: FIN | ACK }, b""));
    assert_eq!(world.active(2) + world.active(3), before - 1);
    // A new attempt on the closed tuple.
    world.forwards(&Craft::tcp(&V4.from(7), &V4.service(), SYN, 9000, 0));
    assert_eq!(world.active(2) + world.active(3), before);
}
