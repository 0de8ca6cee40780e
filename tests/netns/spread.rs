//! Who gets how much.

use std::thread::available_parallelism;

use lb_tests::testbed::bed::{FAMILIES, Family, Shape};
use lb_tests::testbed::load::{Load, Tally};

use crate::stage::{Stage, assert_no_failures};

/// Clients of all addresses on two hosts and on every CPU there is.
#[track_caller]
fn spread(stage: &Stage, family: Family, connections: u64) -> Tally {
    let cpus = available_parallelism().map_or(1, usize::from);
    let loads: Vec<Load> = (0..2)
        .map(|client: u8| {
            let mut plan = stage.plan(family, client);
            plan.limit = Some(connections / 2);
            plan.workers = 8;
            plan.cpu = Some(usize::from(client) % cpus);
            Load::start(&stage.bed.clients[usize::from(client)], plan)
        })
        .collect();
    let mut sum = Tally::default();
    loads.into_iter().for_each(|load| sum.add(&load.wait()));
    assert_no_failures(&sum);
    assert_eq!(sum.connections, connections);
    sum
}

#[test]
fn round_robin_over_two_equal_backends_splits_ten_thousand_in_half() {
    let mut stage = Stage::new(Shape::TwoArm, 2, "round-robin");
    for family in FAMILIES {
        let tally = spread(&stage, family, 10_000);
        let share = tally.share("b1");
        assert!((0.495..=0.505).contains(&share), "b1 got {share}: {:?}", tally.backends);
    }
    stage.settled();
}

#[test]
fn weights_hold_within_two_percent() {
    for algorithm in ["maglev", "round-robin"] {
        let mut stage = Stage::with(Shape::TwoArm, 3, algorithm, |configuration| {
            for service in &mut configuration.services {
                for (weight, member) in (1..).zip(&mut service.members) {
                    member.1 = weight;
                }
            }
        });
        let tally = spread(&stage, Family::V4, 6_000);
        for (weight, backend) in [(1.0, "b1"), (2.0, "b2"), (3.0, "b3")] {
            let (share, wanted) = (tally.share(backend), weight / 6.0);
            assert!((share - wanted).abs() <= 0.02, "{algorithm}: {backend} got {share}, not {wanted}");
        }
        stage.settled();
    }
}
