//! A server's own limit on active flows (`max_flows`): at it, it gets no new ones, until it is back under nine tenths.
//!
//! By the daemon's count, so between two counts it can be exceeded. If all members of a service that could serve are at
//! their limits, none is taken out for it: somebody must serve, and people are told. Nobody stays out on an old count.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Core;
use super::api::{EventKind, Scope, Time};
use super::weight::Weighed;
use crate::config::model::{BackendName, Config, Service};

/// Back in, in percent of the limit.
const BACK_UNDER: u64 = 90;
/// A count is void after this time: several were missed.
const VOID_AFTER: Duration = Duration::from_secs(60);

/// A server at its limit.
#[derive(Clone, Debug)]
pub struct Full {
    /// Flows at the last count.
    active: u64,
    limit: u32,
}

/// Which servers are at their limits.
#[derive(Debug, Default)]
pub struct Limits {
    full: BTreeMap<BackendName, Full>,
    counted: Option<Time>,
}

impl Core {
    /// After a count: who has reached its limit, and who is back under it.
    pub(super) fn follow_limits(&mut self, config: &Config) {
        self.limits.counted = Some(self.now);
        let mut active: BTreeMap<&BackendName, u64> = BTreeMap::new();
        for (name, load) in self.loads.all() {
            *active.entry(&name.backend).or_default() += load.active;
        }
        let mut full = BTreeMap::new();
        for backend in config.backends.values() {
            let (Some(limit), Some(&active)) = (backend.max_flows, active.get(&backend.name)) else { continue };
            let least = if self.is_at_limit(&backend.name) {
                (u64::from(limit) * BACK_UNDER).div_ceil(100)
            } else {
                limit.into()
            };
            if active >= least {
                full.insert(backend.name.clone(), Full { active, limit });
            }
        }
        self.change_limits(full, "it is back under nine tenths of its max_flows, or has none any more");
    }

    /// Gives up what was counted too long ago.
    pub(super) fn run_limits(&mut self) {
        if self.next_limit().is_some_and(|at| at <= self.now.boot_ms) {
            self.change_limits(BTreeMap::new(), "its flows have not been counted for a minute");
        }
    }

    /// When a count gets too old, CLOCK_BOOTTIME ms.
    pub(super) fn next_limit(&self) -> Option<u64> {
        let counted = self.limits.counted.filter(|_| !self.limits.full.is_empty())?;
        Some((counted + VOID_AFTER).boot_ms)
    }

    fn change_limits(&mut self, full: BTreeMap<BackendName, Full>, why_not: &str) {
        let before = std::mem::replace(&mut self.limits.full, full);
        let scope = |backend: &BackendName| Scope { backend: backend.clone(), service: None };
        let began = self.limits.full.iter().filter(|(name, _)| !before.contains_key(*name));
        let began: Vec<_> = began.map(|(name, full)| (scope(name), full.in_words())).collect();
        for (scope, cause) in began {
            self.event_of(&scope, EventKind::AtLimit, cause);
            self.mark_dirty(&scope);
        }
        for name in before.keys() {
            if !self.limits.full.contains_key(name) {
                self.event_of(&scope(name), EventKind::BelowLimit, why_not.to_owned());
            }
            // What it is told by has other numbers now.
            self.mark_dirty(&scope(name));
        }
    }

    /// Whether a server is at its limit.
    pub(super) fn is_at_limit(&self, backend: &BackendName) -> bool {
        self.limits.full.contains_key(backend)
    }

    /// Takes members out that are at their limits, unless all are that could serve.
    pub(super) fn limit(&mut self, service: &Service, weighed: &mut [Weighed]) {
        let panics = self.resorts.get(&service.name).is_some_and(|state| state.panic.is_some());
        let serving = || service.members.iter().zip(&*weighed).filter(|(_, w)| w.effective > 0);
        let any = !panics && serving().any(|(m, _)| self.is_at_limit(&m.backend));
        let all = any && serving().all(|(m, _)| self.is_at_limit(&m.backend));
        if all && !self.crowded.contains_key(&service.name) {
            self.crowded.insert(service.name.clone(), self.now);
            let cause = "all members that could serve are at their max_flows: they serve all the same".to_owned();
            self.event_in(&service.name, EventKind::ServiceAtLimit, cause);
        } else if !all && self.crowded.remove(&service.name).is_some() {
            let cause = "not all members are at their max_flows any more".to_owned();
            self.event_in(&service.name, EventKind::ServiceBelowLimit, cause);
        }
        if all || !any {
            return;
        }
        for (member, weighed) in service.members.iter().zip(weighed).filter(|(_, w)| w.effective > 0) {
            if let Some(full) = self.limits.full.get(&member.backend) {
                weighed.limit(full.in_words());
            }
        }
    }
}

impl Full {
    fn in_words(&self) -> String {
        format!("{} active flows, its max_flows is {}", self.active, self.limit)
    }
}
