//! Memory of the servers as the core follows it: when each is read, what the readings say of it, and how much of its weight
//! is shed for it.
//!
//! Memory belongs to the server, the factor of its weight to each service: [`super::memory`] judges and reckons, this puts
//! it on the core's clock.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Core;
use super::api::{EventKind, MemberName, MemoryCall, Output, Scope, Time, millis};
use super::memory::forecast::{self, Forecast, Forecaster};
use super::memory::sample::Sample;
use super::memory::shed;
use super::memory::thresholds::Thresholds;
use super::memory::tracker::{Change, Memory, Settings, Tracker};
use crate::config::memory::MemorySource;
use crate::config::model::{BackendName, Config, ServiceName};

/// So many intervals without a sample that can be believed make memory unknown.
const SILENT_AFTER: u32 = 3;

/// A server whose memory is read.
#[derive(Debug)]
pub struct Monitor {
    source: Arc<MemorySource>,
    tracker: Tracker,
    forecaster: Forecaster,
    /// When it is read next, CLOCK_BOOTTIME ms.
    at_ms: u64,
    /// The reading under way.
    open: Option<u64>,
    /// Its place among those that are due.
    due_ms: u64,
}

impl Monitor {
    /// What its samples say.
    pub(super) fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}

impl Core {
    /// Reads the memory of the configuration's servers from now on, spread over their intervals.
    pub(super) fn follow_memory(&mut self, config: &Config) {
        let mut old = std::mem::take(&mut self.monitors);
        let monitored: Vec<_> = config.backends.values().filter_map(|b| Some((&b.name, b.memory.as_ref()?))).collect();
        let count = monitored.len().max(1) as u64;
        for (place, (name, source)) in (0..).zip(monitored) {
            let settings =
                Settings { thresholds: Thresholds::default(), interval: source.interval, silent_after: SILENT_AFTER };
            let kept = old.remove(name).filter(|m| m.source.kind == source.kind && m.source.to == source.to);
            let interval_ms = millis(source.interval);
            let monitor = match kept {
                Some(mut monitor) => {
                    monitor.tracker.configure(settings);
                    monitor.source = Arc::new(source.clone());
                    monitor.at_ms = monitor.at_ms.min(self.now.boot_ms.saturating_add(interval_ms));
                    monitor
                }
                None => Monitor {
                    source: Arc::new(source.clone()),
                    tracker: Tracker::new(settings, self.now),
                    forecaster: Forecaster::default(),
                    at_ms: self.now.boot_ms + interval_ms / count * place,
                    open: None,
                    due_ms: 0,
                },
            };
            self.monitors.insert(name.clone(), monitor);
        }
        self.reading_due.clear();
        for name in self.monitors.keys().cloned().collect::<Vec<_>>() {
            self.plan_reading(&name);
        }
        let (members, monitors) = (&self.members, &self.monitors);
        self.stuck.retain(|name| members.contains_key(name) && monitors.contains_key(&name.backend));
        self.shedding.retain(|name, _| config.services.iter().any(|s| s.name == *name));
        self.shed_due.extend(config.services.iter().map(|s| s.name.clone()));
    }

    /// Puts a monitor in its place among those that are due.
    fn plan_reading(&mut self, name: &BackendName) {
        let Some(monitor) = self.monitors.get_mut(name) else { return };
        let due_ms = monitor.tracker.next_ms().map_or(monitor.at_ms, |at| at.min(monitor.at_ms));
        let before = std::mem::replace(&mut monitor.due_ms, due_ms);
        if before != due_ms {
            self.reading_due.remove(&(before, name.clone()));
        }
        self.reading_due.insert((due_ms, name.clone()));
    }

