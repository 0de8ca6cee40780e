//! Memory in the stories, and one scripted story for each promise about it. How factors move is tested where they are made.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rollcall::config::memory::{MemoryKind, MemorySource};
use rollcall::config::model::Config;
use rollcall::core::api::EventKind;
use rollcall::core::memory::tracker::Memory;
use rollcall::core::reason::ReasonKind;

use crate::configs::{backend, config, service};
use crate::leases::drain;
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

/// The source of every server in these stories.
pub fn source() -> MemorySource {
    let to = "10.0.0.1:9465".parse().expect("an address");
    MemorySource { kind: MemoryKind::Agent { token_file: None }, to, interval: Duration::from_secs(5) }
}

fn monitored(mut config: Config, servers: impl IntoIterator<Item = u8>) -> Config {
    for n in servers {
        config.backends.get_mut(&backend(n).name).expect("there are 20").memory = Some(source());
    }
    config
}

/// A story's turn: a server's memory is suddenly another, or says nothing any more.
pub fn change_some(world: &mut World) {
    let name = backend(world.rng.random_range(1..=8u8)).name;
    if world.rng.random_range(0..4) == 0 {
        world.memory.remove(&name);
    } else {
        let free = world.rng.random();
        world.memory.insert(name, free);
    }
    world.run(MINUTE);
}

/// A story's end: nobody's memory is looked at and no agent is asked any more, so nobody's weight is lowered for them.
pub fn all_well(world: &mut World) {
    let mut config = (*world.config()).clone();
    config.backends.values_mut().for_each(|b| (b.memory, b.agent_check) = (None, None));
    world.configure(Arc::new(config));
}

/// A world with `members` backends in rotation, each with half of its memory free.
fn running(members: u8) -> World {
    let mut world = World::new(1, 16384);
    world.memory = (1..=members).map(|n| (backend(n).name, 0.5)).collect();
    world.start(Arc::new(monitored(config(vec![service(members)]), 1..=members)), false);
    world.run(MINUTE);
    assert!(world.settled() && world.members().iter().all(|m| m.in_rotation && m.reasons.is_empty()));
    world
}

fn memory(world: &World, n: u8) -> Memory {
    let call = world.core.roll_call(world.now);
    call.memory.into_iter().find(|m| m.backend == backend(n).name).expect("it is monitored").memory
}

#[test]
fn server_whose_memory_is_tight_gets_less_and_says_so_while_the_others_take_it() {
    let mut world = running(3);
    world.memory.insert(backend(2).name, 0.12);
    world.run(5 * MINUTE);
    assert_eq!(memory(&world, 2), Memory::Tight);
    let members = world.members();
    let (tight, other) = (&members[1], &members[0]);
    assert!(tight.effective < 256 && tight.effective >= 64, "{}", tight.effective);
    assert!(tight.share < other.share, "{} of {}", tight.share, other.share);
    assert_eq!(tight.reasons[0].kind, ReasonKind::MemoryShort);
    assert!(tight.in_rotation && world.seen(EventKind::Shed) > 0 && world.seen(EventKind::MemoryShort) == 1);
    // It does not help: told once, and the weight stays.
    world.run(30 * MINUTE);
    assert_eq!(world.seen(EventKind::SheddingStuck), 1);
    world.memory.insert(backend(2).name, 0.5);
    world.run(6 * 60 * MINUTE);
    assert!(world.members()[1].reasons.is_empty(), "{:#?}", world.members()[1]);
}

#[test]
fn server_that_says_nothing_of_its_memory_is_unknown_and_keeps_its_weight() {
    let mut world = running(2);
    world.memory.remove(&backend(1).name);
    world.run(MINUTE);
    let Memory::Unknown { why, .. } = memory(&world, 1) else { panic!("{:?}", memory(&world, 1)) };
    assert!(why.contains("connection refused"), "{why}");
    assert_eq!((world.seen(EventKind::MemoryUnknown), world.members()[0].effective), (1, 256));
}

#[test]
fn drained_server_is_called_back_when_the_memory_of_the_others_is_short() {
    let mut world = running(2);
    drain(&mut world, 2, 60 * MINUTE);
    world.run(10 * MINUTE);
    assert!(!world.members()[1].in_rotation);
    world.memory.insert(backend(1).name, 0.15);
    world.run(MINUTE);
    assert!(world.members()[1].in_rotation, "the outage that this project is about");
    let recalled = world.events.iter().find(|e| e.kind == EventKind::Recalled).expect("it is told");
    assert!(recalled.cause.contains("memory"), "{}", recalled.cause);
}

#[test]
fn of_several_drained_servers_one_is_called_back_at_a_time() {
    let mut world = running(4);
    for n in [3, 4] {
        drain(&mut world, n, 60 * MINUTE);
    }
    world.run(MINUTE);
    world.memory.insert(backend(1).name, 0.15);
    world.memory.insert(backend(2).name, 0.15);
    world.run_until(MINUTE, |w| w.seen(EventKind::Recalled) > 0);
    world.run(Duration::from_secs(20));
    assert_eq!(world.seen(EventKind::Recalled), 1, "with the first, not all that serve are short");
}

#[test]
fn memory_that_leaks_away_is_foretold() {
    let mut world = running(2);
    // A gigabyte, of which a half was free: gone in two hours.
    for minute in 0..100u32 {
        world.memory.insert(backend(1).name, 0.5 - 0.5 * f64::from(minute) / 120.0);
        world.run(MINUTE);
    }
    let told = world.events.iter().find(|e| e.kind == EventKind::MemoryEnds).expect("it is told");
    assert!(told.backend == Some(backend(1).name) && told.cause.contains("runs out in about"), "{told:?}");
}

#[test]
fn source_that_never_answers_is_told_of() {
    let mut world = World::new(1, 16384);
    world.start(Arc::new(monitored(config(vec![service(3)]), 2..=2)), false);
    world.run(Duration::from_secs(14));
    assert_eq!(world.seen(EventKind::MemoryUnknown), 0, "it has its time");
    world.run(MINUTE);
    let told: Vec<_> = world.events.iter().filter(|e| e.kind == EventKind::MemoryUnknown).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].cause, "still unknown: no good sample for 15 s: connection refused");
}
