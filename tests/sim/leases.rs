//! Leases and removals: what holds at every moment of every story, and one scripted story for each promise.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rollcall::config::model::{BackendName, Config, ServiceName};
use rollcall::core::api::{EventKind, Input, RollCall, Scope};
use rollcall::core::capacity::Consent;
use rollcall::core::lease::{Asked, Lease, LeaseKind, Owner, Refusal};
use rollcall::core::reason::ReasonKind;

use crate::configs::{backend, config, service};
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What must hold of leases and removals, whatever happened.
pub fn check(world: &World, call: &RollCall) {
    let known: Vec<&Scope> = call.leases.iter().map(|l| &l.scope).collect();
    assert!(known.iter().copied().eq(world.leases.keys()), "in force: {known:?}, stored: {:?}", world.leases.keys());
    assert!(call.removed.iter().eq(world.removed.values()), "removals in the roll call are not those stored");
    for lease in &call.leases {
        assert!(lease.ends.boot_ms > world.now.boot_ms, "{} is past its end", lease.scope);
        assert!(lease.granted_ms <= 72 * 3_600_000);
    }
    for member in call.services.iter().flat_map(|s| s.members.iter().map(move |m| (s, m))) {
        let (service, member) = member;
        let covers = |scope: &&Scope| {
            scope.backend == member.backend && scope.service.as_ref().is_none_or(|name| *name == service.name)
        };
        let leased = known.iter().any(covers);
        let says = |kind| member.reasons.iter().any(|r| r.kind == kind);
        assert_eq!(leased, says(ReasonKind::Drained) || says(ReasonKind::Maintenance), "{}", member.backend);
        // Nobody can serve: who was drained is in like all others, unless it is not to be called back.
        let panics = says(ReasonKind::Panic) && !says(ReasonKind::Maintenance);
        let kept = call.leases.iter().any(|l| covers(&&l.scope) && !l.recallable);
        let out = member.effective == 0 || (panics && !kept);
        assert!(!leased || out, "{} is leased and takes new flows", member.backend);
        let shut = |l: &Lease| l.kind == LeaseKind::Maintenance && covers(&&l.scope);
        let shut = call.leases.iter().any(shut);
        if let Some(id) = member.id.filter(|_| call.settled) {
            assert_eq!(world.kernel.is_closed(id), shut, "{}: closed in maintenance, and only there", member.backend);
        }
        let missed = call.removed.iter().find(|r| r.scope.service.as_ref() == Some(&service.name) && covers(&&r.scope));
        assert!(missed.is_none(), "{} is a member and missed at once", member.backend);
    }
}

pub fn scope(n: u8) -> Scope {
    Scope { backend: backend(n).name, service: None }
}

pub fn asked(scope: Scope, kind: LeaseKind, length: Duration) -> Asked {
    let owner = Owner { name: "ada".to_owned(), claimed: false, uid: 0, loginuid: Some(1000) };
    let (reason, consent) = ("kernel test".to_owned(), Consent::sure());
    Asked { scope, kind, length, owner, reason, recallable: true, consent, replace: false }
}

/// Drains a server.
pub fn drain(world: &mut World, n: u8, length: Duration) {
    world.take(asked(scope(n), LeaseKind::Drain, length)).expect("nothing stands against it");
}

/// A story's turn: some server is taken out, if the core lets it.
pub fn take_some(world: &mut World) {
    let scope = some_scope(world);
    let kind = if world.rng.random_range(0..4) == 0 { LeaseKind::Maintenance } else { LeaseKind::Drain };
    let longest = if world.rng.random_range(0..4) == 0 { 7200 } else { 900 };
    let length = Duration::from_secs(world.rng.random_range(1..longest));
    let mut asked = asked(scope, kind, length);
    (asked.recallable, asked.replace) = (world.rng.random(), world.rng.random());
    if world.rng.random_range(0..3) == 0 {
        asked.owner.name = "grace".to_owned();
    }
    // What is refused must change nothing; `check` sees to that.
    let _ = world.take(asked);
}

/// A story's turn: a lease is extended or ended.
pub fn end_some(world: &mut World) {
    let scopes: Vec<Scope> = world.leases.keys().cloned().collect();
    let Some(scope) = scopes.first().cloned() else { return };
    if world.rng.random() {
        world.give(Input::Restore(scope, "grace".to_owned()));
    } else if let Ok(lease) = world.core.extended(&scope, Duration::from_secs(400)) {
        world.begin(lease, "grace");
    }
}

