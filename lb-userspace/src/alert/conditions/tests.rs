use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::config::model::{BackendName, ServiceName};
use crate::control::daemon::Warning;
use crate::control::testing::{self, before};
use crate::core::api::{Event, LastProbe, MemberName, MemoryCall, SilentAgent, Skew, Suspicion};
use crate::core::removed::Removed;

fn keys(view: &View, load: &Load) -> BTreeSet<String> {
    let found = conditions(view, load, view.roll_call.time);
    let keys: BTreeSet<String> = found.iter().map(Condition::key).collect();
    assert_eq!(keys.len(), found.len(), "each key once: {found:#?}");
    keys
}

/// Without what the usual view has to complain of, but for `web-02`, which is down.
fn calm() -> View {
    let mut view = testing::view();
    view.file_differs = false;
    view.roll_call.services[0].members[2].reasons.clear();
    view
}

fn only<const N: usize>(keys: [&str; N]) -> BTreeSet<String> {
    keys.map(str::to_owned).into()
}

fn reason(view: &mut View) -> &mut Reason {
    &mut view.roll_call.services[0].members[1].reasons[0]
}

#[test]
fn backend_down_is_told_with_owner_since_and_cause() {
    let view = calm();
    let found = conditions(&view, &Load::default(), view.roll_call.time);
    let [down] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(down.key(), "backend_down/www/web-02");
    assert_eq!((down.owner.as_deref(), down.since), (Some("web team"), Some(before(240))));
    assert_eq!(down.summary, "web-02 in www is down: connection refused");
}

#[test]
fn service_without_n_minus_1_is_told_of_unless_somebody_accepted_that() {
    let mut view = calm();
    let (n_minus_1, outgrown) = testing::capacity();
    let dns = &mut view.roll_call.services[1];
    (dns.n_minus_1, dns.outgrown) = (n_minus_1, outgrown);
    let other = "backend_down/www/web-02";
    assert_eq!(keys(&view, &Load::default()), only(["n_minus_1/dns", "outgrown/dns", other]));
    view.roll_call.risks = vec![testing::risk()];
    assert_eq!(keys(&view, &Load::default()), only(["outgrown/dns", other]));
    view.roll_call.risks[0].service = ServiceName::new("www");
    assert_eq!(keys(&view, &Load::default()), only(["n_minus_1/dns", "outgrown/dns", other]));
    // Before it has stood for its time, or where nobody can tell, there is no alarm.
    let dns = &mut view.roll_call.services[1];
    dns.outgrown = None;
    dns.n_minus_1.as_mut().unwrap().alarm = None;
    assert_eq!(keys(&view, &Load::default()), only([other]));
}

#[test]
fn backend_that_was_not_looked_at_yet_is_not_told_of() {
    let mut view = calm();
    view.roll_call.services[0].members[1].last_probe = None;
    assert_eq!(keys(&view, &Load::default()), only([]));
    let now = view.roll_call.time;
    *reason(&mut view) = Reason { kind: ReasonKind::NoNextHop, since: before(4), ..reason(&mut view).clone() };
    assert_eq!(keys(&view, &Load::default()), only([]));
    view.roll_call.time = now + Duration::from_secs(1);
    assert_eq!(keys(&view, &Load::default()), only(["backend_down/www/web-02"]));
}

#[test]
fn backend_on_leave_is_not_down_and_one_that_does_not_return_is_told() {
    let mut view = calm();
    let second = Reason { kind: ReasonKind::Drained, ..reason(&mut view).clone() };
    view.roll_call.services[0].members[1].reasons.push(second);
    assert_eq!(keys(&view, &Load::default()), only([]));
    let member = &mut view.roll_call.services[0].members[1];
    member.reasons[1].kind = ReasonKind::Returning;
    assert_eq!(keys(&view, &Load::default()), only(["return_failed/www/web-02"]));
    // No probe has ended since.
    let member = &mut view.roll_call.services[0].members[1];
    member.last_probe = member.last_probe.take().map(|probe| LastProbe { time: before(300), ..probe });
    assert_eq!(keys(&view, &Load::default()), only([]));
}

