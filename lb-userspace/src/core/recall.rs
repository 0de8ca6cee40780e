//! Too few left, or all that are left short of memory: a drained server that is well is called back before its time; one in
//! maintenance cannot be, and people are told.

use super::Core;
use super::api::{EventKind, Health, MemberName, Scope};
use super::lease::Lease;
use super::watched::Watched;
use crate::config::model::{Member, Panic, Service};

impl Core {
    /// Looks whether services of which something changed have as many in rotation as they need.
    pub(super) fn run_recalls(&mut self) {
        for ip in self.hops.waited_for(self.now.boot_ms) {
            let there = self.members.iter().filter(|(_, w)| w.endpoint.address == ip);
            self.recall_due.extend(there.map(|(name, _)| name.service.clone()));
        }
        let Some(config) = self.config.clone().filter(|_| self.configured && !self.leases.is_empty()) else {
            self.short.clear();
            self.recall_due.clear();
            return;
        };
        // A recall changes its services again; it ends a lease, of which there are only so many.
        while let Some(name) = self.recall_due.pop_first() {
            let Some(service) = config.services.iter().find(|s| s.name == name) else { continue };
            // Before everybody is let in, whoever is well is called back.
            let needed = (service.min_in_rotation as usize).max(usize::from(service.panic == Panic::All));
            let serving = self.on_duty(service);
            let pressed = serving >= needed && self.is_pressed(service);
            let why = if serving < needed {
                format!("service {}: {serving} in rotation, it needs {needed}", service.name)
            } else if pressed {
                format!("service {}: the memory of all that are in rotation is short", service.name)
            } else {
                self.short.remove(&service.name);
                continue;
            };
            match self.recallable(service, pressed) {
                Some(scope) => {
                    self.recall(&scope, why);
                    // Its probe may be due at once.
                    self.run_timers();
                    self.weigh();
                }
                None => self.tell_too_few(service, why),
            }
        }
    }

    /// Members that take new flows, or of which that is not decided yet.
    fn on_duty(&self, service: &Service) -> usize {
        let takes_flows = |m: &Member| self.watched(service, m).is_some_and(|w| w.effective > 0);
        service.members.iter().filter(|m| takes_flows(m) || self.is_undecided(service, m)).count()
    }

    /// Whether it is not decided yet if a member can serve: its first probe, or the one that ends its return, is under way,
    /// or its neighbour has not been asked.
    pub(super) fn is_undecided(&self, service: &Service, m: &Member) -> bool {
        let Some(member) = self.watched(service, m) else { return false };
        if self.is_leased(&MemberName::of(service, m)) {
            return false;
        }
        let unknown = member.health.health() == Health::Unknown && !member.health.is_unverified();
        let awaited = member.returning.is_some() || self.hops.is_awaited(member.endpoint.address, self.now.boot_ms);
        unknown || (member.health.is_serving() && awaited)
    }

    /// Whether all that take new flows are known to be short of memory.
    fn is_pressed(&self, service: &Service) -> bool {
        // One at a time: whoever was called back must first show what it relieves.
        if self.is_awaiting(service) {
            return false;
        }
        let takes_flows = |m: &&Member| self.watched(service, m).is_some_and(|w| w.effective > 0);
        let mut serving = service.members.iter().filter(takes_flows).peekable();
        serving.peek().is_some() && serving.all(|m| self.is_short(&m.backend))
    }

    /// Whether somebody well is on the way back from a lease.
    pub(super) fn is_awaiting(&self, service: &Service) -> bool {
        let called_back = |w: &Watched| w.returning.is_some() && w.health.is_serving();
        service.members.iter().any(|m| self.watched(service, m).is_some_and(called_back))
    }

    /// A drain that keeps a healthy member of the service out and may be ended: the one with the least time left.
    pub(super) fn recallable(&self, service: &Service, pressed: bool) -> Option<Scope> {
        let keeps_out = |scope: &Scope| {
            service.members.iter().any(|m| {
                let name = MemberName::of(service, m);
                let Some(w) = self.members.get(&name).filter(|_| scope.covers(&name)) else { return false };
                let alone = self.leases.keys().filter(|other| other.covers(&name)).count() == 1;
                // By a probe of this daemon's own: what was only adopted may be in the middle of a reboot.
                let answered = w.probe.is_none() || w.health.last().is_some_and(|probe| probe.error.is_none());
                let well = w.health.is_serving() && answered && w.returning.is_none();
                let helps = self.advised(&m.backend).is_none_or(|(percent, _)| percent > 0)
                    && !(pressed && self.is_short(&m.backend));
                alone && well && helps && self.hops.usable(w.endpoint.address).is_ok()
            })
        };
        let drains = self.leases.values().filter(|l| l.may_be_recalled());
        let fit = drains.filter(|l| keeps_out(&l.scope));
        fit.min_by_key(|l| l.ends.boot_ms).map(|l| l.scope.clone())
    }

    fn tell_too_few(&mut self, service: &Service, why: String) {
        let kept = |l: &&Lease| service.members.iter().any(|m| l.scope.covers(&MemberName::of(service, m)));
        let Some(lease) = self.leases.values().find(kept) else { return };
        if self.short.contains(&service.name) {
            return;
        }
        let cause = self.not_called_back(lease, &why);
        let scope = lease.scope.clone();
        self.short.insert(service.name.clone());
        self.event_of(&scope, EventKind::TooFew, cause);
    }

    /// What is wrong, and by which lease that nobody ends but a person.
    pub(super) fn not_called_back(&self, lease: &Lease, why: &str) -> String {
        let place = lease.scope.service.as_ref().map(|s| format!(" --service {s}")).unwrap_or_default();
        format!(
            "{why}; {} is {} by {} ({}) and is not called back by itself: `rollcall backend restore {}{place}`",
            lease.scope.backend,
            lease.kind.participle(),
            lease.owner.name,
            lease.reason,
            lease.scope.backend
        )
    }
}
