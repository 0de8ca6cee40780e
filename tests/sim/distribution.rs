//! Where new flows go: an honest kernel raises nothing, whatever the daemon does meanwhile; one that passes a member over
//! is found out.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall::core::api::EventKind;

use crate::scenarios::{ip, running};
use crate::world::World;
use crate::{configs, leases};

/// Some hundreds of flows on all services, by the tables of now.
pub fn serve_some(world: &mut World) {
    // Numbers of their own: how many flows there are must not change the story.
    let mut rng = StdRng::seed_from_u64(world.now.boot_ms);
    for _ in 0..400 {
        let (service, slot): (u8, u32) = rng.random();
        world.kernel.pass_flow(usize::from(service), slot, |member| member);
    }
}

/// Ten seconds with so many flows; where they go, `truth` says.
fn serve(world: &mut World, flows: u32, truth: impl Fn(u32) -> u32) {
    for _ in 0..flows {
        let slot: u32 = world.rng.random();
        world.kernel.pass_flow(0, slot, &truth);
    }
    world.run(Duration::from_secs(10));
    world.count_flows();
}

fn skews(world: &World) -> Vec<Option<String>> {
    let skews = world.core.roll_call(world.now).skews;
    skews.into_iter().map(|skew| skew.backend.map(|backend| backend.to_string())).collect()
}

#[test]
fn honest_kernel_raises_nothing_through_drains_failures_and_reloads() {
    let mut world = running(4);
    for round in 0..600u16 {
        match round % 50 {
            5 => leases::drain(&mut world, 2, Duration::from_secs(95)),
            20 => drop(world.dead.insert(ip(3))),
            27 => drop(world.dead.remove(&ip(3))),
            35 => {
                let mut other = configs::service(4);
                other.members[0].weight = configs::port(1 + round / 50);
                world.configure(Arc::new(configs::config(vec![other])));
            }
            _ => {}
        }
        // `check` looks for skews at each step.
        serve(&mut world, 300, |member| member);
    }
    assert_eq!((world.seen(EventKind::Drained), world.seen(EventKind::DistributionOff)), (12, 0));
}

#[test]
fn member_that_gets_no_flows_or_half_of_its_own_is_found_and_a_lease_excuses_it() {
    for keeps in [0, 1] {
        let mut world = running(3);
        world.run(Duration::from_secs(60));
        let [first, lost] = [0, 1].map(|n| world.members()[n].id.unwrap());
        world.honest = false;
        let turn = Cell::new(0);
        let truth = |member| {
            turn.set(turn.get() + 1);
            if member == lost && turn.get() % 2 >= keeps { first } else { member }
        };
        let rounds = (1..=60).find(|_| {
            serve(&mut world, 500, truth);
            skews(&world).contains(&Some("web-2".to_owned()))
        });
        assert!(rounds.is_some_and(|rounds| rounds <= 25), "{keeps}: {rounds:?} times ten seconds");
        assert!(world.seen(EventKind::DistributionOff) > 0);
        let call = world.core.roll_call(world.now);
        assert!(call.services[0].members[1].reasons.is_empty() && call.services[0].members[1].share > 0.3);
        // Somebody takes it out: that it gets nothing has a reason now.
        leases::drain(&mut world, 2, Duration::from_secs(1800));
        serve(&mut world, 500, |member| member);
        assert!(!skews(&world).contains(&Some("web-2".to_owned())));
    }
}
