//! What a receiver gets of an alert: the same facts for all of them, each in a field of its own.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::config::model::{AlertRoute, BackendName, ServiceName, Severity};
use crate::core::api::Time;

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It stands.
    Firing,
    /// It is over.
    Resolved,
    /// There is none: somebody tries the route.
    Test,
}

impl Status {
    /// As JSON names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

/// An alert on its way to one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Message {
    /// `firing`, `resolved` or `test`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub status: Status,
    /// The same for all messages about one trouble of one edge, from firing to resolved, also over a restart.
    pub key: String,
    /// What kind of trouble; each has an entry in the playbook. `test` for a test.
    pub condition: String,
    /// `info`, `warning` or `critical`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Who answered for it when it fired: for labels, which must not change while it stands.
    #[serde(default)]
    pub owner_fired: Option<String>,
    /// In which service.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub service: Option<ServiceName>,
    /// Which server.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub backend: Option<BackendName>,
    /// The edge that says so: its host name.
    pub instance: String,
    /// Since when it has been so.
    pub since: Timestamp,
    /// When the alert fired; with `key` it tells one time from the next.
    pub fired: Timestamp,
    /// When it was over; null while it stands.
    pub ended: Option<Timestamp>,
    /// Whether this route was told before that it stands.
    pub repeated: bool,
    /// The route.
    pub route: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What to do about it.
    pub playbook: String,
}

/// The wall-clock part of a moment.
pub(super) fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_millisecond(time.wall_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Message {
    /// About a condition.
    pub(super) fn new(condition: &Condition, instance: &str, route: &AlertRoute, since: Time, fired: Time) -> Self {
        Self {
            status: Status::Firing,
            key: condition.key(),
            condition: condition.kind.name().to_owned(),
            severity: condition.kind.severity(),
            summary: condition.summary.clone(),
            owner: condition.owner.clone(),
            owner_fired: condition.owner.clone(),
            service: condition.service.clone(),
            backend: condition.backend.clone(),
            instance: instance.to_owned(),
            since: timestamp(since),
            fired: timestamp(fired),
            ended: None,
            repeated: false,
            route: route.name.to_string(),
            labels: route.labels.clone(),
            playbook: condition.kind.playbook(),
        }
    }

    /// For trying a route, sent by `who`.
    pub fn test(instance: &str, route: &AlertRoute, who: &str, now: Time) -> Self {
        Self {
            status: Status::Test,
            key: "test".to_owned(),
            condition: "test".to_owned(),
            severity: route.severity,
            summary: format!("a test of the alert route {} by {who}; nothing is wrong", route.name),
            owner: None,
            owner_fired: None,
            service: None,
            backend: None,
            instance: instance.to_owned(),
            since: timestamp(now),
            fired: timestamp(now),
            ended: None,
            repeated: false,
            route: route.name.to_string(),
            labels: route.labels.clone(),
            playbook: "docs/playbook.md".to_owned(),
        }
    }

    /// One line for people: `[critical] edge-1: no backend in rotation`, `[resolved] …`.
    pub fn title(&self) -> String {
        let word = if self.status == Status::Firing { self.severity.name() } else { self.status.name() };
        format!("[{word}] {}: {}", self.instance, self.summary)
    }
}
