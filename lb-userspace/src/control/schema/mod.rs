//! What the control socket answers and `--output json` prints: the documented, stable JSON.
//!
//! Conventions: `schema` on top names type and version; changes only add; times are RFC 3339 in UTC; units are in the
//! names (`_ms`, `_bytes`). The same types serialize in the daemon and deserialize in the CLI. JSON Schema files are in
//! `docs/schema`, held equal to these types by a test.

mod absence;
mod alerts;
mod audit;
mod capacity;
mod check;
mod config;
mod doctor;
mod duty;
mod events;
mod flows;
mod headroom;
mod memory;
mod outcome;
mod report;
mod stats;
mod status;
#[cfg(test)]
mod tests;
mod trace;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use absence::Absence;
pub use alerts::{AckStatus, AlertStatus, Alerts, AlertsAck, AlertsTest, RouteResult, RouteStatus, ToldStatus};
pub use audit::AuditReport;
pub use capacity::{NMinusOneStatus, OutgrownStatus, RiskStatus, Risks};
pub use check::{CheckReport, CheckState, Figures, Finding};
pub use config::{ConfigCheck, ConfigFile, ConfigProblem};
pub use doctor::{Check, CheckResult, DoctorReport};
pub use duty::{DutyDone, LeaseStatus, RemovedStatus};
pub use events::{EventRecord, Events};
pub use flows::{Flow, Flows};
pub use headroom::{Headroom, Limit};
pub use memory::MemoryStatus;
pub use outcome::{Applied, Failure, Stopping};
pub use report::{Facts, Report, Traffic, TrafficReport};
pub use stats::{BackendStats, Direction, Drop, ServiceStats, Stats, Verdict};
pub use status::{
    Attachment, BackendReport, BackendStatus, Backends, DaemonStatus, EventStatus, LastProbe, Listener, NextHop,
    ReasonStatus, ServiceStatus, Services, Status, SuspicionStatus,
};
pub use trace::{PacketOut, Trace, TraceStep};

use crate::core::api::Time;

/// A document with a name and a version.
pub trait Document: Serialize + DeserializeOwned {
    /// Its `schema`, such as `rollcall.status/v1`.
    const SCHEMA: &'static str;
}

/// A document as it travels: its schema's name, then its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Envelope<T> {
    /// Name and version of what follows.
    pub schema: String,
    /// The document's own fields, on the same level.
    #[serde(flatten)]
    pub body: T,
}

impl<T: Document> Envelope<T> {
    /// Names the document.
    pub fn new(body: T) -> Self {
        Self { schema: T::SCHEMA.to_owned(), body }
    }
}

/// The wall-clock part of a moment. A time outside jiff's range (years -9999 to 9999) becomes the epoch.
pub(crate) fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_millisecond(time.wall_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}
