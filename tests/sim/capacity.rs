//! The capacity guard, N-1 and accepted risks in the stories, and one scripted story for each promise about them.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rollcall::config::model::{BackendName, Config, ServiceName};
use rollcall::core::api::{EventKind, Input, NMinusOne, RollCall, Scope};
use rollcall::core::capacity::Consent;
use rollcall::core::guard::Verdict;
use rollcall::core::lease::{Asked, LeaseKind, Refusal};
use rollcall::core::reason::ReasonKind;

use crate::configs::{backend, config, service};
use crate::leases::{self, scope};
use crate::memory::source;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// What must hold of risks, whatever happened.
pub fn check(world: &World, call: &RollCall) {
    let in_force = call.risks.iter().map(|risk| (&risk.service, risk.granted_ms));
    assert!(
        in_force.eq(world.risks.values().map(|risk| (&risk.service, risk.granted_ms))),
        "risks are not those stored"
    );
    for risk in &call.risks {
        assert!(risk.ends.boot_ms > world.now.boot_ms, "the risk of {} is past its end", risk.place());
    }
}

/// What must hold after each count of flows: while a server in rotation has more than it carries, no other one of its
/// service that is well stays drained, unless its owner said so, or one is on its way back.
pub fn check_counted(world: &World) {
    let (call, config) = (world.core.roll_call(world.now), world.config());
    let all = || call.services.iter().flat_map(|s| &s.members);
    let flows = |name: &BackendName| -> u64 {
        all().filter(|m| m.backend == *name).filter_map(|m| Some(world.kernel.load(m.id?).active)).sum()
    };
    let counted = |name: &BackendName| all().filter(|m| m.backend == *name).all(|m| m.load.is_some());
    for service in &call.services {
        let overloaded = service.members.iter().find(|m| {
            let most = config.backends[&m.backend].max_flows;
            m.effective > 0 && most.is_some_and(|most| flows(&m.backend) > most.into())
        });
        let known = service.members.iter().all(|m| counted(&m.backend));
        let returning = service.members.iter().any(|m| m.reasons.iter().any(|r| r.kind == ReasonKind::Returning));
        let Some(overloaded) = overloaded.filter(|_| known && !returning) else { continue };
        for member in &service.members {
            let covers =
                |s: &Scope| s.backend == member.backend && s.service.as_ref().is_none_or(|name| *name == service.name);
            let leases: Vec<_> = call.leases.iter().filter(|l| covers(&l.scope)).collect();
            let [lease] = leases[..] else { continue };
            let answered = member.last_probe.as_ref().is_none_or(|p| p.error.is_none());
            let well = answered && member.reasons.iter().all(|r| r.kind == ReasonKind::Drained);
            let short = call.memory.iter().any(|m| m.backend == member.backend && m.memory.is_short());
            assert!(
                !(lease.recallable && lease.kind == LeaseKind::Drain && well && !short),
                "{} has more than it carries, and {} stays drained",
                overloaded.backend,
                member.backend
            );
        }
    }
}

/// A story's turn: a risk is accepted or withdrawn.
pub fn risk_some(world: &mut World) {
    let services: Vec<ServiceName> = world.config().services.iter().map(|s| s.name.clone()).collect();
    let service = services.get(world.rng.random_range(0..2 * services.len())).cloned();
    if world.rng.random_range(0..3) == 0 {
        world.give(Input::Withdraw(service, "grace".to_owned()));
    } else {
        let length = Duration::from_secs(world.rng.random_range(1..900));
        world.accept(service, length).unwrap();
    }
}

fn asked(n: u8) -> Asked {
    leases::asked(scope(n), LeaseKind::Drain, 60 * MINUTE)
}

fn limited(mut config: Config, max_flows: u32) -> Config {
    config.backends.values_mut().for_each(|b| b.max_flows = Some(max_flows));
    config
}

/// One service with `members` backends in rotation, each of which carries `max_flows`, and `flows` flows in equal parts.
fn running(members: u8, max_flows: u32, flows: u32) -> World {
    let mut world = World::new(1, 16384);
    world.start(Arc::new(limited(config(vec![service(members)]), max_flows)), false);
    world.run_until(SECOND, |w| w.settled() && w.members().iter().all(|m| m.in_rotation));
    open(&mut world, flows);
    world.count_flows();
    world
}

fn open(world: &mut World, flows: u32) {
    (0..flows).for_each(|n| world.kernel.open_flow(0, n));
}

/// Time passes as on a daemon: flows are counted every ten seconds.
fn pass(world: &mut World, time: Duration) {
    for _ in 0..time.as_secs() / 10 {
        world.run(10 * SECOND);
        world.count_flows();
    }
}

fn n_minus_1(world: &World) -> NMinusOne {
    world.core.roll_call(world.now).services[0].n_minus_1.clone().expect("flows were counted")
}

fn is_in(world: &World, n: u8) -> bool {
    world.members().iter().find(|m| m.backend == backend(n).name).is_some_and(|m| m.in_rotation)
}

