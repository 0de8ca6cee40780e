//! Too few left, or all that are left short of memory: a drained server that is well is called back before its time; one in
//! maintenance cannot be, and people are told.

use super::Core;
use super::api::{EventKind, Health, MemberName, Scope};
use super::lease::LeaseKind;
use crate::config::model::{Member, Service, ServiceName};

impl Core {
    /// Looks whether every service has as many in rotation as it needs.
    pub(super) fn run_recalls(&mut self) {
        let Some(config) = self.config.clone().filter(|_| self.configured && !self.leases.is_empty()) else {
            self.short.clear();
            return;
        };
        for service in &config.services {
            let needed = service.min_in_rotation as usize;
            let serving = self.on_duty(service);
            let why = if serving < needed {
                format!("service {}: {serving} in rotation, it needs {needed}", service.name)
            } else if self.is_pressed(service) {
                format!("service {}: the memory of all that are in rotation is short", service.name)
            } else {
                self.short.remove(&service.name);
                continue;
            };
            match self.recallable(service) {
                Some(scope) => {
                    self.recall(&scope, why);
                    // Its probe may be due at once.
                    self.run_timers();
                    self.weigh();
                }
                None => self.tell_too_few(&service.name, why),
            }
        }
    }

    /// Members that take new flows, or of which that is not decided yet: their first probe, or the one that ends their
    /// return, is under way, or their neighbour has not been asked.
    fn on_duty(&self, service: &Service) -> usize {
        let decided_or_soon = |m: &&Member| {
            let name = MemberName { service: service.name.clone(), backend: m.backend.clone() };
            let Some(member) = self.members.get(&name) else { return false };
            if self.leases.keys().any(|scope| scope.covers(&name)) {
                return false;
            }
            let undecided = member.health.health() == Health::Unknown && !member.health.is_unverified();
            let coming = member.health.is_serving()
                && (member.returning.is_some() || self.hops.is_awaited(member.endpoint.address));
            member.effective > 0 || undecided || coming
        };
        service.members.iter().filter(decided_or_soon).count()
    }

    /// Whether all that take new flows are known to be short of memory.
    fn is_pressed(&self, service: &Service) -> bool {
        let mut serving = (service.members.iter())
            .filter(|m| {
                let name = MemberName { service: service.name.clone(), backend: m.backend.clone() };
                self.members.get(&name).is_some_and(|watched| watched.effective > 0)
            })
            .peekable();
        serving.peek().is_some() && serving.all(|m| self.is_short(&m.backend))
    }

    /// A drain that keeps a healthy member of the service out and may be ended: the one with the least time left.
    fn recallable(&self, service: &Service) -> Option<Scope> {
        let keeps_out = |scope: &Scope| {
            service.members.iter().any(|m| {
                let name = MemberName { service: service.name.clone(), backend: m.backend.clone() };
                let covering = self.leases.values().filter(|l| l.scope.covers(&name));
                let alone = covering.count() == 1;
                let well = self.members.get(&name).is_some_and(|w| w.health.is_serving() && w.returning.is_none());
                scope.covers(&name) && alone && well && self.hops.usable(self.members[&name].endpoint.address).is_ok()
            })
        };
        let drains = self.leases.values().filter(|l| l.kind == LeaseKind::Drain && l.recallable);
        let fit = drains.filter(|l| keeps_out(&l.scope));
        fit.min_by_key(|l| l.ends.boot_ms).map(|l| l.scope.clone())
    }

    fn tell_too_few(&mut self, service: &ServiceName, why: String) {
        let kept = |l: &&super::lease::Lease| l.scope.service.as_ref().is_none_or(|s| s == service);
        let Some(lease) = self.leases.values().find(kept) else { return };
        if self.short.contains(service) {
            return;
        }
        let cause = format!(
            "{why}; {} is {} by {} ({}) and is not called back by itself: `rollcall backend restore {}`",
            lease.scope.backend,
            lease.kind.participle(),
            lease.owner.name,
            lease.reason,
            lease.scope.backend
        );
        let scope = lease.scope.clone();
        self.short.insert(service.clone());
        self.event_of(&scope, EventKind::TooFew, cause);
    }
}
