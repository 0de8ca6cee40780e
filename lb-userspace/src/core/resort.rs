//! The last resort: who takes new flows when no primary member can. In order: the backup tier; healthy drained servers,
//! which are called back ([`super::recall`]); then, if the service says so, everybody (*panic*). Never who is in
//! maintenance, nor who was drained not to be called back.
//!
//! Before that, the suspicion of the edge holds the table ([`super::suspicion`]): who is held serves. What is not decided
//! yet is waited for, but not for long. Backups leave again when a primary has served for a while, panic ends with the
//! first member that can serve: its probes have succeeded `rise` times by then.

use std::time::Duration;

use super::Core;
use super::api::{EventKind, MemberName, Time};
use super::suspicion::witness_time;
use super::weight::Weighed;
use crate::config::model::{Config, Panic, Service, ServiceName, Tier};

/// A primary must have served so long until the backups of a service that is not probed leave.
const BACK_FOR: Duration = Duration::from_secs(10);
/// What is not decided yet is waited for at least so long, however quick probes are.
const DECIDED_WITHIN: Duration = Duration::from_secs(5);

/// How far a service has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resort {
    /// Since when no primary member can serve.
    without: Option<Time>,
    /// Since when nobody at all is let in.
    nobody: Option<Time>,
    /// Since when a primary serves again beside the backups.
    back: Option<Time>,
    /// Since when backups take new flows.
    pub backup: Option<Time>,
    /// Since when all take new flows although down.
    pub panic: Option<Time>,
    /// When a wait is over, CLOCK_BOOTTIME ms.
    due_ms: Option<u64>,
}

impl Core {
    /// Lets backups stand by or serve, and in panic lets everybody in. `weighed` is what each member's own facts come to.
    pub(super) fn resort(&mut self, service: &Service, weighed: &mut [Weighed]) {
        let now = self.now;
        let members = || service.members.iter().zip(&*weighed);
        let can = |tier| members().any(|(m, w)| m.tier == tier && w.can_serve());
        let (primaries, backups) = (can(Tier::Primary), can(Tier::Backup));
        let mut primary = service.members.iter().filter(|m| m.tier == Tier::Primary);
        let waits = !primaries && primary.any(|m| self.is_undecided(service, m));
        let mut state = self.resorts.get(&service.name).copied().unwrap_or_default();
        state.without = if primaries { None } else { state.without.or(Some(now)) };
        let over = state.without.is_some_and(|since| now >= since + decided_within(service));
        match state.backup {
            None if !primaries && backups && (!waits || over) => {
                state.backup = Some(now);
                let cause = "no primary member can serve: the backups do".to_owned();
                self.event_in(&service.name, EventKind::BackupInUse, cause);
            }
            Some(_) if !backups => {
                state.backup = None;
                self.event_in(&service.name, EventKind::BackupStandby, "no backup can serve any more".to_owned());
            }
            Some(_) if primaries => {
                let back = *state.back.get_or_insert(now);
                if now >= back + back_for(service) && self.full_at(service, weighed) <= now {
                    state.backup = None;
                    let seconds = back_for(service).as_secs();
                    let cause = format!("primary members have served again for {seconds} s: the backups stand by");
                    self.event_in(&service.name, EventKind::BackupStandby, cause);
                }
            }
            _ => {}
        }
        if !primaries || state.backup.is_none() {
            state.back = None;
        }
        if state.panic.is_some() && (primaries || state.backup.is_some() || service.panic == Panic::Refuse) {
            state.panic = None;
            let cause =
                if service.panic == Panic::Refuse { "panic is \"refuse\" now" } else { "a member can serve again" };
            self.event_in(&service.name, EventKind::PanicOver, cause.to_owned());
        }
        for (member, weighed) in service.members.iter().zip(&mut *weighed) {
            if member.tier == Tier::Backup && state.backup.is_none() && state.panic.is_none() {
                weighed.stand_by();
            } else if state.panic.is_some() && self.may_panic(&MemberName::of(service, member)) {
                weighed.let_in(member.weight);
            }
        }
        let back = state.back.map(|since| (since + back_for(service)).max(self.full_at(service, weighed)));
        let nobody = state.panic.is_none() && weighed.iter().all(|w| w.effective == 0);
        state.nobody = if nobody { state.nobody.or(Some(now)) } else { None };
        let waits = state.without.filter(|_| state.backup.is_none()).into_iter().chain(state.nobody);
        let due = back.into_iter().chain(waits.map(|since| since + decided_within(service)));
        state.due_ms = due.map(|at| at.boot_ms).filter(|at| *at > now.boot_ms).min();
        if state.nobody.is_some() && service.panic == Panic::All {
            self.forsaken.insert(service.name.clone());
        } else {
            self.forsaken.remove(&service.name);
        }
        if state == Resort::default() {
            self.resorts.remove(&service.name);
        } else {
            self.resorts.insert(service.name.clone(), state);
        }
    }