/// A story's turn: someone lets go of a removed server.
pub fn forget_some(world: &mut World) {
    if let Some(scope) = world.removed.keys().next().cloned() {
        world.give(Input::Forget(scope, "grace".to_owned()));
    }
}

/// A story's turn: half an hour and more in which nobody does anything. Everything is asked seldom meanwhile, so that it is
/// soon over.
pub fn wait_long(world: &mut World) {
    let busy = world.config();
    let mut quiet = (*busy).clone();
    let minute = Duration::from_secs(60);
    for probe in quiet.services.iter_mut().filter_map(|s| s.probe.as_mut()) {
        probe.interval = minute;
    }
    for backend in quiet.backends.values_mut() {
        backend.memory.iter_mut().for_each(|source| source.interval = minute);
        backend.agent_check.iter_mut().for_each(|check| check.interval = minute);
    }
    world.configure(Arc::new(quiet));
    let pause = Duration::from_secs(world.rng.random_range(1800..3600));
    world.run(pause);
    world.configure(busy);
}

/// A story's end: nothing keeps anybody out any more.
pub fn end_all(world: &mut World) {
    for scope in world.leases.keys().cloned().collect::<Vec<_>>() {
        world.give(Input::Restore(scope, "grace".to_owned()));
    }
}

fn some_scope(world: &mut World) -> Scope {
    let n = world.rng.random_range(1..=8u8);
    let services: Vec<ServiceName> = world.config().services.iter().map(|s| s.name.clone()).collect();
    let service = services.get(world.rng.random_range(0..2 * services.len())).cloned();
    Scope { backend: backend(n).name, service }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn running(members: u8) -> World {
    with(config(vec![service(members)]))
}

pub fn with(config: Config) -> World {
    let mut world = World::new(1, 16384);
    world.start(Arc::new(config), false);
    world.run_until(SECOND, |w| w.settled() && w.members().iter().all(|m| m.in_rotation));
    world.run(30 * SECOND);
    world
}

pub fn is_in(world: &World, n: u8) -> bool {
    world.members().iter().find(|m| m.backend == backend(n).name).is_some_and(|m| m.in_rotation)
}

fn events(world: &World) -> BTreeMap<&'static str, usize> {
    let kinds = [
        ("drained", EventKind::Drained),
        ("ending", EventKind::LeaseEnding),
        ("ended", EventKind::LeaseEnded),
        ("restored", EventKind::Restored),
        ("recalled", EventKind::Recalled),
        ("return failed", EventKind::ReturnFailed),
        ("too few", EventKind::TooFew),
        ("overdue", EventKind::Overdue),
    ];
    kinds.into_iter().map(|(name, kind)| (name, world.seen(kind))).filter(|(_, n)| *n > 0).collect()
}

#[test]
fn drained_server_is_out_until_the_end_is_announced_and_comes_back_by_itself() {
    let mut world = running(3);
    world.take(asked(scope(2), LeaseKind::Drain, 30 * MINUTE)).unwrap();
    world.run(SECOND);
    assert!(!is_in(&world, 2) && is_in(&world, 1));
    let reason = world.members()[1].reasons[0].clone();
    assert_eq!((reason.kind, reason.owner.as_deref()), (ReasonKind::Drained, Some("ada")));
    assert_eq!(reason.cause, "kernel test");
    world.run(24 * MINUTE);
    assert_eq!(events(&world), BTreeMap::from([("drained", 1)]));
    world.run(MINUTE);
    assert_eq!(events(&world), BTreeMap::from([("drained", 1), ("ending", 1)]));
    assert!(!is_in(&world, 2));
    world.run(4 * MINUTE + 58 * SECOND);
    assert!(!is_in(&world, 2), "before its end");
    world.run(3 * SECOND);
    assert!(is_in(&world, 2), "not back at its end: {:#?}", world.members()[1]);
    assert_eq!(events(&world), BTreeMap::from([("drained", 1), ("ending", 1), ("ended", 1)]));
    assert!(world.leases.is_empty());
}

