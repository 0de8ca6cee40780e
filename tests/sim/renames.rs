//! Services under another name, services that are gone, and changes that fail: leases and removals stay what they were.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rollcall::config::model::{Config, Service, ServiceName};
use rollcall::core::api::{EventKind, Scope};
use rollcall::core::lease::LeaseKind;

use crate::configs::{self, backend, config, port, service};
use crate::leases::{asked, is_in, with};
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Of leases narrowed to a service that only has another name in `new`: whom they keep out, by what it listens on.
pub fn narrowed(world: &World, old: &Config, new: &Config) -> Vec<Scope> {
    let has = |config: &Config, name: &ServiceName| config.services.iter().any(|s| s.name == *name);
    let renamed = |scope: &Scope| {
        let before = old.services.iter().find(|s| Some(&s.name) == scope.service.as_ref())?;
        let now = new.services.iter().find(|s| s.listen == before.listen)?;
        let fresh = !has(new, &before.name) && !has(old, &now.name);
        fresh.then(|| Scope { backend: scope.backend.clone(), service: Some(now.name.clone()) })
    };
    world.leases.values().filter(|l| l.ends.boot_ms > world.now.boot_ms).filter_map(|l| renamed(&l.scope)).collect()
}

/// A story's turn: a change that the program or the interfaces cannot follow.
pub fn fail_some(world: &mut World) {
    let next = configs::random(&mut world.rng);
    let pause = Duration::from_millis(world.rng.random_range(0..2000));
    world.fail_to_configure(Arc::new(next), pause);
}

fn named(name: &str, service: Service) -> Service {
    Service { name: ServiceName::new(name).unwrap(), ..service }
}

fn of(service: &str, n: u8) -> Scope {
    Scope { backend: backend(n).name, service: ServiceName::new(service) }
}

fn missed(world: &World) -> Vec<String> {
    world.removed.keys().map(Scope::to_string).collect()
}

#[test]
fn lease_of_one_service_follows_it_to_its_new_name() {
    let mut world = with(config(vec![service(3)]));
    world.take(asked(of("web", 2), LeaseKind::Drain, 30 * MINUTE)).unwrap();
    world.run(SECOND);
    world.configure(Arc::new(config(vec![named("shop", service(3))])));
    world.run(MINUTE);
    assert!(!is_in(&world, 2), "the rename ended the drain");
    assert!(world.leases.keys().eq([&of("shop", 2)]), "{:?}", world.leases.keys());
    assert_eq!(world.seen(EventKind::Renamed), 1);
    // Renamed while no daemon ran.
    world.restart(Arc::new(config(vec![named("store", service(3))])));
    world.run(MINUTE);
    assert!(!is_in(&world, 2) && world.leases.contains_key(&of("store", 2)));
    world.run(30 * MINUTE);
    assert!(is_in(&world, 2) && world.leases.is_empty());
}

#[test]
fn removal_follows_its_service_and_is_struck_out_under_the_new_name() {
    let mut world = with(config(vec![service(3)]));
    world.configure(Arc::new(config(vec![service(2)])));
    assert_eq!(missed(&world), ["web-3 in web"]);
    world.configure(Arc::new(config(vec![named("shop", service(2))])));
    assert_eq!(missed(&world), ["web-3 in shop"]);
    world.run(11 * MINUTE);
    assert_eq!(world.seen(EventKind::Overdue), 1);
    world.configure(Arc::new(config(vec![named("store", service(3))])));
    assert!(missed(&world).is_empty(), "{:?}", missed(&world));
    assert_eq!((world.seen(EventKind::Returned), world.seen(EventKind::Overdue)), (1, 1));
}

#[test]
fn lease_of_a_service_that_is_gone_is_told_and_holds_again_when_it_is_back() {
    let mut other = named("api", service(3));
    other.listen.port = port(81);
    let mut world = with(config(vec![service(3), other.clone()]));
    world.take(asked(of("api", 2), LeaseKind::Drain, 30 * MINUTE)).unwrap();
    world.configure(Arc::new(config(vec![service(3)])));
    assert_eq!(world.seen(EventKind::LeaseIdle), 1);
    world.restart(world.config());
    assert_eq!(world.seen(EventKind::LeaseIdle), 1, "told once");
    world.configure(Arc::new(config(vec![service(3), other])));
    world.run(MINUTE);
    let api = world.core.roll_call(world.now).services.remove(1);
    assert_eq!(api.members.iter().map(|m| m.in_rotation).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn change_that_fails_leaves_the_roll_call_as_it_was() {
    let mut world = with(config(vec![service(3)]));
    world.take(asked(of("web", 1), LeaseKind::Drain, 30 * MINUTE)).unwrap();
    // What was never in force is not missed.
    world.fail_to_configure(Arc::new(config(vec![service(4)])), SECOND);
    assert!(missed(&world).is_empty(), "{:?}", missed(&world));
    // Whoever did not leave is not missed, and whoever did still is, with its history.
    world.fail_to_configure(Arc::new(config(vec![service(2)])), SECOND);
    assert!(missed(&world).is_empty(), "{:?}", missed(&world));
    world.configure(Arc::new(config(vec![service(2)])));
    world.run(5 * MINUTE);
    let before = world.removed.clone();
    world.fail_to_configure(Arc::new(config(vec![named("shop", service(3))])), SECOND);
    assert_eq!(world.removed, before);
    assert!(world.leases.keys().eq([&of("web", 1)]), "{:?}", world.leases.keys());
}
