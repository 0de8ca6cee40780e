//! `rollcall.events/v1`: events of the journal that match a query; `rollcall.event/v1`: one of them, as `events --follow`
//! prints it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Document, timestamp};
use crate::io::journal::Recorded;

/// Events that match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Events {
    /// When they were read.
    pub time: Timestamp,
    /// The events, oldest first.
    pub events: Vec<EventRecord>,
    /// Whether more matched than the limit let through: older ones, or with `after` newer ones.
    pub more: bool,
    /// The number of the journal's newest event, whether it matches or not; 0 if there is none. Lower than a number that
    /// was seen before: the journal was begun anew.
    #[serde(default)]
    pub newest: i64,
}

/// One event of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventRecord {
    /// Its number: rises with each event, never used twice.
    pub id: i64,
    /// When it happened.
    pub time: Timestamp,
    /// What, such as `down` or `drained`; docs/operations.md lists the kinds, later versions add some.
    pub kind: String,
    /// Which backend; null if it is about none.
    pub backend: Option<String>,
    /// In which service; null if it is about none, or about all of the backend's.
    pub service: Option<String>,
    /// Who did it, by name; `the daemon` where it acted by itself; null if nobody did it.
    pub by: Option<String>,
    /// Why, in words.
    pub cause: String,
}

impl Document for Events {
    const SCHEMA: &'static str = "rollcall.events/v1";
}

impl Document for EventRecord {
    const SCHEMA: &'static str = "rollcall.event/v1";
}

impl Events {
    /// From what was read at `time`.
    pub fn new(time: Timestamp, events: Vec<Recorded>, more: bool, newest: i64) -> Self {
        Self { time, events: events.into_iter().map(EventRecord::from).collect(), more, newest }
    }
}

impl From<Recorded> for EventRecord {
    fn from(recorded: Recorded) -> Self {
        let Recorded { id, time, kind, backend, service, by, cause } = recorded;
        Self { id, time: timestamp(time), kind, backend, service, by, cause }
    }
}
