//! Suspicion of the edge itself: when most of a service's members fail at once, the likelier cause is on our side.
//!
//! While it lasts, no member leaves the service's table for its health: those that left it before stay out, those that
//! are still in it are held, also if their failure is what raised it. Members that come up do enter; a lost next hop still counts, since the kernel cannot send there.
//! It ends when no more than half are down; whoever is down then goes out. If the failure was the members' own and
//! persists, the table stays held: there is nowhere better to send the flows, and the roll call says so.

use super::Core;
use super::api::{EventKind, Health, MemberName};
use super::schedule::JITTER_PERCENT;
use super::watched::Watched;
use crate::config::model::ServiceName;

/// Suspicion needs so many probed members.
const FEWEST: usize = 3;

impl Core {
    /// A member that served went down: hold it if the edge is suspected, or is to be from now on.
    pub(super) fn suspect(&mut self, name: &MemberName) {
        let service = &name.service;
        if !self.suspected.contains(service) {
            let Some(interval) = self.members.get(name).and_then(|m| m.probe.as_ref()).map(|p| p.interval) else {
                return;
            };
            let now = self.now;
            // Members that fail at the same moment are found out up to an interval apart, and the jitter of all the probes
            // until then.
            let fall = self.members.get(name).and_then(|m| m.probe.as_ref()).map_or(1, |p| p.fall);
            let window = interval + interval * fall * 2 * JITTER_PERCENT / 100;
            let recent = |m: &Watched| m.health.down_since().is_some_and(|since| since + window >= now);
            let probed = self.probed(service).count();
            let failed = self.probed(service).filter(|m| recent(m)).count();
            if probed < FEWEST || failed * 2 <= probed {
                return;
            }
            self.suspected.insert(service.clone());
            let cause = format!(
                "service {service}: {failed} of {probed} members failed within {} ms; its table is held until no more \
                 than half are down. Check this host's own network first",
                window.as_millis()
            );
            self.event(None, EventKind::EdgeSuspected, cause);
            for (_, member) in self.members.iter_mut().filter(|(name, _)| name.service == *service) {
                let failed = member.health.down_since().is_some_and(|since| since + window >= now);
                member.held |= failed && member.in_rotation;
            }
        }
        if let Some(member) = self.members.get_mut(name) {
            member.held = true;
        }
    }

    /// Ends the suspicion if no more than half of the service's members are down.
    pub(super) fn reconsider(&mut self, service: &ServiceName) {
        for member in self.members.values_mut() {
            // Only those of this service can have changed, but a member that is up is never held.
            member.held &= member.health.health() == Health::Down;
        }
        let probed = self.probed(service).count();
        let down = self.probed(service).filter(|m| m.health.health() == Health::Down).count();
        if (probed >= FEWEST && down * 2 > probed) || !self.suspected.remove(service) {
            return;
        }
        for (_, member) in self.members.iter_mut().filter(|(name, _)| name.service == *service) {
            member.held = false;
        }
        self.dirty.insert(service.clone());
        self.event(None, EventKind::EdgeCleared, format!("service {service}: {down} of {probed} members are down"));
    }

    /// After a change of the configuration.
    pub(super) fn reconsider_all(&mut self) {
        for service in self.suspected.clone() {
            self.reconsider(&service);
        }
    }

    fn probed<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a Watched> {
        let members = self.members.iter().filter(move |(name, _)| name.service == *service);
        members.map(|(_, member)| member).filter(|m| m.probe.is_some())
    }
}
