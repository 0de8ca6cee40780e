//! One alert's life: first seen, fired, acknowledged, gone, back, over, forgotten; and whom it is owed to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::ack::Ack;
use super::super::condition::{Condition, Kind};
use super::super::message::{Message, Status, timestamp};
use super::super::schedule::{forgets, repeat};
use crate::config::model::{AlertRoute, RouteName};
use crate::core::api::{Event, EventKind, Time};

/// How long a condition must be gone until its alert is over, the first time.
const GONE: Duration = Duration::from_secs(5);
/// The same of one that keeps coming back.
const GONE_LONGEST: Duration = Duration::from_secs(300);
/// One that comes back within so long has flapped.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How long a route is owed the news that an alert is over.
const OWED: Duration = Duration::from_secs(24 * 3600);

/// One alert, from the first sight of its condition until nobody is owed anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Alert {
    pub(super) condition: Condition,
    /// Who answered for it when it fired: receivers that tell alerts by their labels must always hear the same.
    #[serde(default)]
    owner_fired: Option<String>,
    /// When its condition was first seen.
    pub(super) first: Time,
    /// Since when its condition is gone, if it is.
    pub(super) gone: Option<Time>,
    pub(super) fired: Option<Time>,
    pub(super) ended: Option<Time>,
    /// Who works on it now.
    #[serde(default)]
    pub(super) ack: Option<Ack>,
    /// When the last acknowledgement ended, and with it the silence: from then on its steps count anew.
    #[serde(default)]
    again: Option<Time>,
    /// How often it came back.
    flaps: u32,
    pub(super) told: BTreeMap<RouteName, Record>,
}

/// What a route was told of an alert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// When the newest attempt began.
    pub(super) tried: Option<Time>,
    /// When it last took that the alert stands.
    pub(super) delivered: Option<Time>,
    pub(super) times: u32,
    /// Whether it took that the alert is over.
    pub(super) told_end: bool,
    pub(super) error: Option<String>,
}

impl Alert {
    pub(super) fn new(condition: Condition, now: Time) -> Self {
        let (owner_fired, gone, fired, ended) = (None, None, None, None);
        let (ack, again, told) = (None, None, BTreeMap::new());
        Self { condition, owner_fired, first: now, gone, fired, ended, ack, again, flaps: 0, told }
    }

    /// Its condition stands at `now`. Whether it fires by that.
    pub(super) fn see(&mut self, condition: Condition, now: Time) -> bool {
        if self.ended.take().is_some() {
            // Back: a new alert, of which nobody was told.
            *self = Self { flaps: self.flaps + 1, ..Self::new(condition.clone(), now) };
        } else if self.gone.take().is_some() {
            self.flaps += 1;
        }
        self.condition = condition;
        let stood = now.boot_ms.saturating_sub(self.first.boot_ms);
        let fires = self.fired.is_none() && u128::from(stood) >= self.condition.kind.hold().as_millis();
        if fires {
            self.fired = Some(now);
            self.owner_fired = self.condition.owner.clone();
        }
        fires
    }

    /// Ends an acknowledgement whose time is over; says so, once, if the alert still stands.
    pub(super) fn escalate_again(&mut self, now: Time) -> Option<Event> {
        let ack = self.ack.take_if(|ack| ack.is_over(now))?;
        self.again = Some(now);
        let by = ack.by.in_words();
        let event = self.event(EventKind::AlertAckEnded, now);
        let cause = format!("{}; the acknowledgement by {by} is over, so it escalates again", event.cause);
        self.ended.is_none().then_some(Event { cause, ..event })
    }

    /// The moments of it that are by the clock of an earlier boot, but for the acknowledgement's.
    pub(super) fn moments(&mut self) -> impl Iterator<Item = &mut Time> {
        let told = self.told.values_mut().flat_map(|record| [&mut record.tried, &mut record.delivered]);
        let own = [&mut self.gone, &mut self.fired, &mut self.ended, &mut self.again];
        std::iter::once(&mut self.first).chain(own.into_iter().chain(told).flatten())
    }

    /// Whether its condition has been gone for long enough.
    pub(super) fn is_over(&self, now: Time) -> bool {
        let wait = (GONE * (1 << self.flaps.min(6))).min(GONE_LONGEST);
        let long_gone = self.gone.is_some_and(|at| (at + wait).boot_ms <= now.boot_ms);
        self.fired.is_some() && self.ended.is_none() && long_gone
    }

    /// Whether nothing of it matters any more.
    pub(super) fn is_forgotten(&self, routes: &[AlertRoute], now: Time) -> bool {
        let Some(ended) = self.ended else { return self.fired.is_none() && self.gone.is_some() };
        let owed = routes.iter().any(|route| self.owes_end(route));
        let keep = if owed { OWED } else { REMEMBERED };
        (ended + keep).boot_ms <= now.boot_ms
    }

    /// A route that was told, or that was to be told, hears of the end.
    pub(super) fn owes_end(&self, route: &AlertRoute) -> bool {
        self.told.get(&route.name).is_some_and(|record| record.tried.is_some() && !record.told_end)
    }

    pub(super) fn is_due(&self, route: &AlertRoute, now: Time) -> bool {
        if self.condition.kind == Kind::RouteFailing && self.condition.subject == route.name.as_str() {
            return false;
        }
        let Some(fired) = self.fired else { return false };
        if self.ended.is_some() {
            return self.owes_end(route);
        }
        if self.condition.kind.severity() < route.severity {
            return false;
        }
        let delivered = self.told.get(&route.name).and_then(|record| record.delivered);
        let repeats = |at: Time| (at + repeat(route)).boot_ms <= now.boot_ms;
        if let Some(at) = delivered.filter(|_| forgets(route)) {
            // Silence would be taken for the end there.
            return repeats(at);
        }
        let begun = self.again.unwrap_or(fired);
        if self.ack.is_some() || (begun + route.after).boot_ms > now.boot_ms {
            return false;
        }
        delivered.is_none_or(|at| at.boot_ms < begun.boot_ms || repeats(at))
    }

    pub(super) fn message(&self, instance: &str, route: &AlertRoute) -> Message {
        let fired = self.fired.unwrap_or(self.first);
        let mut message = Message::new(&self.condition, instance, route, self.since(), fired);
        message.owner_fired.clone_from(&self.owner_fired);
        message.repeated = self.told.get(&route.name).is_some_and(|record| record.delivered.is_some());
        if let Some(ended) = self.ended {
            (message.status, message.ended) = (Status::Resolved, Some(timestamp(ended)));
        }
        message
    }

    pub(super) fn since(&self) -> Time {
        self.condition.since.unwrap_or(self.first)
    }

    pub(super) fn event(&self, kind: EventKind, time: Time) -> Event {
        let Condition { backend, service, .. } = self.condition.clone();
        let cause = format!("{}: {}", self.condition.kind.severity().name(), self.condition.summary);
        Event { time, backend, service, kind, by: None, cause }
    }
}
