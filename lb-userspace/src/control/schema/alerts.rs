//! `rollcall.alerts/v1`, `rollcall.alerts-test/v1`, `rollcall.alerts-ack/v1`, and what webhooks and commands get: `rollcall.alert/v1`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Document, timestamp};
use crate::alert::{Ack, Board, Firing, Message, RouteState, Told};
use crate::config::model::{BackendName, RouteName, ServiceName, Severity};
use crate::control::daemon::RouteTest;

/// Alerts that fire, and how their routes fare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alerts {
    /// When the daemon last looked.
    pub time: Timestamp,
    /// Alerts that fire, worst first.
    pub firing: Vec<AlertStatus>,
    /// Routes in the configuration's order.
    pub routes: Vec<RouteStatus>,
}

/// One alert that fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertStatus {
    /// The same for as long as the trouble lasts.
    pub key: String,
    /// What kind of trouble; later versions add kinds. Each has an entry in `docs/playbook.md`.
    pub condition: String,
    /// `info`, `warning` or `critical`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// In which service.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub service: Option<ServiceName>,
    /// Which server.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub backend: Option<BackendName>,
    /// Since when it has been so.
    pub since: Timestamp,
    /// When the alert fired.
    pub fired: Timestamp,
    /// What to do about it.
    pub playbook: String,
    /// Whom it went to, or was to go to.
    pub told: Vec<ToldStatus>,
    /// Who works on it, so that nobody further is called for a time; null if nobody said so.
    #[serde(default)]
    pub acknowledged: Option<AckStatus>,
}

/// Who works on an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AckStatus {
    /// Their name.
    pub by: String,
    /// Whether the name is only claimed.
    pub claimed: bool,
    /// What they said.
    pub note: Option<String>,
    /// Since when.
    pub at: Timestamp,
    /// Until when; then it escalates again.
    pub until: Timestamp,
}

/// What one route was told of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ToldStatus {
    /// The route.
    #[cfg_attr(test, schemars(with = "String"))]
    pub route: RouteName,
    /// When it last took the alert; null if it has not.
    pub delivered: Option<Timestamp>,
    /// How often it did.
    pub times: u32,
    /// Why the newest attempt failed; null if it did not.
    pub error: Option<String>,
}

/// How a route fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RouteStatus {
    /// Its name.
    #[cfg_attr(test, schemars(with = "String"))]
    pub name: RouteName,
    /// `journald`, `mail`, `command`, `webhook` or `alertmanager`.
    pub r#type: String,
    /// The least severity that goes this way.
    #[cfg_attr(test, schemars(with = "String"))]
    pub severity: Severity,
    /// How long an alert must have stood, ms.
    pub after_ms: u64,
    /// Messages that it took since the daemon started.
    pub delivered: u64,
    /// Attempts that failed since then.
    pub failed: u64,
    /// Since when it takes nothing; null if it works as far as is known.
    pub failing_since: Option<Timestamp>,
    /// Why.
    pub error: Option<String>,
}

/// What came of a test alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertsTest {
    /// For each route that was tried.
    pub results: Vec<RouteResult>,
}

/// What came of it on one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RouteResult {
    /// The route.
    #[cfg_attr(test, schemars(with = "String"))]
    pub route: RouteName,
    /// Its type.
    pub r#type: String,
    /// Whether it took the test.
    pub delivered: bool,
    /// Why not; null if it did.
    pub error: Option<String>,
    /// How long it took, ms.
    pub duration_ms: f64,
}

impl Document for Alerts {
    const SCHEMA: &'static str = "rollcall.alerts/v1";
}

impl Document for AlertsTest {
    const SCHEMA: &'static str = "rollcall.alerts-test/v1";
}

/// An alert that somebody works on from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertsAck {
    /// The alert.
    pub alert: AlertStatus,
}

impl Document for AlertsAck {
    const SCHEMA: &'static str = "rollcall.alerts-ack/v1";
}

impl Document for Message {
    const SCHEMA: &'static str = "rollcall.alert/v1";
}

impl Alerts {
    /// From the daemon's board; before its first look, of `now`.
    pub fn new(board: &Board, now: Timestamp) -> Self {
        Self {
            time: board.time.map_or(now, timestamp),
            firing: board.firing.iter().map(AlertStatus::from).collect(),
            routes: board.routes.iter().map(RouteStatus::from).collect(),
        }
    }
}

impl From<&Firing> for AlertStatus {
    fn from(firing: &Firing) -> Self {
        let condition = &firing.condition;
        Self {
            key: condition.key(),
            condition: condition.kind.name().to_owned(),
            severity: condition.kind.severity(),
            summary: condition.summary.clone(),
            owner: condition.owner.clone(),
            service: condition.service.clone(),
            backend: condition.backend.clone(),
            since: timestamp(firing.since),
            fired: timestamp(firing.fired),
            playbook: condition.kind.playbook(),
            told: firing.told.iter().map(ToldStatus::from).collect(),
            acknowledged: firing.acknowledged.as_ref().map(AckStatus::from),
        }
    }
}

impl From<&Ack> for AckStatus {
    fn from(ack: &Ack) -> Self {
        let Ack { by, note, at, until } = ack.clone();
        Self { by: by.name, claimed: by.claimed, note, at: timestamp(at), until: timestamp(until) }
    }
}

impl From<&Firing> for AlertsAck {
    fn from(firing: &Firing) -> Self {
        Self { alert: AlertStatus::from(firing) }
    }
}

impl From<&Told> for ToldStatus {
    fn from(told: &Told) -> Self {
        let Told { route, delivered, times, error } = told.clone();
        Self { route, delivered: delivered.map(timestamp), times, error }
    }
}

impl From<&RouteState> for RouteStatus {
    fn from(state: &RouteState) -> Self {
        let (since, error) = state.failing.clone().unzip();
        Self {
            name: state.name.clone(),
            r#type: state.kind.to_owned(),
            severity: state.severity,
            after_ms: state.after_ms,
            delivered: state.delivered,
            failed: state.failed,
            failing_since: since.map(timestamp),
            error,
        }
    }
}

impl From<Vec<RouteTest>> for AlertsTest {
    fn from(tests: Vec<RouteTest>) -> Self {
        let result = |test: RouteTest| RouteResult {
            route: test.route,
            r#type: test.kind.to_owned(),
            delivered: test.result.is_ok(),
            error: test.result.err(),
            duration_ms: test.took.as_secs_f64() * 1000.0,
        };
        Self { results: tests.into_iter().map(result).collect() }
    }
}