#[test]
fn drain_that_the_others_cannot_carry_is_refused_with_the_evidence_and_can_be_overridden() {
    let mut world = running(3, 149, 300);
    let Err(Refusal::DoesNotFit(why)) = world.take(asked(3)) else { panic!("two would have 150 each") };
    let each = |n| format!("web-{n} would have 150 active flows instead of 100: its max_flows is 149");
    assert_eq!(why, format!("service web: {}; {}", each(1), each(2)));
    assert!(world.leases.is_empty());
    let overriding = Consent { sure: false, override_guard: Some("it burns".to_owned()) };
    world.take(Asked { consent: overriding, ..asked(3) }).unwrap();
    pass(&mut world, MINUTE);
    assert!(!is_in(&world, 3), "what was overridden is no reason to call it back");
    let event = world.events.iter().find(|e| e.kind == EventKind::GuardOverridden).expect("it is told");
    assert_eq!(
        (event.by.as_deref(), event.cause.as_str()),
        (Some("ada"), &*format!("by ada: it burns; against it: {why}"))
    );
    assert_eq!(world.seen(EventKind::Outgrown), 1);
}

#[test]
fn drain_that_nobody_can_judge_is_asked_about_and_one_that_fits_is_not() {
    let mut world = running(3, 150, 300);
    let unsure = Asked { consent: Consent::default(), ..asked(3) };
    world.take(unsure.clone()).unwrap();
    pass(&mut world, 5 * MINUTE);
    assert!(!is_in(&world, 3), "it fits");
    // Without limits, nothing is known of what they carry.
    let mut world = World::new(1, 16384);
    world.start(Arc::new(config(vec![service(3)])), false);
    world.run(30 * SECOND);
    let Err(Refusal::Unconfirmed(why)) = world.take(unsure.clone()) else { panic!("flows were never counted") };
    assert!(why.contains("web-1: how many flows there are is not known yet"), "{why}");
    world.count_flows();
    world.take(unsure).unwrap();
}

#[test]
fn drain_is_ended_at_the_first_count_by_which_the_others_cannot_carry_the_load() {
    let mut world = running(3, 150, 240);
    world.take(asked(3)).unwrap();
    pass(&mut world, MINUTE);
    assert!(!is_in(&world, 3));
    // Half of these go to web-1, half to web-2: 161 each would be more than they carry, counting the 80 that leave web-3.
    open(&mut world, 82);
    world.count_flows();
    assert_eq!(world.seen(EventKind::Recalled), 1);
    let recalled = world.events.iter().find(|e| e.kind == EventKind::Recalled).unwrap();
    let words = "service web: web-1 would have 161 active flows instead of 121: its max_flows is 150";
    assert!(recalled.cause.starts_with(words), "{}", recalled.cause);
    world.run_until(10 * SECOND, |w| is_in(w, 3));
}

#[test]
fn maintenance_that_the_others_cannot_carry_any_more_is_told_once_and_not_ended() {
    let mut world = running(3, 150, 240);
    world.take(Asked { kind: LeaseKind::Maintenance, ..asked(3) }).unwrap();
    world.run(SECOND);
    open(&mut world, 82);
    pass(&mut world, MINUTE);
    assert!(!is_in(&world, 3));
    assert_eq!((world.seen(EventKind::Outgrown), world.seen(EventKind::Recalled)), (1, 0));
    let outgrown = world.core.roll_call(world.now).services[0].outgrown.clone().expect("it stands");
    assert_eq!(outgrown.scope, scope(3));
    world.kernel.close_flows(|_| true);
    world.count_flows();
    assert_eq!(world.core.roll_call(world.now).services[0].outgrown, None);
}

#[test]
fn drain_while_all_others_are_short_of_memory_is_refused_instead_of_ended_at_once() {
    let mut world = World::new(1, 16384);
    let mut config = config(vec![service(3)]);
    config.backends.values_mut().for_each(|b| b.memory = Some(source()));
    world.memory = (1..=3).map(|n| (backend(n).name, if n == 3 { 0.5 } else { 0.05 })).collect();
    world.start(Arc::new(config), false);
    world.run(MINUTE);
    open(&mut world, 30);
    world.count_flows();
    let Err(Refusal::DoesNotFit(why)) = world.take(asked(3)) else { panic!("both others are short") };
    assert!(why.contains("web-1 would have ") && why.contains("its memory is short already (5.0 % headroom)"), "{why}");
    // One of the short ones may go.
    world.take(asked(1)).unwrap_err();
}