#[test]
fn what_stands_past_its_review_is_overdue() {
    let mut view = calm();
    reason(&mut view).review_at = Some(before(1));
    let scope = Scope { backend: view.roll_call.services[0].members[0].backend.clone(), service: None };
    let removed = Removed {
        scope,
        since: before(900),
        by: "ada".into(),
        how: "reload".into(),
        owner: Some("web team".into()),
        review_at: before(300),
    };
    view.roll_call.removed = vec![removed];
    let wanted = ["backend_down/www/web-02", "overdue/*/web-01/removed", "overdue/www/web-02/probe_failed"];
    assert_eq!(keys(&view, &Load::default()), only(wanted));
    view.roll_call.removed[0].review_at = view.roll_call.time + Duration::from_secs(1);
    assert!(!keys(&view, &Load::default()).contains("overdue/*/web-01/removed"));
}

#[test]
fn lease_that_ends_soon_is_told_to_its_owner() {
    let mut view = calm();
    view.roll_call.leases = vec![testing::lease()];
    assert!(!keys(&view, &Load::default()).contains("lease_ending/*/web-02"));
    view.roll_call.leases[0].ends = view.roll_call.time + Duration::from_secs(200);
    let found = conditions(&view, &Load::default(), view.roll_call.time);
    let ending = found.iter().find(|c| c.kind == Kind::LeaseEnding).unwrap();
    assert_eq!(ending.owner.as_deref(), Some("ada"));
    assert!(ending.summary.contains("ends in 3 min 20 s"), "{}", ending.summary);
}

#[test]
fn too_few_and_none_in_rotation_are_told_apart() {
    let mut view = calm();
    let mut config = (*view.config).clone();
    config.services[0].min_in_rotation = 3;
    view.config = Arc::new(config);
    assert!(keys(&view, &Load::default()).contains("too_few/www"));
    view.roll_call.services[0].members.iter_mut().for_each(|m| m.in_rotation = false);
    let keys = keys(&view, &Load::default());
    assert!(keys.contains("none_in_rotation/www") && !keys.contains("too_few/www"), "{keys:?}");
}

#[test]
fn backups_in_use_and_panic_are_told_with_their_service_and_since() {
    let mut view = calm();
    view.roll_call.services[0].backup_in_use = Some(before(7));
    view.roll_call.services[1].panic = Some(before(8));
    let found = conditions(&view, &Load::default(), view.roll_call.time);
    let told = |kind| found.iter().find(|c| c.kind == kind).map(|c| (c.key(), c.since, c.owner.clone()));
    let owner = Some("web team".to_owned());
    assert_eq!(told(Kind::BackupInUse), Some(("backup_in_use/www".to_owned(), Some(before(7)), owner.clone())));
    assert_eq!(told(Kind::Panic), Some(("panic/dns".to_owned(), Some(before(8)), owner)));
}

#[test]
fn limits_that_are_reached_are_told() {
    let mut view = calm();
    let full = Reason { kind: ReasonKind::AtLimit, cause: "9 active flows".into(), ..reason(&mut view).clone() };
    view.roll_call.services[0].members[0].reasons = vec![full];
    view.roll_call.services[1].at_limit = Some(before(8));
    let wanted = ["at_limit/www/web-01", "backend_down/www/web-02", "service_at_limit/dns"];
    assert_eq!(keys(&view, &Load::default()), only(wanted));
}

#[test]
fn suspected_edge_stands_for_its_members() {
    let mut view = calm();
    let service = ServiceName::new("www").unwrap();
    view.roll_call.suspicions = vec![Suspicion { service, since: before(9), cause: "2 of 3 failed".into() }];
    assert_eq!(keys(&view, &Load::default()), only(["edge_suspected/www"]));
}

