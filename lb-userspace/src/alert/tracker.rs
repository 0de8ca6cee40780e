//! Alerts over time: when a condition fires, when it is over, and which route is to be told now.
//!
//! A condition fires once it has stood for its kind's hold. It is over once it has been gone for a while, the longer the
//! more often it came back, so that what flaps is one alert and not many. What a route was told is kept with the alert,
//! and all of it can be saved: a daemon that starts again goes on where the one before stopped.

mod acks;
mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::acks::Acknowledgement;
use self::life::{Alert, Record};
use super::board::{Board, Firing, RouteState, Told};
use super::condition::{Condition, Kind};
use super::message::{Message, Status, timestamp};
use super::schedule::Health;
use crate::config::model::{AlertRoute, RouteName};
use crate::core::api::{Event, EventKind, Time};

/// Messages that one route may have under way.
const IN_FLIGHT: usize = 32;

/// See the module.
pub struct Tracker {
    instance: String,
    alerts: BTreeMap<String, Alert>,
    health: BTreeMap<RouteName, Health>,
    /// Messages under way, by key and route.
    in_flight: BTreeSet<(String, RouteName)>,
    /// Until when what was saved is taken to stand, CLOCK_BOOTTIME ms.
    grace: u64,
    changed: bool,
}

/// What outlives the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The boot whose CLOCK_BOOTTIME its times are by.
    boot_id: String,
    alerts: BTreeMap<String, Alert>,
}

/// What changed, as an event for log and journal.
pub type Change = Event;

/// A message that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// By which route.
    pub route: RouteName,
    /// What to say.
    pub message: Message,
}

/// What came of a delivery.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub delivery: Delivery,
    /// Taken, or why not.
    pub result: Result<(), String>,
}

impl Tracker {
    /// Knows of nothing. `instance` is this host's name.
    pub fn new(instance: String) -> Self {
        let (alerts, health, in_flight) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { instance, alerts, health, in_flight, grace: 0, changed: false }
    }

    /// Goes on with what an earlier process saved. Of an earlier boot only the wall clock counts. For `grace`, what fired is
    /// taken to stand, even unseen.
    pub fn resume(&mut self, saved: Saved, boot_id: &str, now: Time, grace: Duration) {
        self.alerts = saved.alerts;
        self.grace = (now + grace).boot_ms;
        if saved.boot_id == boot_id {
            return;
        }
        for alert in self.alerts.values_mut() {
            for time in alert.moments() {
                let ago = u64::try_from(now.wall_ms.saturating_sub(time.wall_ms)).unwrap_or(0);
                time.boot_ms = now.boot_ms.saturating_sub(ago);
            }
            if let Some(ack) = &mut alert.ack {
                ack.carry_over(now);
            }
        }
    }

    /// Whether there is nothing to remember.
    pub fn is_idle(&self) -> bool {
        self.alerts.is_empty()
    }

    /// What was given out to be saved was not.
    pub fn save_again(&mut self) {
        self.changed = true;
    }

    /// What the next daemon needs, if that changed since it was last asked for.
    pub fn to_save(&mut self, boot_id: &str) -> Option<Saved> {
        std::mem::take(&mut self.changed).then(|| self.saved(boot_id))
    }

    /// All that the next process needs.
    pub fn saved(&self, boot_id: &str) -> Saved {
        let fired = self.alerts.iter().filter(|(_, a)| a.fired.is_some());
        let alerts = fired.map(|(key, alert)| (key.clone(), alert.clone())).collect();
        Saved { boot_id: boot_id.to_owned(), alerts }
    }

    /// Takes what is wrong now. The routes' own troubles are added here.
    pub fn observe(&mut self, mut conditions: Vec<Condition>, routes: &[AlertRoute], now: Time) -> Vec<Change> {
        self.health.retain(|name, _| routes.iter().any(|route| route.name == *name));
        conditions.extend(routes.iter().filter_map(|route| {
            let (since, why) = self.health.get(&route.name)?.failing.clone()?;
            let summary = format!("the alert route {} ({}) does not work: {why}", route.name, route.target.name());
            let condition = Condition::of(Kind::RouteFailing, route.name.as_str(), summary);
            Some(Condition { since: Some(since), ..condition })
        }));
        let mut changes = Vec::new();
        let mut seen = BTreeSet::new();
        for condition in conditions {
            let key = condition.key();
            let alert = self.alerts.entry(key.clone()).or_insert_with(|| Alert::new(condition.clone(), now));
            seen.insert(key);
            if alert.see(condition, now) {
                self.changed = true;
                changes.push(alert.event(EventKind::AlertFired, now));
            }
        }
        let again: Vec<Change> = self.alerts.values_mut().filter_map(|alert| alert.escalate_again(now)).collect();
        self.changed |= !again.is_empty();
        changes.extend(again);
        // What a stuck daemon does not see may stand all the same.
        let settled = now.boot_ms >= self.grace && !seen.contains(Kind::DaemonStuck.name());
        for (_, alert) in self.alerts.iter_mut().filter(|(key, _)| settled && !seen.contains(*key)) {
            alert.gone.get_or_insert(now);
            if alert.is_over(now) {
                alert.ended = Some(now);
                self.changed = true;
                changes.push(alert.event(EventKind::AlertResolved, now));
            }
        }
        let before = self.alerts.len();
        self.alerts.retain(|_, alert| !alert.is_forgotten(routes, now));
        self.changed |= self.alerts.len() != before;
        changes
    }

