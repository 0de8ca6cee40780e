//! Weighs the members of a service: each by its own facts ([`super::weight`]), then all together, by tier, last resort
//! ([`super::resort`]), slow start ([`super::ramp`]) and limits ([`super::limit`]); what comes of it becomes reasons with a history.

use std::time::Duration;

use super::Core;
use super::api::{EventKind, MemberName};
use super::reason::is_standby;
use super::weight::{Facts, Weighed, weigh, with_history};
use crate::config::model::{Config, Member, Service};

impl Core {
    /// Weighs the members of services with changed facts.
    pub(super) fn weigh(&mut self) {
        if self.dirty.is_empty() {
            return;
        }
        let dirty = std::mem::take(&mut self.dirty);
        self.recall_due.extend(dirty.iter().cloned());
        let Some(config) = self.config.clone().filter(|_| self.configured) else { return };
        for service in config.services.iter().filter(|s| dirty.contains(&s.name)) {
            let mut weighed: Vec<Weighed> = service.members.iter().map(|m| self.weigh_member(service, m)).collect();
            self.resort(service, &mut weighed);
            self.ramp(&config, service, &mut weighed);
            self.limit(service, &mut weighed);
            for (member, weighed) in service.members.iter().zip(weighed) {
                self.take_weight(&config, service, member, weighed);
            }
        }
    }

    fn weigh_member(&self, service: &Service, entry: &Member) -> Weighed {
        let name = MemberName::of(service, entry);
        let Some(member) = self.members.get(&name) else { return Weighed::default() };
        let (factor, why) = self.factor(&name);
        let advised = self.advised(&entry.backend);
        let leases: Vec<_> = self.leases.values().filter(|lease| lease.scope.covers(&name)).collect();
        weigh(Facts {
            configured: member.weight,
            health: &member.health,
            held: member.held,
            hop: self.hops.usable(member.endpoint.address).map(|_| ()),
            leases: &leases,
            returning: member.returning,
            verdict_within: member.probe.as_ref().map_or(Duration::ZERO, |p| p.interval + p.timeout),
            factor: (factor, &why),
            advised: advised.as_ref().map(|(percent, why)| (*percent, why.as_str())),
        })
    }

    fn take_weight(&mut self, config: &Config, service: &Service, entry: &Member, weighed: Weighed) {
        let name = MemberName::of(service, entry);
        let Some(member) = self.members.get_mut(&name) else { return };
        let Weighed { unshed, effective, findings } = weighed;
        let backend_owner = config.backends.get(&entry.backend).and_then(|b| b.owner.as_deref());
        let owner = service.owner.as_deref().or(backend_owner);
        self.replan |= member.effective != effective;
        (member.unshed, member.effective) = (unshed, effective);
        let before = std::mem::take(&mut member.reasons);
        let reasons = with_history(findings, &before, owner, service.expected_out, self.now);
        if !before.is_empty() || !reasons.is_empty() {
            self.touched.insert(name.clone());
        }
        member.reasons = reasons.clone();
        let stands_by = effective == 0 && is_standby(reasons.iter().map(|r| r.kind));
        let before_that = std::mem::replace(&mut member.stands_by, stands_by);
        // Who leaves the table for it is told of when it has left.
        let ready = stands_by && !before_that && !member.in_rotation;
        self.review(&name, &before, &reasons);
        if ready {
            self.event(Some(&name), EventKind::BackupStandby, "it stands by".to_owned());
        }
    }
}
