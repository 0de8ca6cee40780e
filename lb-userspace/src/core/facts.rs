//! What became of a fact: links, probes, timers, finished lists, drained members.

use std::net::IpAddr;
use std::time::Duration;

use lb_common::abi::MAX_LINKS;

use super::Core;
use super::api::{EventKind, Health, MemberName, Output};
use super::encode;
use super::kernel::MemberId;
use super::reason::{Reason, ReasonKind};
use super::schedule::Due;

impl Core {
    /// Unknown MACs never replace known ones: without them the program would let everything pass.
    pub(super) fn take_links(&mut self, macs: [u64; MAX_LINKS]) {
        if macs != [0; MAX_LINKS] && self.macs != Some(macs) {
            self.macs = Some(macs);
            self.replan = true;
        }
    }

    pub(super) fn record(&mut self, name: &MemberName, result: Result<(), String>, took: Duration) {
        let now = self.now;
        let Some(member) = self.members.get_mut(name) else { return };
        let Some(probe) = member.probe.clone() else { return };
        let error_before = member.health.error().map(str::to_owned);
        let first = member.health.last().is_none();
        let returning = member.returning.is_some();
        let returned = returning && result.is_ok();
        // Told once for each return.
        let failed = returning && !returned && !std::mem::replace(&mut member.return_failed, true);
        let change = member.health.record(result, took, probe.rise, probe.fall, now);
        if returned {
            member.returning = None;
            self.dirty.insert(name.service.clone());
        }
        let error = member.health.error().map(str::to_owned);
        let streak = member.health.streak();
        if change.is_some() || error != error_before {
            self.dirty.insert(name.service.clone());
        } else if first {
            // What was only adopted may be called back from now on.
            self.recall_due.insert(name.service.clone());
        }
        if let Some(error) = error.as_ref().filter(|_| failed) {
            let cause = format!("its lease is over, but the first probe since failed: {error}");
            self.event(Some(name), EventKind::ReturnFailed, cause);
        }
        match change.map(|change| change.now) {
            Some(Health::Down) => {
                let cause = format!("{} ({streak} in a row)", error.unwrap_or_default());
                self.event(Some(name), EventKind::Down, cause);
                if change.is_some_and(|change| change.was_serving) {
                    self.suspect(name);
                }
            }
            Some(Health::Up) => {
                self.event(Some(name), EventKind::Up, format!("probe succeeded ({streak} in a row)"));
            }
            Some(Health::Unknown) | None => {}
        }
        self.reconsider(&name.service);
    }

    /// Ends graces and starts probes that are due.
    pub(super) fn run_timers(&mut self) {
        let now_ms = self.now.boot_ms;
        while self.graces.first().is_some_and(|(at, _)| *at <= now_ms) {
            let Some((_, name)) = self.graces.pop_first() else { break };
            if self.members.get_mut(&name).is_some_and(|m| m.health.grace_over()) {
                self.dirty.insert(name.service.clone());
                self.event(Some(&name), EventKind::Unverified, "no probe ended within the start's grace".to_owned());
            }
        }
        while let Some(due) = self.schedule.pop(now_ms) {
            match due {
                Due::Start(name, id) => self.start_probe(name, id),
                Due::Lost(name, waited) => {
                    let error = format!("the prober gave no answer in {} ms", waited.as_millis());
                    self.record(&name, Err(error), waited);
                }
            }
        }
    }

    fn start_probe(&mut self, member: MemberName, id: u64) {
        let Some(watched) = self.members.get(&member) else { return };
        let Some(probe) = watched.probe.clone() else { return };
        let port = probe.port.unwrap_or(watched.endpoint.port).get();
        self.outputs.push_back(Output::Probe { member, id, address: watched.endpoint.address, port, probe });
    }

