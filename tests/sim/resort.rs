//! Tiers, the last resort and slow start: what holds at every moment of every story, and one scripted story for each promise.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rollcall::config::model::{Config, Listen, Panic, Service, Tier};
use rollcall::core::api::{EventKind, MemberCall, RollCall, ServiceCall, Time};
use rollcall::core::lease::LeaseKind;
use rollcall::core::reason::ReasonKind;

use crate::configs::{config, service};
use crate::leases::{asked, scope};
use crate::scenarios::{SECOND, all_in, ip, rotation};
use crate::world::World;

/// What a member is, whatever its name.
type Who = (Listen, IpAddr, u16);
/// Since when it is on its way to its full weight, and the last sixteenths.
type Step = (Time, u8);

/// What was seen before, by what the member is.
#[derive(Default)]
pub struct Seen {
    /// Since when a backup stands by although nobody is in rotation.
    idle: BTreeMap<Listen, u64>,
    ramps: BTreeMap<Who, Step>,
}

fn says(member: &MemberCall, kind: ReasonKind) -> bool {
    member.reasons.iter().any(|r| r.kind == kind)
}

/// What must hold of tiers, panic and ramps, whatever happened.
pub fn check(world: &mut World, call: &RollCall) {
    let config = world.config();
    let mut ramps = BTreeMap::new();
    for (service, configured) in call.services.iter().zip(&config.services) {
        for member in &service.members {
            assert!(member.tier == Tier::Backup || !says(member, ReasonKind::Backup), "{}", member.backend);
            let panics = says(member, ReasonKind::Panic);
            assert!(!panics || member.effective == u32::from(member.weight) * 256, "{}", member.backend);
            assert!(!panics || service.panic.is_some() && configured.panic == Panic::All, "{}", member.backend);
            ramps.extend(check_ramp(world, service, member));
        }
        // Panic is for those that cannot serve: nobody who is in has nothing against it.
        let alone = |m: &&MemberCall| m.effective > 0 && !says(m, ReasonKind::Panic);
        assert!(
            service.panic.is_none() || !service.members.iter().any(|m| alone(&m)),
            "{}: panic for fun",
            service.name
        );
        check_backups(world, service, configured);
    }
    world.seen_of_tiers.ramps = ramps;
}

/// Never nobody in rotation while a backup can serve, but for the time that it takes to decide.
fn check_backups(world: &mut World, service: &ServiceCall, configured: &Service) {
    let nobody = service.members.iter().all(|m| m.effective == 0);
    let idle = nobody && service.members.iter().any(MemberCall::is_standby);
    let probe = configured.probe.as_ref();
    let decided = probe.map_or(5 * SECOND, |p| (p.interval + p.timeout).max(5 * SECOND));
    let now = world.now.boot_ms;
    if !idle {
        world.seen_of_tiers.idle.remove(&service.listen);
        return;
    }
    let since = *world.seen_of_tiers.idle.entry(service.listen).or_insert(now);
    assert!(now - since <= decided.as_millis() as u64, "{}: a backup stands by, nobody serves", service.name);
}

/// A ramp only goes up, ends in time, and is nobody's who is needed in full.
fn check_ramp(world: &World, service: &ServiceCall, member: &MemberCall) -> Option<(Who, Step)> {
    let reason = member.reasons.iter().find(|r| r.kind == ReasonKind::Ramping)?;
    let who = (service.listen, member.address, member.port);
    let level: u8 = reason.cause.split('/').next().and_then(|n| n.parse().ok()).expect("its level");
    let ends = reason.review_at.expect("it ends");
    assert!(world.now.boot_ms < ends.boot_ms && (1..16).contains(&level), "{reason:?}");
    let full = |m: &MemberCall| m.effective > 0 && !says(m, ReasonKind::Ramping);
    assert!(service.members.iter().any(full), "{} ramps and nobody is there for it", member.backend);
    let before = world.seen_of_tiers.ramps.get(&who).filter(|(since, _)| *since == reason.since);
    assert!(before.is_none_or(|(_, before)| *before <= level), "{} went down on its ramp", member.backend);
    Some((who, (reason.since, level)))
}

/// Makes some of a service's members backups, and gives it some last resort and slow start.
pub fn vary(rng: &mut StdRng, service: &mut Service) {
    if rng.random_range(0..3) == 0 {
        for member in service.members.iter_mut().skip(1) {
            member.tier = if rng.random() { Tier::Backup } else { Tier::Primary };
        }
    }
    service.panic = if rng.random_range(0..3) == 0 { Panic::All } else { Panic::Refuse };
    service.slow_start = rng.random::<bool>().then(|| Duration::from_secs(rng.random_range(5..30)));
}