#[test]
fn weight_and_removal_are_measured_like_a_drain() {
    let world = running(3, 120, 300);
    let ask = |n, weight| world.core.check_edit(&scope(n), weight, &Consent::default());
    let Err(Refusal::DoesNotFit(why)) = ask(1, NonZeroU16::new(2)) else { panic!("half of 300") };
    assert_eq!(why, "service web: web-1 would have 150 active flows instead of 100: its max_flows is 120");
    assert_eq!(ask(1, NonZeroU16::new(1)), Ok(None));
    assert!(matches!(ask(2, None), Err(Refusal::DoesNotFit(_))));
    let overriding = Consent { sure: false, override_guard: Some("it burns".to_owned()) };
    let overridden = world.core.check_edit(&scope(2), None, &overriding).unwrap().unwrap();
    assert!(overridden.starts_with("it burns; against it: service web: web-1 would have 150"), "{overridden}");
    assert_eq!(world.core.check_edit(&scope(9), None, &Consent::default()), Ok(None), "it is in no service");
}

#[test]
fn loss_that_could_not_be_borne_is_an_alarm_after_two_minutes_and_over_after_two() {
    let mut world = running(2, 150, 160);
    let words = "if web-1 is lost, web-2 would have 160 active flows instead of 80: its max_flows is 150";
    assert_eq!((n_minus_1(&world).verdict, n_minus_1(&world).evidence.as_str()), (Verdict::DoesNotFit, words));
    pass(&mut world, MINUTE + 50 * SECOND);
    assert_eq!((n_minus_1(&world).alarm, world.seen(EventKind::NMinusOneUnmet)), (None, 0));
    pass(&mut world, 20 * SECOND);
    assert_eq!(world.seen(EventKind::NMinusOneUnmet), 1);
    assert!(n_minus_1(&world).alarm.is_some());
    world.kernel.close_flows(|_| true);
    pass(&mut world, MINUTE);
    assert_eq!((n_minus_1(&world).verdict, n_minus_1(&world).alarm.is_some()), (Verdict::Fits, true));
    // A relapse begins the two minutes again.
    open(&mut world, 160);
    world.count_flows();
    world.kernel.close_flows(|_| true);
    pass(&mut world, MINUTE + 50 * SECOND);
    assert_eq!(world.seen(EventKind::NMinusOneMet), 0);
    pass(&mut world, 30 * SECOND);
    assert_eq!((world.seen(EventKind::NMinusOneMet), n_minus_1(&world).alarm), (1, None));
}

#[test]
fn single_server_is_never_safe_and_what_cannot_be_told_is_no_alarm() {
    let mut world = running(1, 1000, 10);
    pass(&mut world, 3 * MINUTE);
    assert_eq!(n_minus_1(&world).evidence, "if web-1 is lost, nobody is left in rotation");
    assert_eq!(world.seen(EventKind::NMinusOneUnmet), 1);
    let mut world = World::new(1, 16384);
    world.start(Arc::new(config(vec![service(2)])), false);
    world.run(30 * SECOND);
    open(&mut world, 20);
    pass(&mut world, 5 * MINUTE);
    assert_eq!((n_minus_1(&world).verdict, world.seen(EventKind::NMinusOneUnmet)), (Verdict::CannotTell, 0));
}

#[test]
fn load_that_was_carried_is_evidence_also_after_a_restart() {
    let mut world = World::new(1, 16384);
    let mut config = config(vec![service(2)]);
    config.backends.values_mut().for_each(|b| b.memory = Some(source()));
    world.memory = (1..=2).map(|n| (backend(n).name, 0.5)).collect();
    let config = Arc::new(config);
    world.start(config.clone(), false);
    world.run(MINUTE);
    open(&mut world, 200);
    pass(&mut world, 13 * MINUTE);
    world.kernel.close_flows(|_| true);
    open(&mut world, 90);
    world.restart(config);
    world.run(MINUTE);
    world.count_flows();
    let words = "if web-1 is lost, web-2 would have 90 active flows instead of 45: it carried 100 active flows for ten \
                 minutes with 50 % of its memory left";
    assert_eq!((n_minus_1(&world).verdict, n_minus_1(&world).evidence.as_str()), (Verdict::Fits, words));
}

#[test]
fn accepted_risk_is_stored_survives_a_reboot_and_ends_by_itself() {
    let mut world = running(1, 1000, 10);
    let web = ServiceName::new("web");
    assert!(matches!(world.accept(web.clone(), 91 * DAY), Err(Refusal::Bounds(_))));
    assert!(matches!(world.accept(ServiceName::new("api"), DAY), Err(Refusal::NotFound(_))));
    world.accept(web.clone(), DAY).unwrap();
    world.accept(None, DAY / 2).unwrap();
    let config = world.config();
    world.reboot(config, 6 * 60 * MINUTE, 0);
    assert_eq!(world.core.roll_call(world.now).risks.len(), 2);
    world.run(6 * 60 * MINUTE + SECOND);
    assert_eq!((world.core.roll_call(world.now).risks.len(), world.seen(EventKind::RiskEnded)), (1, 1));
    assert!(world.core.check_withdraw(None).is_err());
    world.give(Input::Withdraw(web, "grace".to_owned()));
    assert_eq!((world.risks.len(), world.seen(EventKind::RiskWithdrawn)), (0, 1));
}
