//! What a big pool costs: counts of work, which a busy machine does not change.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rollcall::config::model::{BackendName, Config, Member, ServiceName, Tier};
use rollcall::core::api::{MemberCall, Scope};
use rollcall::core::lease::LeaseKind;

use crate::configs::{backend, config, port, service};
use crate::leases::asked;
use crate::scenarios::{SECOND, all_in};
use crate::world::World;

/// Members of a service.
const MEMBERS: u16 = 50;
const ARENA_SLOTS: u32 = 65_536;

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + u32::from(n))
}

fn name(n: u16) -> BackendName {
    BackendName::new(&format!("web-{n}")).expect("a name")
}

/// So many servers, each in one service of [`MEMBERS`].
fn pool(servers: u16) -> Config {
    let services = (0..servers).step_by(MEMBERS.into()).map(|first| {
        let mut service = service(0);
        service.name = ServiceName::new(&format!("web-{first}")).expect("a name");
        service.listen.port = port(1000 + first);
        let member = |n| Member { backend: name(n), port: port(8080), weight: port(1), tier: Tier::Primary };
        service.members = (first..first + MEMBERS).map(member).collect();
        service
    });
    let mut config = config(services.collect());
    config.conntrack.arena_slots = ARENA_SLOTS;
    let server = |n| {
        let mut server = backend(1);
        (server.name, server.ipv4, server.ipv6) = (name(n), Some(address(n)), None);
        (name(n), server)
    };
    config.backends = (0..servers).map(server).collect();
    config
}

/// What was counted.
#[derive(Debug)]
struct Work {
    probes: usize,
    allocations_per_probe: f64,
    /// Map operations for one member that fails.
    operations: usize,
}

fn work(servers: u16, leased: bool) -> Work {
    let mut world = World::new(1, ARENA_SLOTS);
    world.unchecked = true;
    world.start(Arc::new(pool(servers)), false);
    world.run(15 * SECOND);
    assert!(all_in(&world));
    if leased {
        let scope = Scope { backend: name(9), service: None };
        world.take(asked(scope, LeaseKind::Drain, Duration::from_secs(3600))).expect("the others are many");
        world.run(2 * SECOND);
    }
    let (applies, events) = (world.applies, world.events.len());
    (world.probes, world.allocations) = (0, 0);
    world.run(20 * SECOND);
    assert_eq!(
        (world.applies, world.events.len()),
        (applies, events),
        "nothing happens, and nothing is written or told"
    );
    let (probes, allocations) = (world.probes, world.allocations);
    world.operations = 0;
    let dead = IpAddr::from(address(7));
    world.dead.insert(dead);
    world.run(10 * SECOND);
    let drained = address(9);
    let out = |m: &MemberCall| m.address == dead || (leased && m.address == drained);
    assert!(world.members().iter().all(|m| m.in_rotation != out(m)));
    Work { probes, allocations_per_probe: allocations as f64 / probes as f64, operations: world.operations }
}

#[test]
fn thousand_servers_cost_for_each_probe_and_change_what_a_hundred_do() {
    let (few, many) = (work(100, false), work(1000, false));
    // One every two seconds each, with jitter.
    assert!((980..=1020).contains(&few.probes) && (9_800..=10_200).contains(&many.probes), "{few:?}, {many:?}");
    // A result that changes nothing is noted, and that is all.
    assert!(few.allocations_per_probe <= 0.5, "{few:?}");
    assert!(many.allocations_per_probe <= few.allocations_per_probe * 1.1, "{few:?}, {many:?}");
    assert!(many.operations <= few.operations, "{few:?}, {many:?}");
}

#[test]
fn lease_costs_nothing_for_a_probe_that_changes_nothing() {
    let (none, one) = (work(1000, false), work(1000, true));
    assert!(one.allocations_per_probe <= none.allocations_per_probe * 1.1, "{none:?}, {one:?}");
}
