//! How many flows each member has, as the daemon counts them now and then, and what each server is known to have carried.

use std::collections::BTreeMap;

use super::Core;
use super::api::{Load, MemberName, Output, Store, Time};
use super::guard::line::{Follower, Line};
use super::guard::peak::Peak;
use super::headroom::Monitor;
use super::memory::tracker::{Memory, Tracker};
use crate::config::model::{BackendName, Config};

/// A count that is older says nothing of now, ms.
const STALE_MS: u64 = 60_000;
/// A sample of memory goes with a count of flows that is at most so much younger, ms.
const TOGETHER_MS: u64 = 30_000;
/// Between two writes of what servers carried, ms.
const STORE_EVERY_MS: u64 = 60_000;
/// Between two looks for a line through flows and memory, ms: all pairs of points are compared.
const LINE_EVERY_MS: u64 = 5 * 60_000;

/// The flows of all members at the last count, and what servers carried.
#[derive(Debug, Default)]
pub struct Loads {
    members: BTreeMap<MemberName, Load>,
    /// When they were counted.
    counted: Option<Time>,
    servers: BTreeMap<BackendName, Carrier>,
    /// When what servers carried was last stored, CLOCK_BOOTTIME ms.
    stored_ms: u64,
}

/// What is remembered of a server's load.
#[derive(Debug, Default)]
pub struct Carrier {
    /// The highest loads that it carried.
    pub peak: Peak,
    /// How its memory followed its flows, by the last look.
    pub line: Option<Line>,
    follower: Follower,
    /// When `line` was looked for, CLOCK_BOOTTIME ms.
    looked_ms: u64,
    /// Whether `peak` has something that is not stored.
    unsaved: bool,
}

impl Loads {
    /// Active flows of a member, unless they were counted too long ago, or never.
    pub fn active(&self, name: &MemberName, now: Time) -> Option<u64> {
        self.counted.filter(|at| now.boot_ms.saturating_sub(at.boot_ms) <= STALE_MS)?;
        Some(self.members.get(name)?.active)
    }

    /// As it was last counted, whenever that was.
    pub fn last(&self, name: &MemberName) -> Option<Load> {
        self.members.get(name).copied()
    }

    /// All that were in the last count.
    pub fn all(&self) -> &BTreeMap<MemberName, Load> {
        &self.members
    }

    /// What is remembered of a server.
    pub fn server(&self, backend: &BackendName) -> Option<&Carrier> {
        self.servers.get(backend)
    }

    /// Active flows of each server in all its services; `None` if those of one are not known.
    fn of_servers<'a>(&self, config: &'a Config) -> BTreeMap<&'a BackendName, Option<u64>> {
        let mut sums = BTreeMap::new();
        for service in &config.services {
            for member in &service.members {
                let active = self.members.get(&MemberName::of(service, member)).map(|load| load.active);
                let sum = sums.entry(&member.backend).or_insert(Some(0_u64));
                *sum = sum.zip(active).map(|(sum, active)| sum.saturating_add(active));
            }
        }
        sums
    }
}

impl Core {
    /// Takes what an earlier daemon knew of the servers' loads.
    pub(super) fn take_peaks(&mut self, peaks: Vec<(BackendName, Peak)>) {
        self.loads.servers =
            peaks.into_iter().map(|(name, peak)| (name, Carrier { peak, ..Carrier::default() })).collect();
    }

    /// Takes a count. Who is not in it keeps nothing from the last one: an old figure would be taken for a new one.
    pub(super) fn take_load(&mut self, mut members: BTreeMap<MemberName, Load>) {
        members.retain(|name, _| self.members.contains_key(name));
        self.follow_trails(&members);
        self.judge_distribution(&members);
        self.loads.members = members;
        self.loads.counted = Some(self.now);
        if let Some(config) = self.config.clone() {
            self.follow_limits(&config);
        }
        self.record_loads();
        self.run_guard();
    }

    /// Remembers what each server carries now, and has what is new kept, once a minute at most.
    fn record_loads(&mut self) {
        let now = self.now;
        let Some(config) = self.config.clone() else { return };
        self.loads.servers.retain(|name, _| config.backends.contains_key(name));
        let sums = self.loads.of_servers(&config);
        for (backend, flows) in sums {
            let tracker = self.monitors.get(backend).map(Monitor::tracker);
            let carrier = self.loads.servers.entry(backend.clone()).or_default();
            let Some(flows) = flows else { continue };
            let spare = tracker.filter(|t| *t.memory() == Memory::Ample).and_then(Tracker::headroom);
            carrier.unsaved |= carrier.peak.record(flows, spare, now);
            let sample = tracker.filter(|t| !matches!(t.memory(), Memory::Unknown { .. })).and_then(Tracker::last);
            if let Some((at, sample)) = sample
                && now.boot_ms.saturating_sub(at.boot_ms) <= TOGETHER_MS
            {
                carrier.follower.record(flows, sample, now);
            }
            if now.boot_ms.saturating_sub(carrier.looked_ms) >= LINE_EVERY_MS {
                (carrier.line, carrier.looked_ms) = (carrier.follower.line(), now.boot_ms);
            }
        }
        if now.boot_ms.saturating_sub(self.loads.stored_ms) < STORE_EVERY_MS {
            return;
        }
        let unsaved = self.loads.servers.iter_mut().filter_map(|(name, carrier)| {
            std::mem::take(&mut carrier.unsaved).then(|| (name.clone(), carrier.peak.clone()))
        });
        let peaks: Vec<_> = unsaved.collect();
        if !peaks.is_empty() {
            self.loads.stored_ms = now.boot_ms;
            self.outputs.push_back(Output::Store(Store::PutPeaks(peaks)));
        }
    }
}
