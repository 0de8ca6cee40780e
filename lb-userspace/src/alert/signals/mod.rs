//! Passive signals over time: what answers far more slowly than it used to, and connections that come to nothing.
//!
//! Each member is compared with its own past, in windows; three of them running decide. What its peers do is said, since
//! troubles that all share are seldom a server's own. It lives with the alerts: a restart begins anew, and a day's past is
//! forgotten with it.

mod errors;
mod past;
mod slow;

use std::collections::BTreeMap;

use self::errors::Errors;
use self::slow::{Handshakes, Probes};
use super::condition::{Condition, Kind};
use crate::control::daemon::View;
use crate::core::api::{MemberCall, MemberName, Time};
use crate::core::reason::ReasonKind;

/// Counters of a member, as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Flows opened.
    pub opened: u64,
    /// Those that ended without an answer of the backend.
    pub unanswered: u64,
    /// Resets by the backend.
    pub resets: u64,
    /// Handshakes measured.
    pub answers: u64,
    /// Their total, ns.
    pub answer_ns: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Signals {
    members: BTreeMap<MemberName, Member>,
}

#[derive(Debug, Default)]
struct Member {
    probes: Probes,
    handshakes: Handshakes,
    errors: Errors,
}

impl Signals {
    /// Takes a picture: the newest probe of each member. To be called about each second.
    pub fn look(&mut self, view: &View) {
        let now = view.roll_call.time;
        let all: BTreeMap<MemberName, &MemberCall> = members(view).collect();
        self.members.retain(|name, _| all.contains_key(name));
        for (name, call) in all {
            let member = self.members.entry(name).or_default();
            if let Some(probe) = call.last_probe.as_ref().filter(|probe| probe.error.is_none()) {
                member.probes.take(probe.time, probe.took);
            }
            member.probes.expire(now);
            member.handshakes.expire(now);
            member.errors.expire(now);
            if !call.in_rotation {
                // Whoever gets no flows has no errors, and nobody can say more.
                member.errors.forget();
            }
        }
    }

    /// Takes the counters by member id, read just now.
    pub fn count(&mut self, view: &View, counted: &BTreeMap<u32, Counted>, now: Time) {
        for (name, call) in members(view) {
            let Some((id, counted)) = call.id.and_then(|id| Some((id, *counted.get(&id)?))) else { continue };
            let member = self.members.entry(name).or_default();
            member.handshakes.count(id, counted, now);
            member.errors.count(id, counted, now);
        }
    }

    /// What is amiss.
    pub fn conditions(&self, view: &View) -> Vec<Condition> {
        let mut found = Vec::new();
        for (name, call) in members(view) {
            let Some(member) = self.members.get(&name) else { continue };
            // Of who is out, that is told; under a lease it is being worked on.
            let told = call.reasons.iter().any(|r| r.kind.is_lease() || r.kind == ReasonKind::ProbeFailed);
            if told {
                continue;
            }
            let slow = [member.probes.found(), member.handshakes.found()].into_iter().flatten();
            if let Some((since, words)) = slow.min_by_key(|(since, _)| since.boot_ms) {
                let summary = format!("{} in {} is slow: {words}{}", name.backend, name.service, self.peers(&name));
                found.push(condition(Kind::LatencyDegraded, view, &name, since, summary));
            }
            if let Some((since, words)) = member.errors.found() {
                let summary = format!("connections to {} in {} fail: {words}", name.backend, name.service);
                found.push(condition(Kind::ConnectionErrors, view, &name, since, summary));
            }
        }
        found
    }

    /// `; so are 2 of 3 others`.
    fn peers(&self, name: &MemberName) -> String {
        let peers = self.members.iter().filter(|(other, _)| other.service == name.service && *other != name);
        let (mut all, mut slow) = (0, 0);
        for (_, member) in peers {
            all += 1;
            slow += usize::from(member.probes.found().is_some() || member.handshakes.found().is_some());
        }
        match (all, slow) {
            (0, _) => String::new(),
            (_, 0) => "; the others are not".to_owned(),
            _ => format!("; so are {slow} of {all} others: look at what they share"),
        }
    }
}

fn members(view: &View) -> impl Iterator<Item = (MemberName, &MemberCall)> {
    view.roll_call.services.iter().flat_map(|service| {
        let name = |member: &MemberCall| MemberName { service: service.name.clone(), backend: member.backend.clone() };
        service.members.iter().map(move |member| (name(member), member))
    })
}

fn condition(kind: Kind, view: &View, name: &MemberName, since: Time, summary: String) -> Condition {
    let service = view.config.services.iter().find(|service| service.name == name.service);
    let backend = view.config.backends.get(&name.backend);
    let owner = service.and_then(|s| s.owner.clone()).or_else(|| backend.and_then(|b| b.owner.clone()));
    Condition {
        backend: Some(name.backend.clone()),
        service: Some(name.service.clone()),
        owner,
        since: Some(since),
        ..Condition::of(kind, name.to_string(), summary)
    }
}

#[cfg(test)]
mod tests;