    /// Starts readings that are due, and notes sources that have been silent for too long.
    pub(super) fn run_readings(&mut self) {
        let now = self.now;
        while self.reading_due.first().is_some_and(|(at, _)| *at <= now.boot_ms) {
            let Some((_, name)) = self.reading_due.pop_first() else { break };
            let Some(monitor) = self.monitors.get_mut(&name) else { continue };
            let mut changes = Vec::new();
            if monitor.at_ms <= now.boot_ms {
                if monitor.open.take().is_some() {
                    let lost = Err("the reader gave no answer in a whole interval".to_owned());
                    changes.extend(monitor.tracker.record(lost, now));
                }
                self.last_reading += 1;
                monitor.open = Some(self.last_reading);
                let interval_ms = millis(monitor.source.interval).max(1);
                monitor.at_ms = now.boot_ms.saturating_add(interval_ms);
                let (backend, id, source) = (name.clone(), self.last_reading, monitor.source.clone());
                self.outputs.push_back(Output::ReadMemory { backend, id, source });
            }
            if monitor.tracker.next_ms().is_some_and(|at| at <= now.boot_ms) {
                changes.extend(monitor.tracker.tick(now));
            }
            self.plan_reading(&name);
            for change in changes {
                self.memory_changed(&name, change);
            }
        }
    }

    /// Takes a reading.
    pub(super) fn take_memory(&mut self, backend: &BackendName, id: u64, result: Result<Sample, String>) {
        let now = self.now;
        let Some(monitor) = self.monitors.get_mut(backend) else { return };
        if monitor.open.take_if(|open| *open == id).is_none() {
            return;
        }
        let alarm = result.as_ref().ok().and_then(|sample| monitor.forecaster.record(sample, now));
        let change = monitor.tracker.record(result, now);
        let forecast = monitor.forecaster.forecast(now);
        self.plan_reading(backend);
        if let Some(change) = change {
            self.memory_changed(backend, change);
        }
        if let Some(alarm) = alarm {
            let scope = Scope { backend: backend.clone(), service: None };
            let (kind, cause) = match alarm {
                forecast::Change::Raised => (EventKind::MemoryEnds, ends(&forecast)),
                forecast::Change::Cleared => (EventKind::MemoryHolds, "its memory no longer runs out".to_owned()),
            };
            self.event_of(&scope, kind, cause);
        }
        self.shed_due.extend(self.services_of(backend));
    }

    /// Services that the server is a member of.
    fn services_of(&self, backend: &BackendName) -> Vec<ServiceName> {
        let services = self.config.iter().flat_map(|c| &c.services);
        services.filter(|s| s.members.iter().any(|m| m.backend == *backend)).map(|s| s.name.clone()).collect()
    }

    fn memory_changed(&mut self, backend: &BackendName, change: Change) {
        let kind = match change.to {
            Memory::Ample | Memory::NotMonitored => EventKind::MemoryAmple,
            Memory::Tight | Memory::Exhausted => EventKind::MemoryShort,
            Memory::Unknown { .. } => EventKind::MemoryUnknown,
        };
        let scope = Scope { backend: backend.clone(), service: None };
        let (to, from) = (change.to.name(), change.from.name());
        let turn = if to == from { format!("still {to}") } else { format!("{to} after {from}") };
        self.event_of(&scope, kind, format!("{turn}: {}", change.cause));
        self.recall_due.extend(self.services_of(backend));
    }