    /// Messages that are due; each is under way until [`Tracker::settle`].
    pub fn due(&mut self, routes: &[AlertRoute], now: Time) -> Vec<Delivery> {
        let mut due = Vec::new();
        for route in routes {
            let health = self.health.entry(route.name.clone()).or_default();
            let room = health.room(IN_FLIGHT, now);
            let mut waiting: Vec<(u64, &String)> = (self.alerts.iter())
                .filter(|(_, alert)| alert.is_due(route, now))
                .filter(|(key, _)| !self.in_flight.contains(&((*key).clone(), route.name.clone())))
                .map(|(key, alert)| (alert.told.get(&route.name).and_then(|r| r.tried).map_or(0, |t| t.boot_ms), key))
                .collect();
            // Those not tried for longest first: one message that a receiver refuses must not hold up the others.
            waiting.sort();
            for key in waiting.into_iter().take(room).map(|(_, key)| key.clone()).collect::<Vec<_>>() {
                let Some(alert) = self.alerts.get_mut(&key) else { continue };
                let message = alert.message(&self.instance, route);
                alert.told.entry(route.name.clone()).or_default().tried = Some(now);
                health.in_flight += 1;
                self.in_flight.insert((key, route.name.clone()));
                due.push(Delivery { route: route.name.clone(), message });
            }
        }
        due
    }

    /// Takes what came of a delivery; an event, where that is news.
    pub fn settle(&mut self, outcome: Outcome, now: Time) -> Option<Change> {
        let Outcome { delivery: Delivery { route, message }, result } = outcome;
        self.in_flight.remove(&(message.key.clone(), route.clone()));
        // A route that left the configuration meanwhile is nobody's concern.
        self.health.get_mut(&route)?.record(&result, now);
        let alert = self.alerts.get_mut(&message.key)?;
        if alert.fired.map(timestamp) != Some(message.fired) {
            // It was over and came back meanwhile: of this time the route knows nothing.
            return None;
        }
        let record = alert.told.entry(route.clone()).or_default();
        record.error = result.as_ref().err().cloned();
        if result.is_err() {
            return None;
        }
        match message.status {
            Status::Resolved => record.told_end = true,
            _ => {
                record.delivered = Some(now);
                record.times += 1;
            }
        }
        // A refresh, of which there is one each minute, changes nothing for anybody.
        let first = record.times == 1 || message.status == Status::Resolved;
        self.changed |= first || !message.repeated;
        let event = alert.event(EventKind::AlertDelivered, now);
        first.then(|| Event { cause: format!("{} to {route}: {}", message.status.name(), message.summary), ..event })
    }

    /// Forgets how a route fared, and what was under way by it: it is another from now on, or gone.
    pub fn renew(&mut self, route: &RouteName) {
        self.health.remove(route);
        self.in_flight.retain(|(_, by)| by != route);
    }

    /// What to show.
    pub fn board(&self, routes: &[AlertRoute], now: Time) -> Board {
        let told = |(route, record): (&RouteName, &Record)| Told {
            route: route.clone(),
            delivered: record.delivered,
            times: record.times,
            error: record.error.clone(),
        };
        let firing = self.alerts.values().filter(|a| a.ended.is_none()).filter_map(|alert| {
            Some(Firing {
                condition: alert.condition.clone(),
                since: alert.since(),
                fired: alert.fired?,
                told: alert.told.iter().map(told).collect(),
                acknowledged: alert.ack.clone(),
            })
        });
        let mut firing: Vec<Firing> = firing.collect();
        firing.sort_by_key(|f| (std::cmp::Reverse(f.condition.kind.severity()), f.since.boot_ms));
        let state = |route: &AlertRoute| {
            let health = self.health.get(&route.name);
            RouteState {
                name: route.name.clone(),
                kind: route.target.name(),
                severity: route.severity,
                after_ms: u64::try_from(route.after.as_millis()).unwrap_or(u64::MAX),
                delivered: health.map_or(0, |h| h.delivered),
                failed: health.map_or(0, |h| h.failed),
                failing: health.and_then(|h| h.failing.clone()),
            }
        };
        Board { time: Some(now), firing, routes: routes.iter().map(state).collect() }
    }
}

#[cfg(test)]
mod tests;
