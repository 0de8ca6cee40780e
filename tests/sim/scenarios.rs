//! Scripted stories: one requirement each.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rollcall::config::model::{Algorithm, ServiceName};
use rollcall::core::api::{EventKind, Health};
use rollcall::core::kernel::KernelState;
use rollcall::core::reason::ReasonKind;

use crate::configs::{config, port, probe, service};
use crate::world::{Faults, World};

pub const SECOND: Duration = Duration::from_secs(1);

pub fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

pub fn all_in(world: &World) -> bool {
    world.settled() && world.members().iter().all(|m| m.in_rotation)
}

/// A world with `members` backends in rotation.
pub fn running(members: u8) -> World {
    let mut world = World::new(1, 16384);
    world.start(Arc::new(config(vec![service(members)])), false);
    world.run_until(SECOND, all_in);
    world
}

pub fn rotation(world: &World) -> Vec<bool> {
    world.members().iter().map(|m| m.in_rotation).collect()
}

#[test]
fn cold_start_first_result_decides_within_a_second() {
    let mut world = World::new(1, 16384);
    world.dead.insert(ip(2));
    world.start(Arc::new(config(vec![service(3)])), false);
    world.run(SECOND);
    assert!(world.settled());
    assert_eq!(rotation(&world), [true, false, true]);
    let out = &world.members()[1];
    assert_eq!((out.health, out.reasons[0].kind), (Health::Down, ReasonKind::ProbeFailed));
    assert!(out.reasons[0].cause.contains("connection refused"), "{}", out.reasons[0].cause);
    assert_eq!(out.reasons[0].owner.as_deref(), Some("web-team"));
    assert_eq!(world.seen(EventKind::EdgeSuspected), 0);
}

#[test]
fn cold_start_without_results_serves_unverified_after_the_grace() {
    let mut world = World::new(1, 16384);
    world.faults = Faults { lost: 100, ..Faults::default() };
    let mut slow = service(2);
    slow.probe.as_mut().unwrap().timeout = Duration::from_secs(4);
    slow.probe.as_mut().unwrap().interval = Duration::from_secs(4);
    world.start(Arc::new(config(vec![slow])), false);
    // The prober's silence is itself a failure after timeout and slack: 5 s, before this grace of 8 s.
    world.run(Duration::from_millis(4_900));
    assert_eq!(rotation(&world), [false, false]);
    assert_eq!(world.members()[0].reasons[0].kind, ReasonKind::NotYetProbed);
    let mut world = World::new(1, 16384);
    world.faults = Faults { lost: 100, ..Faults::default() };
    let mut quick = service(2);
    quick.probe.as_mut().unwrap().timeout = Duration::from_millis(2500);
    quick.probe.as_mut().unwrap().interval = Duration::from_millis(500);
    world.start(Arc::new(config(vec![quick])), false);
    world.run(Duration::from_millis(3_300));
    assert_eq!(rotation(&world), [true, true]);
    let member = &world.members()[0];
    assert_eq!((member.health, member.reasons[0].kind), (Health::Unknown, ReasonKind::Unverified));
    assert_eq!(world.seen(EventKind::Unverified), 2);
}

#[test]
fn backend_killed_leaves_within_fall_and_one_interval_and_returns() {
    let mut world = running(4);
    world.run(Duration::from_secs(30));
    world.dead.insert(ip(3));
    let took = world.run_until(Duration::from_secs(8), |w| w.settled() && !w.members()[2].in_rotation);
    assert!(took > Duration::from_secs(3), "{took:?}: before three failures in a row");
    let since = world.members()[2].reasons[0].since;
    world.run(Duration::from_secs(20));
    let reason = world.members()[2].reasons[0].clone();
    assert_eq!((reason.since, reason.review_at), (since, Some(since + Duration::from_secs(600))));
    world.dead.clear();
    world.run_until(Duration::from_secs(5), all_in);
    assert!(world.members()[2].reasons.is_empty());
    assert_eq!((world.seen(EventKind::OutOfRotation), world.seen(EventKind::Down)), (1, 1));
}

#[test]
fn wall_clock_set_by_a_year_changes_no_duration_that_people_see() {
    let mut world = running(2);
    world.dead.insert(ip(1));
    world.run_until(Duration::from_secs(10), |w| w.settled() && !w.members()[0].in_rotation);
    let before = world.members()[0].clone();
    for jump in [365 * 86_400_000, -2 * 365 * 86_400_000] {
        world.now.wall_ms += jump;
        // The stories' own record of reasons is by the former clock.
        world.reasons.clear();
        world.run(Duration::from_secs(0));
        let call = world.core.roll_call(world.now);
        let out = &call.services[0].members[0];
        let ago = |at: rollcall::core::api::Time| call.time.wall_ms - at.wall_ms;
        assert_eq!(ago(out.since) as u64, call.time.boot_ms - before.since.boot_ms);
        assert_eq!(ago(out.reasons[0].since), ago(out.since) + before.since.wall_ms - before.reasons[0].since.wall_ms);
        assert_eq!(out.reasons[0].review_at, Some(out.reasons[0].since + Duration::from_secs(600)));
        assert!(ago(out.last_probe.as_ref().unwrap().time) < 4000);
    }
}

