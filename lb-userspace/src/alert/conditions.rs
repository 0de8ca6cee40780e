//! What is wrong by one picture of the daemon, without memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::condition::{Condition, Kind};
use crate::config::model::{Config, Service, ServiceName};
use crate::control::daemon::{Topic, View};
use crate::core::api::{EventKind, MemberCall, Scope, ServiceCall, Time, millis};
use crate::core::memory::forecast::Forecast;
use crate::core::memory::tracker::Memory;
use crate::core::reason::{Reason, ReasonKind};
use crate::core::risk::Risk;

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

/// How long people are told that a lease has ended.
const ENDED_SHOWN: Duration = Duration::from_secs(300);

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
        capacity(&mut found, call, service, &view.roll_call.risks);
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
    memory(&mut found, view);
    skews(&mut found, view);
    file_and_warnings(&mut found, view);
    limits(&mut found, view, load);
    found
}

fn rotation(found: &mut Vec<Condition>, call: &ServiceCall, service: Option<&Service>) {
    let name = call.name.as_str();
    let mut push = |kind, since, summary| {
        let (owner, service) = (service.and_then(|s| s.owner.clone()), Some(call.name.clone()));
        found.push(Condition { service, owner, since, ..Condition::of(kind, name, summary) });
    };
    if call.panic.is_some() {
        let text = "no member can serve, so new flows go to all, although down";
        push(Kind::Panic, call.panic, format!("service {name}: {text}"));
    }
    if call.at_limit.is_some() {
        let text = "all members that could serve have as many flows as they may (max_flows)";
        push(Kind::ServiceAtLimit, call.at_limit, format!("service {name}: {text}"));
    }
    if call.backup_in_use.is_some() {
        let summary = format!("service {name}: no primary member can serve; its backups do");
        push(Kind::BackupInUse, call.backup_in_use, summary);
    }
    let serving = call.members.iter().filter(|m| m.in_rotation).count();
    let needed = service.map_or(0, |s| s.min_in_rotation as usize);
    let (kind, summary) = match serving {
        0 => (Kind::NoneInRotation, format!("service {name}: no backend in rotation; new connections are dropped")),
        n if n < needed => (Kind::TooFew, format!("service {name}: {n} in rotation, it needs {needed}")),
        _ => return,
    };
    push(kind, None, summary);
}