    /// When the first of the primaries that can serve has its full weight.
    fn full_at(&self, service: &Service, weighed: &[Weighed]) -> Time {
        let serving = service.members.iter().zip(weighed).filter(|(m, w)| m.tier == Tier::Primary && w.can_serve());
        let ramps = serving.map(|(m, _)| self.watched(service, m).and_then(|w| w.ramp));
        ramps.map(|ramp| ramp.map_or(self.now, |ramp| ramp.since + ramp.length)).min().unwrap_or(self.now)
    }

    /// Whether a member gets new flows in panic: it can be reached, and nobody keeps it out for good reasons.
    fn may_panic(&self, name: &MemberName) -> bool {
        let Some(member) = self.members.get(name) else { return false };
        let kept_out = self.leases.values().any(|l| l.scope.covers(name) && !l.may_be_recalled());
        !kept_out && self.hops.usable(member.endpoint.address).is_ok()
    }

    /// After recalls: panic where nobody is left, and nobody is coming.
    pub(super) fn run_last_resort(&mut self) {
        let Some(config) = self.config.clone().filter(|_| !self.forsaken.is_empty()) else { return };
        for service in config.services.iter().filter(|s| self.forsaken.contains(&s.name)).collect::<Vec<_>>() {
            let Some(state) = self.resorts.get(&service.name).copied() else { continue };
            let over = state.nobody.is_some_and(|since| self.now >= since + decided_within(service));
            let waits = service.members.iter().any(|m| self.is_undecided(service, m));
            let anybody = service.members.iter().any(|m| self.may_panic(&MemberName::of(service, m)));
            if !anybody || (waits && !over) {
                continue;
            }
            self.resorts.insert(service.name.clone(), Resort { panic: Some(self.now), ..state });
            let cause = "no member can serve, none can be called back: new flows go to all, although down".to_owned();
            self.event_in(&service.name, EventKind::Panic, cause);
            self.dirty.insert(service.name.clone());
        }
        self.weigh();
    }

    /// Marks services whose waiting is over.
    pub(super) fn run_resorts(&mut self) {
        let due = self.resorts.iter().filter(|(_, state)| state.due_ms.is_some_and(|at| at <= self.now.boot_ms));
        self.dirty.extend(due.map(|(name, _)| name.clone()));
    }

    /// After a change of the configuration: services that are gone are in no state.
    pub(super) fn follow_resorts(&mut self, config: &Config) {
        let goes_on = |name: &ServiceName| config.services.iter().any(|s| s.name == *name);
        self.resorts.retain(|name, _| goes_on(name));
        self.forsaken.retain(goes_on);
        self.crowded.retain(|name, _| goes_on(name));
    }

    /// When the next waiting is over, CLOCK_BOOTTIME ms.
    pub(super) fn next_resort(&self) -> Option<u64> {
        self.resorts.values().filter_map(|state| state.due_ms).min()
    }
}

fn back_for(service: &Service) -> Duration {
    service.probe.as_ref().map_or(BACK_FOR, witness_time)
}

fn decided_within(service: &Service) -> Duration {
    service.probe.as_ref().map_or(DECIDED_WITHIN, |p| (p.interval + p.timeout).max(DECIDED_WITHIN))
}
