//! Suspicion of the edge itself: when most of a service's members fail at once, the likelier cause is on our side.
//!
//! While it lasts, no member leaves the service's table for its health: those that left it before stay out, those that
//! are still in it are held, also if their failure is what raised it. Members that come up do enter; a lost next hop still
//! counts, since the kernel cannot send there.
//!
//! It ends when no more than half are down, or when a witness refutes it: a member that this host reaches all the while,
//! at least as long as it takes to judge one down. Then whoever is down goes out. Without a witness it goes on: nobody is up, so
//! there is nowhere better to send the flows, and the roll call says so.

use std::time::Duration;

use super::Core;
use super::api::{EventKind, Health, MemberName, Suspicion};
use super::schedule::JITTER_PERCENT;
use super::watched::Watched;
use crate::config::model::ServiceName;

/// A witness answers for at least so long, however quick probes are: trouble of a link or a switch takes seconds to pass.
const WITNESS_AT_LEAST: Duration = Duration::from_secs(10);
/// Suspicion needs so many probed members.
const FEWEST: usize = 3;

impl Core {
    /// A member that served went down: hold it if the edge is suspected, or is to be from now on.
    pub(super) fn suspect(&mut self, name: &MemberName) {
        let service = &name.service;
        if !self.suspected.contains_key(service) {
            let Some(probe) = self.members.get(name).and_then(|m| m.probe.clone()) else { return };
            let now = self.now;
            // Members that fail at the same moment are found out up to an interval apart, and the jitter of all the probes
            // until then.
            let window = probe.interval + probe.interval * probe.fall * 2 * JITTER_PERCENT / 100;
            let recent = |m: &Watched| m.health.down_since().is_some_and(|since| since + window >= now);
            let probed = self.probed(service).count();
            let failed = self.probed(service).filter(|m| recent(m)).count();
            if probed < FEWEST || failed * 2 <= probed {
                return;
            }
            let cause = format!("{failed} of {probed} members failed within {} ms", window.as_millis());
            let suspicion = Suspicion { service: service.clone(), since: now, cause: cause.clone() };
            self.suspected.insert(service.clone(), suspicion);
            let cause = format!(
                "service {service}: {cause}; its table is held until no more than half are down, or one has answered for \
                 {} s. Check this host's own network first",
                witness_time(&probe).as_secs_f32()
            );
            self.event(None, EventKind::EdgeSuspected, cause);
            for (_, member) in self.members.iter_mut().filter(|(name, _)| name.service == *service) {
                let failed = member.health.down_since().is_some_and(|since| since + window >= now);
                member.held |= failed && member.in_rotation;
            }
        }
        if let Some(member) = self.members.get_mut(name) {
            // What was out before stays out.
            member.held = member.in_rotation;
        }
    }

    /// After a result of one of the service's probes: ends the suspicion if no more than half of the members are down, or
    /// if a witness refutes it.
    pub(super) fn reconsider(&mut self, service: &ServiceName) {
        let Some(suspicion) = self.suspected.get(service) else { return };
        let since = suspicion.since;
        for (_, member) in self.members.iter_mut().filter(|(name, _)| name.service == *service) {
            member.held &= member.health.health() == Health::Down;
        }
        let probed = self.probed(service).count();
        let down = self.probed(service).filter(|m| m.health.health() == Health::Down).count();
        let mut cause = format!("service {service}: {down} of {probed} members are down");
        if probed >= FEWEST && down * 2 > probed {
            let answers = |m: &Watched| {
                let up = m.health.up_since().map_or(since, |up| up.max(since));
                let long = m.probe.as_ref().is_some_and(|probe| self.now >= up + witness_time(probe));
                long && m.health.health() == Health::Up && m.health.last().is_some() && m.health.error().is_none()
            };
            let mut members = self.members.iter().filter(|(name, _)| name.service == *service);
            let Some((witness, _)) = members.find(|(_, m)| answers(m)) else { return };
            cause += &format!(" themselves: this host reaches {}", witness.backend);
        }
        self.suspected.remove(service);
        for (_, member) in self.members.iter_mut().filter(|(name, _)| name.service == *service) {
            member.held = false;
        }
        self.dirty.insert(service.clone());
        self.event(None, EventKind::EdgeCleared, cause);
    }

    /// After a change of the configuration.
    pub(super) fn reconsider_all(&mut self) {
        for service in self.suspected.keys().cloned().collect::<Vec<_>>() {
            self.reconsider(&service);
        }
    }

    fn probed<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a Watched> {
        // What is being worked on says nothing about the edge.
        let members = self.members.iter().filter(move |(name, _)| name.service == *service && !self.is_leased(name));
        members.map(|(_, member)| member).filter(|m| m.probe.is_some())
    }
}

/// How long a member must have answered to bear witness: at least as long as probes take to judge one down.
pub(super) fn witness_time(probe: &crate::config::model::Probe) -> Duration {
    (probe.interval * probe.fall).max(WITNESS_AT_LEAST)
}