/// Two primaries and a backup.
fn tiered() -> Service {
    let mut service = service(3);
    service.members[2].tier = Tier::Backup;
    service
}

fn running(service: Service) -> World {
    with(config(vec![service]))
}

fn with(config: Config) -> World {
    let mut world = World::new(1, 16384);
    world.start(Arc::new(config), false);
    world.run(30 * SECOND);
    assert!(world.settled());
    world
}

fn call(world: &World) -> ServiceCall {
    world.core.roll_call(world.now).services.swap_remove(0)
}

fn effective(world: &World) -> Vec<u32> {
    world.members().iter().map(|m| m.effective).collect()
}

#[test]
fn backup_stands_by_for_hours_and_nothing_escalates() {
    let mut world = running(tiered());
    world.run(2 * 3600 * SECOND);
    assert_eq!(rotation(&world), [true, true, false]);
    let backup = &world.members()[2];
    assert!(backup.is_standby() && backup.reasons[0].review_at.is_none(), "{backup:#?}");
    assert_eq!((world.seen(EventKind::Overdue), world.seen(EventKind::BackupStandby)), (0, 1));
    assert_eq!((world.seen(EventKind::BackupInUse), world.seen(EventKind::OutOfRotation)), (0, 0));
    // A dead backup is missed like any other.
    world.dead.insert(ip(3));
    world.run(11 * 60 * SECOND);
    assert!(!world.members()[2].is_standby());
    assert_eq!((world.seen(EventKind::Down), world.seen(EventKind::Overdue)), (1, 1));
}

#[test]
fn backup_serves_while_no_primary_can_and_leaves_when_one_has_for_a_while() {
    let mut world = running(tiered());
    world.dead.insert(ip(1));
    world.run(20 * SECOND);
    assert_eq!(rotation(&world), [false, true, false]);
    world.dead.insert(ip(2));
    world.run_until(8 * SECOND, |w| rotation(w) == [false, false, true]);
    assert!(call(&world).backup_in_use.is_some());
    world.dead.remove(&ip(1));
    world.run_until(8 * SECOND, |w| rotation(w) == [true, false, true]);
    // It fails again at once: the ten seconds begin anew.
    world.run(SECOND);
    world.dead.insert(ip(1));
    world.run_until(8 * SECOND, |w| rotation(w) == [false, false, true]);
    world.dead.remove(&ip(1));
    world.run_until(8 * SECOND, |w| rotation(w) == [true, false, true]);
    let took = world.run_until(15 * SECOND, |w| rotation(w) == [true, false, false]);
    assert!(took >= 9 * SECOND, "{took:?}");
    assert_eq!(call(&world).backup_in_use, None);
    assert_eq!(world.seen(EventKind::BackupInUse), 1);
}

#[test]
fn backup_waits_at_a_cold_start_for_primaries_that_are_slow_to_answer() {
    let mut world = World::new(1, 16384);
    world.dead.insert(ip(1));
    world.dead.insert(ip(2));
    world.start(Arc::new(config(vec![tiered()])), false);
    world.run(SECOND);
    assert_eq!(rotation(&world), [false, false, true]);
    let mut world = running(tiered());
    assert_eq!(world.seen(EventKind::BackupInUse), 0);
    world.restart(world.config());
    assert_eq!(rotation(&world), [true, true, false]);
    world.run(30 * SECOND);
    assert!(world.members()[2].is_standby());
    assert_eq!((world.seen(EventKind::BackupInUse), world.seen(EventKind::InRotation)), (0, 2));
}

#[test]
fn backups_in_use_stay_so_over_a_restart() {
    let mut world = running(tiered());
    world.dead.insert(ip(1));
    world.run(20 * SECOND);
    world.dead.insert(ip(2));
    world.run(20 * SECOND);
    world.restart(world.config());
    for _ in 0..20 {
        world.run(SECOND);
        assert_eq!(rotation(&world), [false, false, true]);
    }
}

#[test]
fn drained_servers_come_back_only_after_the_backups() {
    let mut world = running(tiered());
    world.take(asked(scope(2), LeaseKind::Drain, 3600 * SECOND)).unwrap();
    world.dead.insert(ip(1));
    world.run(20 * SECOND);
    assert_eq!((rotation(&world), world.seen(EventKind::Recalled)), (vec![false, false, true], 0));
    world.dead.insert(ip(3));
    world.run_until(20 * SECOND, |w| rotation(w) == [false, true, false]);
    assert_eq!(world.seen(EventKind::Recalled), 1);
}