    /// Moves the factors of services whose servers were read, or whose time has come.
    pub(super) fn run_shedding(&mut self) {
        let now = self.now;
        let timed = self.shedding.iter().filter(|(_, s)| s.next_ms().is_some_and(|at| at <= now.boot_ms));
        let mut due: BTreeSet<ServiceName> = timed.map(|(name, _)| name.clone()).collect();
        due.append(&mut self.shed_due);
        if due.is_empty() {
            return;
        }
        let Some(config) = self.config.clone() else { return };
        for service in config.services.iter().filter(|s| due.contains(&s.name)) {
            if !service.members.iter().any(|m| self.monitors.contains_key(&m.backend)) {
                self.dirty.extend(self.shedding.remove(&service.name).map(|_| service.name.clone()));
                continue;
            }
            let members = service.members.iter().filter_map(|m| {
                let watched = self.members.get(&MemberName::of(service, m))?;
                let tracker = self.monitors.get(&m.backend).map(|monitor| &monitor.tracker);
                Some(shed::Member {
                    backend: &m.backend,
                    weight: watched.unshed,
                    memory: tracker.map_or(&Memory::NotMonitored, Tracker::memory),
                    headroom: tracker.and_then(Tracker::headroom),
                    thresholds: tracker.map(Tracker::thresholds).unwrap_or_default(),
                })
            });
            let members: Vec<_> = members.collect();
            let steps = self.shedding.entry(service.name.clone()).or_default().step(&members, now);
            for step in steps {
                self.dirty.insert(service.name.clone());
                let name = MemberName { service: service.name.clone(), backend: step.backend };
                let cause = format!("{} instead of {} sixteenths of its weight: {}", step.to, step.from, step.cause);
                self.event(Some(&name), EventKind::Shed, cause);
            }
            self.tell_stuck(&service.name, service.members.iter().map(|m| &m.backend));
        }
        self.weigh();
    }

    /// Tells once of each server that shedding did not help.
    fn tell_stuck<'a>(&mut self, service: &ServiceName, backends: impl Iterator<Item = &'a BackendName>) {
        for backend in backends {
            let name = MemberName { service: service.clone(), backend: backend.clone() };
            let stuck = self.shedding.get(service).and_then(|s| s.stuck(backend));
            if stuck.is_none() {
                self.stuck.remove(&name);
            } else if self.stuck.insert(name.clone()) {
                let cause =
                    "less weight has not given it more memory in ten minutes: its load is not what fills it".to_owned();
                self.event(Some(&name), EventKind::SheddingStuck, cause);
            }
        }
    }

    /// A member's factor in sixteenths, and why it is lowered.
    pub(super) fn factor(&self, name: &MemberName) -> (u8, String) {
        let Some(shedding) = self.shedding.get(&name.service) else { return (shed::FULL, String::new()) };
        let why = shedding.cause(&name.backend).unwrap_or("its memory was short").to_owned();
        (shedding.factor(&name.backend), why)
    }

    /// When something of this is due next, CLOCK_BOOTTIME ms.
    pub(super) fn next_memory(&self) -> Option<u64> {
        let reading = self.reading_due.first().map(|(at, _)| *at);
        reading.into_iter().chain(self.shedding.values().filter_map(shed::Shedding::next_ms)).min()
    }

    /// What is known of each monitored server's memory.
    pub(super) fn memory_calls(&self, now: Time) -> Vec<MemoryCall> {
        let call = |(backend, m): (&BackendName, &Monitor)| MemoryCall {
            backend: backend.clone(),
            memory: m.tracker.memory().clone(),
            since: m.tracker.since().seen_at(now),
            headroom: m.tracker.headroom(),
            sample: m.tracker.last().map(|(_, sample)| *sample),
            forecast: m.forecaster.forecast(now),
            ends: m.forecaster.raised().map(|since| since.seen_at(now)),
        };
        self.monitors.iter().map(call).collect()
    }

    /// Whether a server is known to be short of memory.
    pub(super) fn is_short(&self, backend: &BackendName) -> bool {
        self.monitors.get(backend).is_some_and(|m| m.tracker.memory().is_short())
    }
}

fn ends(forecast: &Forecast) -> String {
    match forecast {
        Forecast::Exhausts { near, middle, far } => {
            let minutes = |d: &std::time::Duration| d.as_secs() / 60;
            format!(
                "its memory runs out in about {} min, if it goes on as it does ({} to {} min)",
                minutes(middle),
                minutes(near),
                minutes(far)
            )
        }
        Forecast::NoTrend | Forecast::CannotTell => "its memory runs out within half an hour".to_owned(),
    }
}