    pub(super) fn take_applied(&mut self, id: u64, result: Result<(), String>) {
        match self.kernel.applied(id, result, self.now.boot_ms) {
            None => {}
            Some(Ok(())) => {
                self.refresh_rotation();
                self.replan = true;
            }
            Some(Err(why)) => {
                let cause = format!("{why}; the maps will be read back and the rest tried again");
                self.event(None, EventKind::ApplyFailed, cause);
                self.replan = true;
            }
        }
    }

    /// Gives up ids whose flows are gone. Only while no list is under way: then the grace period after the last table
    /// that named them is over.
    pub(super) fn take_drained(&mut self, ids: &[MemberId]) {
        if !self.kernel.is_settled() {
            return;
        }
        for &id in ids {
            if self.leaving.contains_key(&id) && !self.kernel.is_in_a_table(id) {
                self.drained.insert(id);
                self.replan = true;
            }
        }
    }

    /// Gives up source addresses without flows. Only while no list is under way, as above.
    pub(super) fn take_unused(&mut self, addresses: &[IpAddr]) {
        if !self.kernel.is_settled() {
            return;
        }
        for ip in addresses.iter().filter(|ip| self.leaving_addresses.contains(ip)) {
            self.unused.insert(*ip);
            self.replan = true;
        }
    }

    /// Compares who has slots in the live tables with what was known, and tells the difference.
    pub(super) fn refresh_rotation(&mut self) {
        let mut changes = Vec::new();
        for (name, member) in &mut self.members {
            let key = encode::service_key(&member.endpoint.listen);
            let service = self.kernel.held().services.get(&key).map(|info| info.id);
            let slots = service.zip(member.id).map_or(0, |(service, id)| self.kernel.slots(service, id));
            if member.in_rotation != (slots > 0) {
                (member.in_rotation, member.since) = (slots > 0, self.now);
                let kind = match (slots > 0, member.stands_by) {
                    (true, _) => EventKind::InRotation,
                    (false, true) => EventKind::BackupStandby,
                    (false, false) => EventKind::OutOfRotation,
                };
                member.why = rotation_cause(slots > 0, &member.reasons);
                changes.push((name.clone(), kind, member.why.clone()));
            }
        }
        for (name, kind, cause) in changes {
            self.event(Some(&name), kind, cause);
        }
    }
}

/// With the facts of now: they may have changed again while the list was under way.
fn rotation_cause(entered: bool, reasons: &[Reason]) -> String {
    if let Some(panic) = reasons.iter().find(|r| entered && r.kind == ReasonKind::Panic) {
        return format!("{}: {}", panic.kind.name(), panic.cause);
    }
    let lets_in = |reason: &Reason| reason.kind.is_partial() || reason.kind == ReasonKind::Unverified;
    match (entered, reasons.is_empty()) {
        (true, true) => return "nothing stands against it".to_owned(),
        (true, false) if !reasons.iter().all(lets_in) => return "nothing stood against it at that moment".to_owned(),
        (false, true) => return "it recovered while this was under way".to_owned(),
        _ => {}
    }
    let words: Vec<String> = reasons.iter().map(|r| format!("{}: {}", r.kind.name(), r.cause)).collect();
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::api::Time;
    use super::*;

    #[test]
    fn rotation_cause_names_what_leaves_only_a_part_of_the_weight() {
        let at = Time { boot_ms: 1, wall_ms: 1 };
        let reason =
            |kind, cause: &str| Reason { kind, since: at, cause: cause.into(), owner: None, review_at: Some(at) };
        let short = reason(ReasonKind::MemoryShort, "8/16 of its weight");
        assert_eq!(rotation_cause(true, std::slice::from_ref(&short)), "memory_short: 8/16 of its weight");
        assert_eq!(rotation_cause(true, &[]), "nothing stands against it");
        let down = reason(ReasonKind::ProbeFailed, "refused");
        assert_eq!(rotation_cause(true, &[down.clone(), short]), "nothing stood against it at that moment");
        assert_eq!(rotation_cause(false, &[down]), "probe_failed: refused");
        assert_eq!(rotation_cause(false, &[]), "it recovered while this was under way");
    }
}
