//! Agents' advice in the stories, and one scripted story for each promise about it.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rollcall::config::memory::AgentCheck;
use rollcall::core::api::{Event, EventKind, Input, Scope};
use rollcall::core::reason::ReasonKind;

use crate::configs::{backend, config, service};
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

/// How every server's agent is asked in these stories.
pub fn check() -> AgentCheck {
    AgentCheck { to: "10.0.0.1:9777".parse().expect("an address"), interval: Duration::from_secs(2) }
}

/// A story's turn: an agent says something else, or nothing any more.
pub fn change_some(world: &mut World) {
    const LINES: [&str; 8] = ["up 100%", "75%", "0%", "drain", "maint # disk", "ready", "down", "ready up 100%"];
    let name = backend(world.rng.random_range(1..=8u8)).name;
    match world.rng.random_range(0..LINES.len() + 1) {
        n if n < LINES.len() => drop(world.advice.insert(name, LINES[n])),
        _ => drop(world.advice.remove(&name)),
    }
    world.run(Duration::from_secs(20));
}

fn running() -> World {
    let mut config = config(vec![service(3)]);
    config.backends.values_mut().for_each(|b| b.agent_check = Some(check()));
    let mut world = World::new(1, 16384);
    world.advice = (1..=3).map(|n| (backend(n).name, "up 100%")).collect();
    world.start(Arc::new(config), false);
    world.run(MINUTE);
    assert!(world.members().iter().all(|m| m.in_rotation && m.reasons.is_empty()));
    world
}

fn says(world: &mut World, n: u8, line: &'static str) {
    world.advice.insert(backend(n).name, line);
    world.run(Duration::from_secs(10));
}

#[test]
fn percentage_scales_the_weight_and_is_a_reason_until_it_is_taken_back() {
    let mut world = running();
    says(&mut world, 2, "50% # warming up");
    let member = world.members()[1].clone();
    assert_eq!((member.effective, member.in_rotation), (128, true));
    assert_eq!(member.reasons[0].kind, ReasonKind::Advised);
    assert!(member.reasons[0].cause.contains("50 %") && member.reasons[0].cause.contains("warming up"));
    says(&mut world, 2, "100%");
    assert!(world.members()[1].reasons.is_empty());
}

#[test]
fn agent_that_says_down_takes_its_server_out_and_one_that_falls_silent_does_not_keep_it_out() {
    let mut world = running();
    says(&mut world, 2, "down # no database");
    assert!(!world.members()[1].in_rotation);
    world.advice.remove(&backend(2).name);
    world.run(MINUTE);
    let silent = |e: &&Event| e.kind == EventKind::AdviceSilent && e.backend == Some(backend(2).name);
    assert!(world.members()[1].in_rotation && world.events.iter().filter(silent).count() == 1);
}

#[test]
fn up_of_an_agent_does_not_override_a_failed_probe() {
    let mut world = running();
    world.dead.insert(crate::scenarios::ip(2));
    world.run(MINUTE);
    assert!(!world.members()[1].in_rotation && world.members()[1].reasons[0].kind == ReasonKind::ProbeFailed);
}

#[test]
fn drain_of_an_agent_is_a_lease_of_its_own_that_ready_ends() {
    let mut world = running();
    says(&mut world, 2, "drain # release 7");
    let lease = world.leases.values().next().expect("a lease").clone();
    assert_eq!((lease.owner.name.as_str(), lease.reason.as_str()), ("agent@web-2", "release 7"));
    assert!(!world.members()[1].in_rotation);
    // As long as it says so, its lease is extended; no flow slips through between two.
    world.run(45 * MINUTE);
    assert_eq!(
        (world.leases.len(), world.seen(EventKind::LeaseEnded), world.seen(EventKind::LeaseExtended)),
        (1, 0, 1)
    );
    assert_eq!(world.seen(EventKind::InRotation), 3, "each once, at the start");
    says(&mut world, 2, "ready");
    assert!(world.leases.is_empty() && world.members()[1].in_rotation);
}

#[test]
fn drain_of_an_agent_that_was_restored_by_someone_is_not_taken_up_again() {
    let mut world = running();
    says(&mut world, 2, "drain");
    let scope = Scope { backend: backend(2).name, service: None };
    world.give(Input::Restore(scope, "grace".to_owned()));
    world.run(10 * MINUTE);
    assert!(world.leases.is_empty() && world.members()[1].in_rotation);
    says(&mut world, 2, "ready");
    says(&mut world, 2, "drain");
    assert_eq!(world.leases.len(), 1);
}

#[test]
fn drain_of_the_last_servers_agent_is_not_granted() {
    let mut world = running();
    for n in 1..=3 {
        says(&mut world, n, "drain");
    }
    assert_eq!(world.leases.len(), 2);
    assert!(world.members()[2].in_rotation);
    let refused = world.events.iter().any(|e| e.kind == EventKind::Advised && e.cause.contains("not granted"));
    assert!(refused);
}

#[test]
fn agent_that_never_answers_is_told_of_once_and_again_when_it_does() {
    let mut config = config(vec![service(3)]);
    config.backends.get_mut(&backend(2).name).unwrap().agent_check = Some(check());
    let mut world = World::new(1, 16384);
    world.start(Arc::new(config), false);
    world.run(Duration::from_secs(5));
    assert_eq!(world.seen(EventKind::AdviceSilent), 0, "it has its time");
    world.run(MINUTE);
    assert_eq!(world.seen(EventKind::AdviceSilent), 1);
    let silent = world.core.roll_call(world.now).silent_agents;
    assert_eq!((silent.len(), &silent[0].backend), (1, &backend(2).name));
    assert_eq!(silent[0].why, "connection refused");
    assert!(world.members()[1].in_rotation && world.members()[1].reasons.is_empty());
    says(&mut world, 2, "up 100%");
    assert!(world.core.roll_call(world.now).silent_agents.is_empty());
    assert_eq!(world.seen(EventKind::Advised), 1);
}
