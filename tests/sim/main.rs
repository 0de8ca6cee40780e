//! Simulation of the core: a virtual clock, a kernel of plain data that refuses what would hurt a packet, backends that
//! fail and recover, and the invariants checked after every step. Needs no privileges.
//!
//! `ROLLCALL_SIM_SEEDS=n` runs n random stories instead of 256; `ROLLCALL_SIM_SEED=s` replays one.
#![allow(clippy::unwrap_used)]

mod advice;
mod allocations;
mod capacity;
mod check;
mod configs;
mod distribution;
mod kernel;
mod leases;
mod limits;
mod memory;
mod owners;
mod reload;
mod renames;
mod resort;
mod scale;
mod scenarios;
mod suspicion;
mod world;

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::Rng;
use rollcall::core::api::Health;
use world::{Faults, World};

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

#[test]
fn random_stories_every_invariant_holds_after_every_step() {
    let seeds = match number("ROLLCALL_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROLLCALL_SIM_SEEDS").unwrap_or(256),
    };
    let next = AtomicU64::new(seeds.start);
    let tell = |seed| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| story(seed))) {
            // The other threads stop after their story.
            next.store(seeds.end, Relaxed);
            eprintln!("story {seed} failed; replay it with ROLLCALL_SIM_SEED={seed}");
            resume_unwind(panic);
        }
    };
    let work = || std::iter::repeat_with(|| next.fetch_add(1, Relaxed)).take_while(|s| *s < seeds.end).for_each(tell);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(work);
        }
    });
}

/// Some minutes of reloads, restarts, failures and recoveries; then all faults end, and all must be well again.
fn story(seed: u64) {
    let mut world = World::new(seed, 16384);
    world.faults = Faults { apply: 10, lost: 2, late: 3 };
    let first = Arc::new(configs::random(&mut world.rng));
    world.start(first, false);
    for _ in 0..40 {
        let pause = Duration::from_millis(world.rng.random_range(0..4000));
        world.run(pause);
        distribution::serve_some(&mut world);
        world.count_flows();
        capacity::check_counted(&world);
        happen(&mut world);
    }
    world.faults = Faults::default();
    world.dead.clear();
    leases::end_all(&mut world);
    memory::all_well(&mut world);
    for ip in world.lost_hops.clone() {
        world.set_hop(ip, true);
    }
    // A paused retry, then interval and slack times rise, for the slowest member.
    world.run(Duration::from_secs(60));
    world.kernel.close_flows(|_| true);
    // Twice: what comes while a list is under way is ignored, as the daemon says it again.
    for _ in 0..2 {
        world.report_drained();
        world.run(Duration::from_secs(5));
    }
    assert!(world.settled(), "{:#?}", world.core.roll_call(world.now));
    for member in world.members() {
        let well = member.in_rotation && member.health == Health::Up && member.reasons.is_empty();
        let well = well || (member.is_standby() && member.health == Health::Up);
        assert!(well, "never returned: {member:#?}");
    }
    assert_eq!(world.core.leaving().len(), 0, "ids are never given back");
    assert!(world.core.leaving_addresses().is_empty(), "source addresses are never given back");
}

fn happen(world: &mut World) {
    let last = world.rng.random_range(1..=8u8);
    let v4 = IpAddr::from([10, 0, 0, last]);
    let v6 = configs::backend(last).ipv6.map(IpAddr::from).unwrap();
    match world.rng.random_range(0..30) {
        16..=19 => leases::take_some(world),
        20 => leases::end_some(world),
        21 => leases::forget_some(world),
        22 => {
            let (pause, set_ms) =
                (Duration::from_secs(world.rng.random_range(5..600)), world.rng.random_range(-600_000..600_000));
            let config = world.config();
            world.reboot(config, pause, set_ms);
        }
        23 => memory::change_some(world),
        24 => advice::change_some(world),
        25 => renames::fail_some(world),
        26 if world.rng.random_range(0..12) == 0 => leases::wait_long(world),
        29 => capacity::risk_some(world),
        0..=2 => drop(world.dead.insert(v4)),
        3 => drop(world.dead.insert(v6)),
        4..=6 => drop((world.dead.remove(&v4), world.dead.remove(&v6))),
        7 => world.set_hop(v4, false),
        8 => world.set_hop(v4, true),
        9 | 10 => {
            let next = configs::random(&mut world.rng);
            world.configure(Arc::new(next));
        }
        11 => {
            // Die half way through whatever comes next, now and then.
            let next = if world.rng.random() { Arc::new(configs::random(&mut world.rng)) } else { world.config() };
            world.restart(next);
        }
        12 => world.dead.extend((1..=8u8).map(|n| IpAddr::from([10, 0, 0, n]))),
        13 => {
            for _ in 0..20 {
                let (service, slot) = world.rng.random();
                world.kernel.open_flow(usize::from(u8::min(service, 200)), slot);
            }
        }
        14 => {
            let odd: u32 = world.rng.random_range(0..2);
            world.kernel.close_flows(|member| member % 2 == odd);
            world.report_drained();
        }
        _ => {
            // Said again, in other words: nothing follows.
            let same = Arc::new((*world.config()).clone());
            world.configure(same);
            world.report_drained();
        }
    }
}