#[test]
fn next_hop_lost_takes_out_at_once_and_flows_keep_the_old_one() {
    let mut world = running(2);
    let before = world.kernel.read_state();
    world.set_hop(ip(1), false);
    world.run(Duration::from_millis(100));
    assert_eq!(rotation(&world), [false, true]);
    assert_eq!(world.members()[0].reasons[0].kind, ReasonKind::NoNextHop);
    let hops = |state: &KernelState| state.members.values().map(|m| (m.addr, m.hop)).collect::<Vec<_>>();
    assert_eq!(hops(&world.kernel.read_state()), hops(&before));
    world.set_hop(ip(2), false);
    world.run(Duration::from_millis(100));
    assert_eq!(world.kernel.read_state().tables[&0].descriptor.size(), 0, "refuses new flows");
    world.set_hop(ip(1), true);
    world.set_hop(ip(2), true);
    world.run(Duration::from_millis(100));
    assert!(all_in(&world));
}

#[test]
fn arena_too_small_keeps_the_old_table_and_says_so_once() {
    let mut world = World::new(1, 1500);
    let mut maglev = service(3);
    maglev.algorithm = Algorithm::Maglev;
    world.start(Arc::new(config(vec![maglev.clone()])), false);
    world.run(SECOND);
    let before = world.kernel.read_state();
    maglev.members.pop();
    world.configure(Arc::new(config(vec![maglev.clone()])));
    world.run(Duration::from_secs(60));
    assert!(!world.settled());
    let now = world.kernel.read_state();
    assert_eq!((&now.tables, &now.services, now.members.len()), (&before.tables, &before.services, 3));
    let failed: Vec<_> = world.events.iter().filter(|e| e.kind == EventKind::ApplyFailed).collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].cause.contains("arena_slots"), "{}", failed[0].cause);
    maglev.table_size = 251;
    world.configure(Arc::new(config(vec![maglev])));
    world.run(SECOND);
    assert!(all_in(&world));
}

#[test]
fn arena_for_two_generations_of_one_table_swaps_several_in_turn() {
    let services = |swapped: bool| {
        let each = |n: u16| {
            let mut s = service(4);
            s.name = ServiceName::new(&format!("s{n}")).unwrap();
            s.listen.port = port(n);
            s.algorithm = Algorithm::Maglev;
            s.members[0].weight = port(if swapped { 7 } else { 1 });
            s
        };
        Arc::new(config((1..=4).map(each).collect()))
    };
    let mut world = World::new(1, 5 * 1009);
    world.start(services(false), false);
    world.run(Duration::from_secs(10));
    assert!(all_in(&world));
    world.configure(services(true));
    world.run(SECOND);
    assert!(all_in(&world));
    assert!(world.members()[0].share > 0.65, "{}", world.members()[0].share);
    assert_eq!(world.seen(EventKind::ApplyFailed), 0);
}

#[test]
fn writes_that_keep_failing_are_retried_ever_later() {
    let mut world = running(2);
    let applies = world.applies;
    world.faults = Faults { apply: 100, ..Faults::default() };
    world.set_hop(ip(1), false);
    world.run(Duration::from_secs(120));
    let tries = world.applies - applies;
    assert!((5..=12).contains(&tries), "{tries} tries");
    world.faults = Faults::default();
    world.run(Duration::from_secs(31));
    assert!(world.settled());
    assert_eq!(rotation(&world), [false, true]);
}

#[test]
fn probes_start_once_an_interval_and_none_without_configuration() {
    let mut world = running(2);
    let before = world.probes;
    world.run(Duration::from_secs(200));
    let probes = world.probes - before;
    assert!((190..=210).contains(&probes), "{probes} probes of two members in 100 intervals");
    let mut unprobed = service(2);
    unprobed.probe = None;
    world.dead.extend([ip(1), ip(2)]);
    world.configure(Arc::new(config(vec![unprobed.clone()])));
    let before = world.probes;
    world.run(Duration::from_secs(60));
    assert_eq!((world.probes, all_in(&world)), (before, true));
    unprobed.probe = Some(probe(1, 2));
    world.configure(Arc::new(config(vec![unprobed])));
    assert!(all_in(&world), "in until probes say otherwise");
    world.run(Duration::from_secs(10));
    assert_eq!(rotation(&world), [false, false]);
}