#[test]
fn warnings_and_file_become_conditions_and_generic_mode_does_not() {
    let mut view = calm();
    view.file_differs = true;
    let all = [Topic::Invariant, Topic::Drift, Topic::Pins, Topic::Apply, Topic::Record, Topic::Mode, Topic::Alerts];
    view.warnings = all.map(|topic| Warning { topic, text: "text".into() }).into();
    let rest = ["audit_drift/maps", "audit_drift/pins", "backend_down/www/web-02", "invariant_broken"];
    let mut wanted = only(rest);
    wanted.extend(only(["not_applied/maps", "not_recorded/record", "file_differs"]));
    assert_eq!(keys(&view, &Load::default()), wanted);
    // A bad file is not what runs, either; that is one trouble.
    view.warnings = vec![Warning { topic: Topic::BadFile, text: "bad".into() }];
    assert_eq!(keys(&view, &Load::default()), only(["backend_down/www/web-02", "bad_file"]));
}

#[test]
fn limits_are_told_from_seventy_percent() {
    let view = calm();
    let most = u64::from(view.config.conntrack.max_flows);
    let ports = 64_512u64;
    // Members 1 and 4 are one server's port.
    let half = ports * 35 / 100 + 1;
    let load = Load { kept: [most * 7 / 10 + 1, most * 6 / 10], active: BTreeMap::from([(1, half), (4, half)]) };
    let wanted = ["backend_down/www/web-02", "flows_near_full/IPv4", "ports_near_full/web-01/8080"];
    assert_eq!(keys(&view, &load), only(wanted));
    let load = Load { kept: [most * 7 / 10 - 1, 0], active: BTreeMap::from([(1, half), (4, half - 9)]) };
    assert_eq!(keys(&view, &load), only(["backend_down/www/web-02"]));
}

#[test]
fn old_picture_is_the_only_trouble_told() {
    let view = calm();
    let found = conditions(&view, &Load::default(), view.roll_call.time + Duration::from_secs(31));
    assert_eq!(found.iter().map(Condition::key).collect::<Vec<_>>(), ["daemon_stuck"]);
}

#[test]
fn memory_is_told_of_by_what_is_wrong_with_it() {
    let mut view = calm();
    view.roll_call.services[0].members[1].reasons.clear();
    let of = |memory, headroom, forecast, ends| MemoryCall {
        backend: BackendName::new("web-02").unwrap(),
        memory,
        since: before(60),
        headroom,
        sample: None,
        forecast,
        ends,
    };
    let exhausts = Forecast::Exhausts {
        near: Duration::from_secs(900),
        middle: Duration::from_secs(1500),
        far: Duration::from_secs(3000),
    };
    let unknown = Memory::Unknown { since: before(60), why: "connection refused".into() };
    for (call, key, says) in [
        (of(Memory::Tight, Some(0.12), Forecast::NoTrend, None), "memory_short/*/web-02", "is tight, 12 % free"),
        (of(unknown, None, Forecast::CannotTell, None), "memory_unknown/*/web-02", "connection refused"),
        (of(Memory::Ample, Some(0.3), exhausts, Some(before(1))), "memory_ends/*/web-02", "in about 25 min, 15 min at"),
    ] {
        view.roll_call.memory = vec![call];
        let found = conditions(&view, &Load::default(), view.roll_call.time);
        let [one] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(one.key(), key);
        assert!(one.summary.contains(says), "{}", one.summary);
    }
    view.roll_call.memory = vec![of(Memory::Ample, Some(0.5), exhausts, None)];
    assert_eq!(keys(&view, &Load::default()), only([]), "a forecast alone is no alarm");
    let (service, backend) = (view.config.services[0].name.clone(), BackendName::new("web-02").unwrap());
    view.roll_call.stuck = vec![MemberName { service, backend }];
    assert_eq!(keys(&view, &Load::default()), only(["shedding_stuck/www/web-02"]));
}