#[test]
fn drained_server_whose_last_flow_ends_is_told_once() {
    let mut world = running(3);
    for pick in 0..30 {
        world.kernel.open_flow(0, pick);
    }
    world.take(asked(scope(2), LeaseKind::Drain, 30 * MINUTE)).unwrap();
    let count = |world: &mut World| {
        world.run(10 * SECOND);
        world.count_flows();
        let member = world.members()[1].clone();
        (member.load.map(|load| load.active), member.empty_since.is_some(), world.seen(EventKind::Emptied))
    };
    assert_eq!(count(&mut world), (Some(10), false, 0));
    world.kernel.close_flows(|_| true);
    assert_eq!(count(&mut world), (Some(0), true, 1));
    assert_eq!(count(&mut world), (Some(0), true, 1));
    world.run(30 * MINUTE);
    assert_eq!(count(&mut world), (Some(0), false, 1), "in rotation, none is nothing to tell");
    let seen = world.members()[0].observed.expect("it was counted more than once");
    assert_eq!((seen.opened, seen.bytes), (0, 0));
}

#[test]
fn lease_outlives_the_daemon_and_the_host() {
    let mut world = running(3);
    world.take(asked(scope(2), LeaseKind::Drain, 30 * MINUTE)).unwrap();
    world.run(10 * MINUTE);
    world.restart(world.config());
    world.run(MINUTE);
    assert!(!is_in(&world, 2) && is_in(&world, 3));
    world.reboot(world.config(), 5 * MINUTE, 0);
    world.run(13 * MINUTE);
    assert!(!is_in(&world, 2) && is_in(&world, 3), "{:#?} {:?}", world.members(), world.leases);
    world.run(MINUTE + 5 * SECOND);
    assert!(is_in(&world, 2));
}

#[test]
fn lease_survives_that_its_server_is_removed_and_added_again() {
    let mut world = running(3);
    world.take(asked(scope(3), LeaseKind::Drain, 30 * MINUTE)).unwrap();
    world.configure(Arc::new(config(vec![service(2)])));
    world.run(MINUTE);
    world.configure(Arc::new(config(vec![service(3)])));
    world.run(MINUTE);
    assert!(!is_in(&world, 3));
    world.run(30 * MINUTE);
    assert!(is_in(&world, 3));
}

#[test]
fn server_that_fails_its_first_probe_after_a_lease_stays_out_and_that_is_told_at_once() {
    let mut world = running(3);
    world.take(asked(scope(2), LeaseKind::Drain, MINUTE)).unwrap();
    world.dead.insert(ip(2));
    world.run(MINUTE);
    assert_eq!(world.seen(EventKind::ReturnFailed), 0, "failing meanwhile is what the lease is for");
    world.run(2 * SECOND);
    assert!(!is_in(&world, 2));
    assert_eq!(world.seen(EventKind::ReturnFailed), 1);
    world.run(20 * SECOND);
    let kinds: Vec<ReasonKind> = world.members()[1].reasons.iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [ReasonKind::Returning, ReasonKind::ProbeFailed]);
    assert!(world.seen(EventKind::Overdue) >= 1, "a failed return escalates after one round of probes");
    world.dead.clear();
    world.run(10 * SECOND);
    assert!(is_in(&world, 2));
    assert_eq!(world.seen(EventKind::ReturnFailed), 1);
}

#[test]
fn restored_server_takes_flows_after_one_probe() {
    let mut world = running(3);
    world.take(asked(scope(2), LeaseKind::Maintenance, 60 * MINUTE)).unwrap();
    world.run(MINUTE);
    world.give(Input::Restore(scope(2), "grace".to_owned()));
    assert_eq!(world.members()[1].reasons[0].kind, ReasonKind::Returning);
    world.run(SECOND);
    assert!(is_in(&world, 2));
}

#[test]
fn drained_server_is_called_back_when_the_others_are_too_few() {
    let mut two = service(3);
    two.min_in_rotation = 2;
    let mut world = with(config(vec![two]));
    world.take(asked(scope(2), LeaseKind::Drain, 60 * MINUTE)).unwrap();
    world.run(MINUTE);
    world.dead.insert(ip(1));
    world.run(20 * SECOND);
    assert!(is_in(&world, 2) && is_in(&world, 3) && !is_in(&world, 1));
    assert_eq!(events(&world), BTreeMap::from([("drained", 1), ("recalled", 1)]));
}

#[test]
fn server_that_must_not_be_called_back_stays_out_and_that_is_told_once() {
    for kind in [LeaseKind::Drain, LeaseKind::Maintenance] {
        let mut world = running(2);
        let no_recall = Asked { recallable: false, ..asked(scope(2), kind, 60 * MINUTE) };
        world.take(no_recall).unwrap();
        world.dead.insert(ip(1));
        world.run(2 * MINUTE);
        assert!(!is_in(&world, 2));
        assert_eq!((world.seen(EventKind::TooFew), world.seen(EventKind::Recalled)), (1, 0), "{kind:?}");
    }
}