#[test]
fn panic_lets_all_in_but_who_is_kept_out_on_purpose_until_the_first_is_up() {
    let mut all = service(4);
    all.panic = Panic::All;
    let mut world = running(all);
    world.take(asked(scope(4), LeaseKind::Maintenance, 3600 * SECOND)).unwrap();
    for n in 1..=3 {
        world.dead.insert(ip(n));
        world.run(20 * SECOND);
    }
    assert_eq!(rotation(&world), [true, true, true, false]);
    assert!(call(&world).panic.is_some() && says(&world.members()[0], ReasonKind::Panic));
    assert_eq!((world.seen(EventKind::Panic), world.seen(EventKind::EdgeSuspected)), (1, 0));
    world.dead.remove(&ip(2));
    world.run_until(8 * SECOND, |w| rotation(w) == [false, true, false, false]);
    assert_eq!((call(&world).panic, world.seen(EventKind::PanicOver)), (None, 1));
}

#[test]
fn panic_waits_for_backups_and_for_drained_servers_that_are_well() {
    let mut all = tiered();
    (all.panic, all.min_in_rotation) = (Panic::All, 0);
    let mut world = running(all);
    world.take(asked(scope(2), LeaseKind::Drain, 3600 * SECOND)).unwrap();
    world.dead.insert(ip(1));
    world.run(20 * SECOND);
    assert_eq!(rotation(&world), [false, false, true]);
    world.dead.insert(ip(3));
    world.run(20 * SECOND);
    assert_eq!((rotation(&world), world.seen(EventKind::Panic)), (vec![false, true, false], 0));
    world.dead.insert(ip(2));
    world.run(20 * SECOND);
    assert_eq!((rotation(&world), world.seen(EventKind::Panic)), (vec![true; 3], 1));
}

#[test]
fn refusal_is_the_default_where_nobody_can_serve() {
    let mut world = running(service(2));
    for n in 1..=2 {
        world.dead.insert(ip(n));
        world.run(20 * SECOND);
    }
    assert_eq!((rotation(&world), world.seen(EventKind::Panic)), (vec![false; 2], 0));
}

#[test]
fn server_that_comes_back_gets_its_weight_in_steps_within_its_time() {
    let mut slow = service(3);
    slow.slow_start = Some(30 * SECOND);
    let mut world = running(slow);
    assert_eq!((effective(&world), world.seen(EventKind::Ramping)), (vec![256; 3], 0), "none at a start");
    world.dead.insert(ip(2));
    world.run(20 * SECOND);
    world.dead.clear();
    world.run_until(8 * SECOND, |w| w.members()[1].in_rotation);
    assert_eq!(effective(&world), [256, 16, 256]);
    let (mut levels, mut last) = (0, 16);
    for _ in 0..300 {
        world.run(SECOND / 10);
        let now = world.members()[1].effective;
        assert!(now == last || now == last + 16, "{last} {now}");
        levels += u32::from(now != last);
        last = now;
    }
    assert_eq!((levels, last, world.members()[1].reasons.len()), (15, 256, 0));
    assert_eq!((world.seen(EventKind::Ramping), world.seen(EventKind::Ramped)), (1, 1));
}

/// Three servers, the second of which was down and is on its way back to its weight.
fn ramping() -> World {
    let mut slow = service(3);
    slow.slow_start = Some(600 * SECOND);
    let mut world = running(slow);
    world.dead.insert(ip(2));
    world.run(20 * SECOND);
    world.dead.clear();
    world.run(20 * SECOND);
    assert!(effective(&world)[1] < 256);
    world
}

#[test]
fn ramp_is_cut_short_when_the_others_are_needed_no_less() {
    let mut world = ramping();
    world.dead.insert(ip(1));
    world.run(20 * SECOND);
    assert_eq!(effective(&world), [0, 256, 256]);
    // The next to come meets enough at full weight.
    world.dead.clear();
    world.run_until(8 * SECOND, |w| w.members()[0].in_rotation);
    assert_eq!(effective(&world), [16, 256, 256]);
}

#[test]
fn servers_come_back_together_after_a_mass_failure() {
    for seed in 0..30 {
        let mut slow = service(5);
        slow.slow_start = Some(30 * SECOND);
        let mut world = World::new(seed, 16384);
        world.start(Arc::new(config(vec![slow])), false);
        world.run_until(SECOND, all_in);
        for n in 1..=5 {
            world.run(7 * SECOND + SECOND * seed as u32 / 10);
            world.dead.insert(ip(n));
        }
        world.run(20 * SECOND);
        assert_eq!(rotation(&world), [false; 5]);
        world.dead.clear();
        world.run_until(8 * SECOND, all_in);
        assert_eq!(effective(&world), [256; 5], "seed {seed}");
    }
}

#[test]
fn ramp_goes_on_from_full_under_a_new_daemon() {
    let mut world = ramping();
    world.restart(world.config());
    world.run(SECOND);
    assert_eq!(effective(&world), [256; 3]);
}