fn capacity(found: &mut Vec<Condition>, call: &ServiceCall, service: Option<&Service>, risks: &[Risk]) {
    let (name, owner) = (call.name.as_str(), service.and_then(|s| s.owner.clone()));
    let mut push = |kind, since, summary: String| {
        let (service, owner, since) = (Some(call.name.clone()), owner.clone(), Some(since));
        found.push(Condition { service, owner, since, ..Condition::of(kind, name, summary) });
    };
    if let Some(n_minus_1) = &call.n_minus_1
        && let Some(since) = n_minus_1.alarm
        && !risks.iter().any(|risk| risk.covers(&call.name))
    {
        push(Kind::NMinusOne, since, format!("service {name}: N-1 is not met: {}", n_minus_1.evidence));
    }
    if let Some(outgrown) = &call.outgrown {
        let summary = format!("{} is out, and the others cannot carry its load: {}", outgrown.scope, outgrown.evidence);
        push(Kind::Outgrown, outgrown.since, summary);
    }
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
    if let Some(reason) = member.reasons.iter().find(is(ReasonKind::AtLimit)) {
        let summary = format!("{backend} in {service} gets no new flows: {}", reason.cause);
        push(Kind::AtLimit, format!("{service}/{backend}"), reason, summary);
    }
    for reason in member.reasons.iter().filter(|r| r.is_overdue(now)) {
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
    let told = |at: Time| now.boot_ms.saturating_sub(at.boot_ms) < millis(ENDED_SHOWN);
    for event in view.events.iter().filter(|event| told(event.time)) {
        let kind = match event.kind {
            EventKind::LeaseEnded => Kind::LeaseEnded,
            EventKind::Recalled => Kind::Recalled,
            _ => continue,
        };
        let Some(backend) = event.backend.clone() else { continue };
        let scope = Scope { backend, service: event.service.clone() };
        let owner = view.config.backends.get(&scope.backend).and_then(|b| b.owner.clone());
        let summary = format!("{scope} is to take flows again: {}", event.cause);
        let condition = Condition { owner, since: Some(event.time), ..of_scope(kind, &scope, "", summary) };
        // The last one counts, if there were several.
        found.retain(|c| c.key() != condition.key());
        found.push(condition);
    }
    for lease in &view.roll_call.leases {
        let gone = |name: &ServiceName| !view.config.services.iter().any(|s| s.name == *name);
        if !lease.scope.service.as_ref().is_some_and(gone) {
            continue;
        }
        let summary = format!("{} covers nobody: {}'s service is gone", lease.in_words(), lease.scope);
        found.push(Condition {
            owner: Some(lease.owner.name.clone()),
            ..of_scope(Kind::LeaseIdle, &lease.scope, "", summary)
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

fn memory(found: &mut Vec<Condition>, view: &View) {
    for call in &view.roll_call.memory {
        let name = &call.backend;
        let owner = view.config.backends.get(name).and_then(|b| b.owner.clone());
        let scope = Scope { backend: name.clone(), service: None };
        let mut push = |kind, since, summary: String| {
            found.push(Condition { owner: owner.clone(), since, ..of_scope(kind, &scope, "", summary) });
        };
        let free = call.headroom.map_or_else(String::new, |h| format!(", {:.0} % free", h * 100.0));
        match &call.memory {
            Memory::Tight | Memory::Exhausted => {
                let summary = format!("memory of {name} is {}{free}", call.memory.name());
                push(Kind::MemoryShort, Some(call.since), summary.clone());
                // No time to wait for: the next thing is the kernel killing something there.
                if call.memory == Memory::Exhausted {
                    push(Kind::MemoryExhausted, Some(call.since), summary);
                }
            }
            // Under a lease its agent may well be stopped.
            Memory::Unknown { .. } if view.roll_call.leases.iter().any(|l| l.scope.backend == *name) => {}
            Memory::Unknown { why, .. } => {
                push(Kind::MemoryUnknown, Some(call.since), format!("memory of {name} cannot be read: {why}"));
            }
            Memory::Ample | Memory::NotMonitored => {}
        }
        if let Some(since) = call.ends {
            let summary = match call.forecast {
                Forecast::Exhausts { near, middle, .. } => format!(
                    "memory of {name} runs out in about {} min, {} min at the earliest{free}",
                    middle.as_secs() / 60,
                    near.as_secs() / 60
                ),
                Forecast::NoTrend | Forecast::CannotTell => format!("memory of {name} was running out{free}"),
            };
            push(Kind::MemoryEnds, Some(since), summary);
        }
    }
    for agent in &view.roll_call.silent_agents {
        let name = &agent.backend;
        // Under a lease it may well be stopped.
        if view.roll_call.leases.iter().any(|l| l.scope.backend == *name) {
            continue;
        }
        let (owner, scope) = (
            view.config.backends.get(name).and_then(|b| b.owner.clone()),
            Scope { backend: name.clone(), service: None },
        );
        let summary = format!("the agent of {name} does not answer, so its advice is not known: {}", agent.why);
        let condition = of_scope(Kind::AgentSilent, &scope, "", summary);
        found.push(Condition { owner, since: Some(agent.since), ..condition });
    }
    for member in &view.roll_call.stuck {
        let service = view.config.services.iter().find(|s| s.name == member.service);
        let summary = format!(
            "{} in {}: less weight has not given it more memory in ten minutes; its load is not what fills it",
            member.backend, member.service
        );
        found.push(Condition {
            backend: Some(member.backend.clone()),
            service: Some(member.service.clone()),
            owner: service.and_then(|s| s.owner.clone()),
            ..Condition::of(Kind::SheddingStuck, format!("{}/{}", member.service, member.backend), summary)
        });
    }
}

fn skews(found: &mut Vec<Condition>, view: &View) {
    for skew in &view.roll_call.skews {
        let service = view.config.services.iter().find(|s| s.name == skew.service);
        let (kind, subject) = match &skew.backend {
            Some(backend) => (Kind::ShareMissing, format!("{}/{backend}", skew.service)),
            None => (Kind::DistributionOff, skew.service.to_string()),
        };
        found.push(Condition {
            backend: skew.backend.clone(),
            service: Some(skew.service.clone()),
            owner: service.and_then(|s| s.owner.clone()),
            since: Some(skew.since),
            ..Condition::of(kind, subject, format!("service {}: {}", skew.service, skew.words))
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
            Topic::NoFile => (Kind::FileDiffers, "gone"),
            Topic::Invariant => (Kind::InvariantBroken, ""),
            Topic::Drift => (Kind::AuditDrift, "maps"),
            Topic::Unrepaired => (Kind::NotApplied, "unrepaired"),
            Topic::Detached => (Kind::AuditDrift, "program"),
            Topic::Pins => (Kind::AuditDrift, "pins"),
            Topic::Apply => (Kind::NotApplied, "maps"),
            Topic::Shortage => (Kind::NotApplied, "shortage"),
            Topic::Attach => (Kind::NotApplied, "program"),
            Topic::Addresses => (Kind::NotApplied, "addresses"),
            Topic::Watch => (Kind::NotApplied, "network"),
            Topic::Collect => (Kind::NotApplied, "collection"),
            Topic::Record => (Kind::NotRecorded, "record"),
            Topic::State => (Kind::NotRecorded, "state"),
            Topic::Journal => (Kind::NotRecorded, "journal"),
            Topic::Resume => (Kind::NotRecorded, "resume"),
            // Told by its own condition; whoever waits for the heartbeat tells of it; and generic mode is no trouble.
            Topic::Alerts | Topic::Heartbeat | Topic::Mode => continue,
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
mod tests;
