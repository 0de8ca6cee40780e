//! What is wrong by one picture of the daemon, without memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::condition::{Condition, Kind};
use crate::config::model::{Config, Service};
use crate::control::daemon::{Topic, View};
use crate::core::api::{MemberCall, Scope, ServiceCall, Time};
use crate::core::reason::{Reason, ReasonKind};

/// How much is in use of what is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Established flows kept: IPv4, IPv6.
    pub kept: [u64; 2],
    /// Flows open now, by member id.
    pub active: BTreeMap<u32, u64>,
}

/// Near full, percent.
const NEAR_FULL: u64 = 70;
/// The picture is renewed each second; one so old means that the task behind it is stuck, ms.
const STUCK_MS: u64 = 30_000;

/// A neighbour that was asked for may take so long to answer.
const ASKED: Duration = Duration::from_secs(5);

/// Everything that is wrong at `now`, in no particular order, each key once.
pub fn conditions(view: &View, load: &Load, now: Time) -> Vec<Condition> {
    let mut found = Vec::new();
    let age_ms = now.boot_ms.saturating_sub(view.roll_call.time.boot_ms);
    if age_ms > STUCK_MS {
        // What it last said may be long untrue.
        let summary =
            format!("the daemon's main task has not moved for {} s; leases and health are frozen", age_ms / 1000);
        return vec![Condition { since: Some(view.roll_call.time), ..Condition::of(Kind::DaemonStuck, "", summary) }];
    }
    // By the picture's own time: what is due between it and now, the core has not had its turn to end.
    let now = view.roll_call.time;
    for call in &view.roll_call.services {
        let service = view.config.services.iter().find(|s| s.name == call.name);
        rotation(&mut found, call, service);
        let suspected = view.roll_call.suspicions.iter().any(|s| s.service == call.name);
        for member in &call.members {
            members(&mut found, call, member, suspected, now);
        }
    }
    for suspicion in &view.roll_call.suspicions {
        let owner = view.config.services.iter().find(|s| s.name == suspicion.service).and_then(|s| s.owner.clone());
        found.push(Condition {
            service: Some(suspicion.service.clone()),
            owner,
            since: Some(suspicion.since),
            ..Condition::of(
                Kind::EdgeSuspected,
                suspicion.service.as_str(),
                format!("{}, so this host itself is suspected and the table is held", suspicion.cause),
            )
        });
    }
    duties(&mut found, view, now);
    file_and_warnings(&mut found, view);
    limits(&mut found, view, load);
    found
}

fn rotation(found: &mut Vec<Condition>, call: &ServiceCall, service: Option<&Service>) {
    let serving = call.members.iter().filter(|m| m.in_rotation).count();
    let needed = service.map_or(0, |s| s.min_in_rotation as usize);
    let name = call.name.as_str();
    let (kind, summary) = match serving {
        0 => (Kind::NoneInRotation, format!("service {name}: no backend in rotation; new connections are dropped")),
        n if n < needed => (Kind::TooFew, format!("service {name}: {n} in rotation, it needs {needed}")),
        _ => return,
    };
    let (owner, service) = (service.and_then(|s| s.owner.clone()), Some(call.name.clone()));
    found.push(Condition { service, owner, ..Condition::of(kind, name, summary) });
}

fn members(found: &mut Vec<Condition>, call: &ServiceCall, member: &MemberCall, suspected: bool, now: Time) {
    let (service, backend) = (&call.name, &member.backend);
    let mut push = |kind, subject: String, reason: &Reason, summary: String| {
        found.push(Condition {
            backend: Some(backend.clone()),
            service: Some(service.clone()),
            owner: reason.owner.clone(),
            since: Some(reason.since),
            ..Condition::of(kind, subject, summary)
        });
    };
    let leased = |kind| matches!(kind, ReasonKind::Drained | ReasonKind::Maintenance);
    let is = |kind| move |reason: &&Reason| reason.kind == kind;
    let on_leave = member.reasons.iter().any(|r| leased(r.kind));
    let returning = member.reasons.iter().find(is(ReasonKind::Returning));
    let error = member.last_probe.as_ref().and_then(|probe| Some((probe.time, probe.error.as_deref()?)));
    if let (Some(reason), Some((at, error))) = (returning, error)
        && at.boot_ms >= reason.since.boot_ms
    {
        let summary = format!("{backend} in {service} does not come back after its lease: {error}");
        push(Kind::ReturnFailed, format!("{service}/{backend}"), reason, summary);
    } else if !on_leave && !suspected && returning.is_none() {
        let down = |r: &&Reason| match r.kind {
            // Of what is only adopted, the first probe must say.
            ReasonKind::ProbeFailed => member.last_probe.is_some(),
            ReasonKind::NoNextHop => (r.since + ASKED).boot_ms <= now.boot_ms,
            _ => false,
        };
        if let Some(reason) = member.reasons.iter().find(down) {
            let summary = format!("{backend} in {service} is down: {}", reason.cause);
            push(Kind::BackendDown, format!("{service}/{backend}"), reason, summary);
        }
    }
    for reason in member.reasons.iter().filter(|r| r.review_at.boot_ms <= now.boot_ms) {
        // Under a lease, what else is wrong with it is being worked on until the lease ends.
        if on_leave && !leased(reason.kind) {
            continue;
        }
        let minutes = now.boot_ms.saturating_sub(reason.since.boot_ms) / 60_000;
        let what = reason.kind.name();
        let summary =
            format!("{backend} in {service}: {what} for {minutes} min, longer than expected: {}", reason.cause);
        push(Kind::Overdue, format!("{service}/{backend}/{what}"), reason, summary);
    }
}