#[test]
fn lease_that_would_leave_too_few_or_one_is_refused_or_questioned() {
    let mut world = running(2);
    let unsure = Asked { consent: Consent::default(), ..asked(scope(2), LeaseKind::Drain, MINUTE) };
    let Err(Refusal::Unconfirmed(why)) = world.take(unsure.clone()) else { panic!("one would be left") };
    assert!(why.contains("web-1 alone is left in rotation"), "{why}");
    world.take(Asked { consent: Consent::sure(), ..unsure.clone() }).unwrap();
    world.run(SECOND);
    let Err(Refusal::TooFew(why)) = world.take(asked(scope(1), LeaseKind::Drain, MINUTE)) else { panic!("none") };
    assert!(why.contains("0 left in rotation, and min_in_rotation is 1"), "{why}");
    // Who is out already is not missed again.
    world.take(asked(scope(2), LeaseKind::Maintenance, MINUTE)).unwrap();
}

#[test]
fn lease_out_of_bounds_is_refused() {
    let mut world = running(3);
    let day = 24 * 60 * MINUTE;
    let refused = |world: &mut World, asked| matches!(world.take(asked), Err(Refusal::Bounds(_)));
    assert!(refused(&mut world, asked(scope(2), LeaseKind::Drain, 3 * day + SECOND)));
    assert!(refused(&mut world, asked(scope(2), LeaseKind::Drain, Duration::ZERO)));
    assert!(refused(&mut world, Asked { reason: " ".to_owned(), ..asked(scope(2), LeaseKind::Drain, MINUTE) }));
    world.take(asked(scope(2), LeaseKind::Drain, 2 * day)).unwrap();
    let lease = world.core.extended(&scope(2), day).unwrap();
    world.begin(lease, "grace");
    assert!(matches!(world.core.extended(&scope(2), SECOND), Err(Refusal::Bounds(_))));
    assert!(matches!(world.core.extended(&scope(1), SECOND), Err(Refusal::NoLease(_))));
    let nobody = Scope { backend: BackendName::new("web-99").unwrap(), service: None };
    assert!(matches!(world.take(asked(nobody, LeaseKind::Drain, MINUTE)), Err(Refusal::NotFound(_))));
}

#[test]
fn removed_server_is_missed_and_escalates_until_it_returns_or_is_forgotten() {
    let mut world = running(3);
    world.configure(Arc::new(config(vec![service(1)])));
    let missed = |w: &World| w.removed.keys().map(|s| s.to_string()).collect::<Vec<_>>();
    assert_eq!(missed(&world), ["web-2 in web", "web-3 in web"]);
    world.run(11 * MINUTE);
    assert_eq!(world.seen(EventKind::Overdue), 2);
    world.restart(world.config());
    assert_eq!(missed(&world), ["web-2 in web", "web-3 in web"]);
    world.configure(Arc::new(config(vec![service(2)])));
    assert_eq!(missed(&world), ["web-3 in web"]);
    assert_eq!(world.seen(EventKind::Returned), 1);
    world.give(Input::Forget(scope(3), "grace".to_owned()));
    assert!(missed(&world).is_empty());
    assert_eq!(world.seen(EventKind::Forgotten), 1);
}

#[test]
fn server_removed_while_no_daemon_ran_is_missed_too() {
    let mut world = running(3);
    world.restart(Arc::new(config(vec![service(2)])));
    assert_eq!(world.removed.keys().map(|s| s.to_string()).collect::<Vec<_>>(), ["web-3 in web"]);
}

#[test]
fn server_in_maintenance_that_is_removed_gets_no_packet_again_while_it_leaves() {
    let mut world = running(3);
    world.take(asked(scope(3), LeaseKind::Maintenance, 30 * MINUTE)).unwrap();
    world.run(SECOND);
    world.kernel.open_flow(0, 2);
    let id = world.members()[2].id.unwrap();
    let closed = |w: &World| w.kernel.read_state().members[&id].hop.is_closed();
    assert!(closed(&world));
    let mut without = config(vec![service(2)]);
    without.backends.remove(&backend(3).name);
    world.configure(Arc::new(without.clone()));
    world.run(MINUTE);
    assert!(world.core.leaving().contains_key(&id) && closed(&world), "its hop is back");
    // The next daemon knows it by what the kernel holds alone.
    world.restart(Arc::new(without));
    world.run(MINUTE);
    assert!(world.core.leaving().contains_key(&id) && closed(&world), "its hop is back after a restart");
}