#[test]
fn lease_of_a_service_that_is_gone_is_told_to_its_owner() {
    let mut view = calm();
    let mut lease = testing::lease();
    lease.scope.service = ServiceName::new("www");
    view.roll_call.leases = vec![lease];
    assert!(!keys(&view, &Load::default()).contains("lease_idle/www/web-02"));
    view.roll_call.leases[0].scope.service = ServiceName::new("gone");
    let found = conditions(&view, &Load::default(), view.roll_call.time);
    let idle = found.iter().find(|c| c.key() == "lease_idle/gone/web-02").unwrap();
    assert_eq!(idle.owner.as_deref(), Some("ada"));
}

#[test]
fn agent_that_does_not_answer_is_told_unless_its_server_is_leased() {
    let mut view = calm();
    let agent = SilentAgent { backend: BackendName::new("web-01").unwrap(), since: before(30), why: "refused".into() };
    view.roll_call.silent_agents = vec![agent];
    assert!(keys(&view, &Load::default()).contains("agent_silent/*/web-01"));
    let mut lease = testing::lease();
    lease.scope.backend = BackendName::new("web-01").unwrap();
    view.roll_call.leases = vec![lease];
    assert!(!keys(&view, &Load::default()).contains("agent_silent/*/web-01"));
}

#[test]
fn flows_that_go_astray_are_told_of_who_loses_and_of_the_table() {
    let mut view = calm();
    let skew = |backend: Option<&str>| Skew {
        service: ServiceName::new("www").unwrap(),
        backend: backend.and_then(BackendName::new),
        since: before(180),
        words: "web-03 got 0.0 %".into(),
    };
    view.roll_call.skews = vec![skew(None), skew(Some("web-03"))];
    let wanted = ["backend_down/www/web-02", "distribution_off/www", "share_missing/www/web-03"];
    assert_eq!(keys(&view, &Load::default()), only(wanted));
    let found = conditions(&view, &Load::default(), view.roll_call.time);
    let lost = found.iter().find(|c| c.kind == Kind::ShareMissing).unwrap();
    assert_eq!(lost.summary, "service www: web-03 got 0.0 %");
    assert_eq!((lost.owner.as_deref(), lost.since), (Some("web team"), Some(before(180))));
    assert_eq!(lost.kind.severity(), crate::config::model::Severity::Critical);
}

#[test]
fn exhausted_memory_is_short_and_critical_at_once() {
    let mut view = calm();
    let call = |memory| MemoryCall {
        backend: BackendName::new("web-01").unwrap(),
        memory,
        since: before(5),
        headroom: Some(0.03),
        sample: None,
        forecast: Forecast::CannotTell,
        ends: None,
    };
    view.roll_call.memory = vec![call(Memory::Exhausted)];
    assert_eq!(
        keys(&view, &Load::default()),
        only(["backend_down/www/web-02", "memory_exhausted/*/web-01", "memory_short/*/web-01"])
    );
    assert_eq!(Kind::MemoryExhausted.hold(), Duration::ZERO);
    view.roll_call.memory = vec![call(Memory::Tight)];
    assert_eq!(keys(&view, &Load::default()), only(["backend_down/www/web-02", "memory_short/*/web-01"]));
}

#[test]
fn end_of_a_lease_is_told_for_five_minutes() {
    let mut view = calm();
    let event = |kind, ago, service: Option<&str>| Event {
        time: before(ago),
        backend: BackendName::new("web-02"),
        service: service.and_then(ServiceName::new),
        kind,
        by: None,
        cause: "the drain by ada (kernel test) is over".into(),
    };
    view.events = vec![
        event(EventKind::Recalled, 301, None),
        event(EventKind::LeaseEnded, 20, Some("www")),
        event(EventKind::LeaseEnded, 10, Some("www")),
        event(EventKind::Restored, 5, None),
    ];
    assert_eq!(keys(&view, &Load::default()), only(["backend_down/www/web-02", "lease_ended/www/web-02"]));
    view.events[0].time = before(299);
    assert!(keys(&view, &Load::default()).contains("recalled/*/web-02"));
}