fn duties(found: &mut Vec<Condition>, view: &View, now: Time) {
    for lease in view.roll_call.leases.iter().filter(|l| l.reminder_ms() <= now.boot_ms) {
        let left = lease.left(now).as_secs();
        let summary = format!(
            "the {} of {} by {} ends in {} min {} s, then it takes flows again: {}",
            lease.kind.name(),
            lease.scope,
            lease.owner.name,
            left / 60,
            left % 60,
            lease.reason
        );
        found.push(Condition {
            owner: Some(lease.owner.name.clone()),
            since: Some(lease.begun),
            ..of_scope(Kind::LeaseEnding, &lease.scope, "", summary)
        });
    }
    // Of a removal's clocks only the wall clock is comparable after a reboot.
    for removed in view.roll_call.removed.iter().filter(|r| r.review_at.wall_ms <= now.wall_ms) {
        let summary = format!("{} was removed by {} ({}) and is not back", removed.scope, removed.by, removed.how);
        found.push(Condition {
            owner: removed.owner.clone(),
            since: Some(removed.since),
            ..of_scope(Kind::Overdue, &removed.scope, "/removed", summary)
        });
    }
}

fn of_scope(kind: Kind, scope: &Scope, suffix: &str, summary: String) -> Condition {
    let Scope { backend, service } = scope.clone();
    let subject = match &service {
        Some(service) => format!("{service}/{backend}{suffix}"),
        None => format!("*/{backend}{suffix}"),
    };
    Condition { backend: Some(backend), service, ..Condition::of(kind, subject, summary) }
}

fn file_and_warnings(found: &mut Vec<Condition>, view: &View) {
    let bad_file = view.warnings.iter().any(|w| w.topic == Topic::BadFile);
    if view.file_differs && !bad_file {
        let summary = format!("{} differs from what runs", view.config_path.display());
        found.push(Condition::of(Kind::FileDiffers, "", summary));
    }
    for warning in &view.warnings {
        let (kind, subject) = match warning.topic {
            Topic::BadFile => (Kind::BadFile, ""),
            Topic::Invariant => (Kind::InvariantBroken, ""),
            Topic::Drift => (Kind::AuditDrift, "maps"),
            Topic::Detached => (Kind::AuditDrift, "program"),
            Topic::Pins => (Kind::AuditDrift, "pins"),
            Topic::Apply => (Kind::NotApplied, "maps"),
            Topic::Shortage => (Kind::NotApplied, "shortage"),
            Topic::Attach => (Kind::NotApplied, "program"),
            Topic::Addresses => (Kind::NotApplied, "addresses"),
            Topic::Collect => (Kind::NotApplied, "collection"),
            Topic::Record => (Kind::NotRecorded, "record"),
            Topic::State => (Kind::NotRecorded, "state"),
            Topic::Resume => (Kind::NotRecorded, "resume"),
            // Told by its own condition; and generic mode is no trouble.
            Topic::Alerts | Topic::Mode => continue,
        };
        found.push(Condition::of(kind, subject, warning.text.clone()));
    }
}

fn limits(found: &mut Vec<Condition>, view: &View, load: &Load) {
    let most = u64::from(view.config.conntrack.max_flows);
    for (family, kept) in [("IPv4", load.kept[0]), ("IPv6", load.kept[1])] {
        if kept * 100 >= most * NEAR_FULL {
            let summary = format!("{kept} of {most} {family} flows are in use; when full, new ones are refused");
            found.push(Condition::of(Kind::FlowsNearFull, family, summary));
        }
    }
    // A source port is taken once for each server's address and port, whatever the service.
    let mut used: BTreeMap<(IpAddr, u16), (u64, &ServiceCall, &MemberCall)> = BTreeMap::new();
    for call in &view.roll_call.services {
        for member in &call.members {
            let active = member.id.and_then(|id| load.active.get(&id)).copied().unwrap_or(0);
            used.entry((member.address, member.port)).or_insert((0, call, member)).0 += active;
        }
    }
    for ((address, port), (active, call, member)) in used {
        let most = ports(&view.config, address);
        if most > 0 && active * 100 >= most * NEAR_FULL {
            let summary = format!(
                "{active} of {most} source ports towards {} ({}) are in use; when full, new flows are refused",
                member.backend,
                std::net::SocketAddr::new(address, port)
            );
            let owner = view.config.services.iter().find(|s| s.name == call.name).and_then(|s| s.owner.clone());
            found.push(Condition {
                backend: Some(member.backend.clone()),
                owner,
                ..Condition::of(Kind::PortsNearFull, format!("{}/{port}", member.backend), summary)
            });
        }
    }
}

/// Flows that one backend's port can have from the source pool.
fn ports(config: &Config, backend: IpAddr) -> u64 {
    let pool = &config.source_pool;
    let addresses = if backend.is_ipv4() { pool.ipv4.len() } else { pool.ipv6.len() };
    addresses as u64 * pool.ports.len() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::config::model::ServiceName;
    use crate::control::daemon::Warning;
    use crate::control::testing::{self, before};
    use crate::core::api::{LastProbe, Suspicion};
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
        reason(&mut view).review_at = before(1);
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
        let all =
            [Topic::Invariant, Topic::Drift, Topic::Pins, Topic::Apply, Topic::Record, Topic::Mode, Topic::Alerts];
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
}
