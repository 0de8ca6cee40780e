//! Limits of flows: what holds at every moment of every story, and one scripted story for each promise.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall::config::model::Config;
use rollcall::core::api::{EventKind, Input, Load, MemberCall, MemberName, RollCall, ServiceCall};
use rollcall::core::reason::ReasonKind;

use crate::configs::{backend, config, service};
use crate::scenarios::{SECOND, rotation};
use crate::world::World;

fn is_full(member: &MemberCall) -> bool {
    member.reasons.iter().any(|r| r.kind == ReasonKind::AtLimit)
}

/// What must hold of limits, whatever happened: who is at one gets nothing, and never are all that could serve out for it.
pub fn check(call: &RollCall) {
    for service in &call.services {
        let full = service.members.iter().filter(|m| is_full(m));
        assert!(full.clone().all(|m| m.effective == 0), "{}: new flows beyond a limit", service.name);
        let others = service.members.iter().any(|m| m.effective > 0);
        assert!(others || full.count() == 0, "{}: nobody serves, and some are out for their limits", service.name);
        assert!(service.at_limit.is_none() || others, "{}: at its limit, and nobody serves", service.name);
    }
}

/// Some limits, small enough to be reached.
pub fn vary(rng: &mut rand::rngs::StdRng, config: &mut Config) {
    use rand::Rng;
    for n in 1..=8u8 {
        let server = config.backends.get_mut(&backend(n).name).expect("there are 20");
        server.max_flows = rng.random::<bool>().then(|| rng.random_range(1..20));
    }
}

/// Servers that carry a hundred flows each.
fn running(members: u8) -> World {
    let mut config = config(vec![service(members)]);
    config.backends.values_mut().for_each(|b| b.max_flows = Some(100));
    let mut world = World::new(1, 16384);
    world.start(Arc::new(config), false);
    world.run(30 * SECOND);
    world
}

fn count(world: &mut World, active: &[u64]) {
    let service = world.config().services[0].name.clone();
    let load = |(n, &active): (u8, &u64)| {
        let name = MemberName { service: service.clone(), backend: backend(n).name };
        (name, Load { opened: active, active, bytes: 0 })
    };
    let loads: BTreeMap<_, _> = (1..).zip(active).map(load).collect();
    world.give(Input::Load(loads));
    world.run(SECOND);
}

fn call(world: &World) -> ServiceCall {
    world.core.roll_call(world.now).services.swap_remove(0)
}

#[test]
fn server_at_its_limit_gets_no_new_flows_until_it_is_well_below() {
    let mut world = running(3);
    count(&mut world, &[99, 100, 10]);
    assert_eq!(rotation(&world), [true, false, true]);
    let reason = &world.members()[1].reasons[0];
    assert_eq!((reason.kind, reason.cause.as_str()), (ReasonKind::AtLimit, "100 active flows, its max_flows is 100"));
    count(&mut world, &[99, 90, 10]);
    assert_eq!(rotation(&world), [true, false, true]);
    count(&mut world, &[99, 89, 10]);
    assert_eq!(rotation(&world), [true; 3]);
    assert_eq!((world.seen(EventKind::AtLimit), world.seen(EventKind::BelowLimit)), (1, 1));
}

#[test]
fn servers_that_are_all_at_their_limits_serve_and_that_is_told_once() {
    let mut world = running(2);
    count(&mut world, &[100, 50]);
    assert_eq!(rotation(&world), [false, true]);
    for _ in 0..3 {
        count(&mut world, &[100, 120]);
        assert_eq!(rotation(&world), [true, true]);
        assert!(call(&world).at_limit.is_some());
    }
    assert_eq!(world.seen(EventKind::ServiceAtLimit), 1);
    count(&mut world, &[80, 120]);
    assert_eq!((rotation(&world), call(&world).at_limit), (vec![true, false], None));
    assert_eq!(world.seen(EventKind::ServiceBelowLimit), 1);
}

#[test]
fn server_at_its_limit_serves_when_the_others_die() {
    let mut world = running(2);
    count(&mut world, &[100, 50]);
    world.dead.insert(crate::scenarios::ip(2));
    world.run_until(8 * SECOND, |w| rotation(w) == [true, false]);
}

#[test]
fn nobody_stays_out_on_a_count_of_long_ago() {
    let mut world = running(2);
    count(&mut world, &[100, 50]);
    world.run(57 * SECOND);
    assert_eq!(rotation(&world), [false, true]);
    world.run(3 * SECOND);
    assert_eq!(rotation(&world), [true, true]);
}
