//! What readers see: alerts that stand, whom each went to, and how the routes fare.

use crate::config::model::{RouteName, Severity};
use crate::core::api::Time;

use super::ack::Ack;
use super::condition::Condition;

/// A picture of all alerts and routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    /// When it was made; `None` before the first look.
    pub time: Option<Time>,
    /// Alerts that fire, worst first, then oldest first.
    pub firing: Vec<Firing>,
    /// Routes in the configuration's order.
    pub routes: Vec<RouteState>,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// What it is about.
    pub condition: Condition,
    /// Since when it has been so.
    pub since: Time,
    /// When it fired.
    pub fired: Time,
    /// Whom it went to, in the order of their names.
    pub told: Vec<Told>,
    /// Who works on it.
    pub acknowledged: Option<Ack>,
}

/// What one route was told of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The route.
    pub route: RouteName,
    /// When it last took the alert; `None` if it has not.
    pub delivered: Option<Time>,
    /// How often it did.
    pub times: u32,
    /// Why the newest attempt failed, if it did.
    pub error: Option<String>,
}

/// How a route fares.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteState {
    /// Its name.
    pub name: RouteName,
    /// Its type.
    pub kind: &'static str,
    /// The least severity that goes this way.
    pub severity: Severity,
    /// After how long, ms.
    pub after_ms: u64,
    /// Messages that it took since the daemon started.
    pub delivered: u64,
    /// Attempts that failed since then.
    pub failed: u64,
    /// Since when it has taken nothing, and why; `None` if it works as far as is known.
    pub failing: Option<(Time, String)>,
}

impl Board {
    /// Alerts of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.firing.iter().filter(|f| f.condition.kind.severity() == severity).count()
    }
}
