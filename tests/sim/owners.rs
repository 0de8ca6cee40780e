//! Whose a lease is: somebody else's is not replaced unasked, and events name who did what.

use std::time::Duration;

use rollcall::core::api::{Event, EventKind, Scope};
use rollcall::core::lease::{Asked, LeaseKind, Owner, Refusal};
use rollcall::core::reason::ReasonKind;

use crate::configs::{backend, config, service};
use crate::leases::{asked, with};
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn scope() -> Scope {
    Scope { backend: backend(2).name, service: None }
}

fn by(name: &str, asked: Asked) -> Asked {
    Asked { owner: Owner { name: name.to_owned(), ..asked.owner }, reason: format!("work of {name}"), ..asked }
}

fn last(world: &World, kind: EventKind) -> Event {
    world.events.iter().rev().find(|e| e.kind == kind).expect("it happened").clone()
}

#[test]
fn lease_of_somebody_else_is_replaced_only_by_who_says_so_and_the_event_names_both() {
    let mut world = with(config(vec![service(3)]));
    world.take(by("ada", asked(scope(), LeaseKind::Drain, 30 * MINUTE))).unwrap();
    let other = by("grace", asked(scope(), LeaseKind::Maintenance, 10 * MINUTE));
    let Err(Refusal::Held(why)) = world.take(other.clone()) else { panic!("ada holds it") };
    assert_eq!(why, "web-2: the drain by ada (work of ada) holds for 30 min more; this would take its place");
    assert_eq!(world.leases[&scope()].owner.name, "ada");
    // One's own is no question.
    world.take(by("ada", asked(scope(), LeaseKind::Drain, 20 * MINUTE))).unwrap();
    world.take(Asked { replace: true, ..other }).unwrap();
    let event = last(&world, EventKind::Maintenance);
    assert_eq!(event.by.as_deref(), Some("grace"));
    assert!(event.cause.ends_with("work of grace; in place of the drain by ada (work of ada)"), "{}", event.cause);
}

#[test]
fn extension_is_told_of_who_extended_and_the_lease_stays_its_owners() {
    let mut world = with(config(vec![service(3)]));
    world.take(by("ada", asked(scope(), LeaseKind::Drain, 30 * MINUTE))).unwrap();
    let longer = world.core.extended(&scope(), 10 * MINUTE).unwrap();
    world.begin(longer, "grace");
    let event = last(&world, EventKind::LeaseExtended);
    assert_eq!(event.by.as_deref(), Some("grace"));
    assert_eq!(event.cause, "by grace: the drain by ada (work of ada) ends in 40 min 0 s now");
    assert_eq!(world.leases[&scope()].owner.name, "ada");
}

#[test]
fn lease_over_a_reboot_says_since_when_it_really_is() {
    let mut world = with(config(vec![service(3)]));
    world.take(asked(scope(), LeaseKind::Drain, 60 * MINUTE)).unwrap();
    let begun = world.now.wall_ms;
    world.run(10 * MINUTE);
    world.reboot(world.config(), 5 * MINUTE, 0);
    world.run(10 * MINUTE);
    let reason = world.members()[1].reasons[0].clone();
    assert_eq!((reason.kind, reason.since.wall_ms), (ReasonKind::Drained, begun));
}
