//! Leases and removed servers, as `rollcall.status/v1` lists them, and `rollcall.duty/v1`: what came of a request about
//! them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Document, RiskStatus, timestamp};
use crate::config::model::{BackendName, ServiceName};
use crate::control::daemon::DutyOutcome;
use crate::core::lease::{Lease, LeaseKind};
use crate::core::removed::Removed;

/// A server that was taken out on purpose, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeaseStatus {
    /// The server.
    #[cfg_attr(test, schemars(with = "String"))]
    pub backend: BackendName,
    /// In this service only; null if in all.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub service: Option<ServiceName>,
    /// `drain` (its flows go on) or `maintenance` (they are ended).
    #[cfg_attr(test, schemars(with = "String"))]
    pub kind: LeaseKind,
    /// Who answers for it.
    pub owner: String,
    /// Whether that name is only what the caller claimed.
    pub owner_claimed: bool,
    /// Effective uid of who asked.
    pub uid: u32,
    /// Their login uid; null if they had none.
    pub loginuid: Option<u32>,
    /// Why.
    pub reason: String,
    /// When it began.
    pub begun: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// Whether the server may be called back before, if the others become too few.
    pub recallable: bool,
}

/// A server that left the configuration, and is expected back until someone lets go of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RemovedStatus {
    /// The server.
    #[cfg_attr(test, schemars(with = "String"))]
    pub backend: BackendName,
    /// The service that it left; null if its services are gone, too.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub service: Option<ServiceName>,
    /// When.
    pub since: Timestamp,
    /// By whom.
    pub by: String,
    /// By what: a command, a reload, a start with another file.
    pub how: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it escalates if it still stands.
    pub review_at: Timestamp,
}

/// What came of a request about leases or removed servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DutyDone {
    /// The lease that holds now; null if none was asked for.
    pub lease: Option<LeaseStatus>,
    /// The risk that is accepted now; null if none was to be.
    #[serde(default)]
    pub risk: Option<RiskStatus>,
    /// What else there is to say, in words.
    pub changes: Vec<String>,
}

impl Document for DutyDone {
    const SCHEMA: &'static str = "rollcall.duty/v1";
}

impl From<&Lease> for LeaseStatus {
    fn from(lease: &Lease) -> Self {
        Self {
            backend: lease.scope.backend.clone(),
            service: lease.scope.service.clone(),
            kind: lease.kind,
            owner: lease.owner.name.clone(),
            owner_claimed: lease.owner.claimed,
            uid: lease.owner.uid,
            loginuid: lease.owner.loginuid,
            reason: lease.reason.clone(),
            begun: timestamp(lease.begun),
            ends: timestamp(lease.ends),
            recallable: lease.recallable,
        }
    }
}

impl From<&Removed> for RemovedStatus {
    fn from(removed: &Removed) -> Self {
        Self {
            backend: removed.scope.backend.clone(),
            service: removed.scope.service.clone(),
            since: timestamp(removed.since),
            by: removed.by.clone(),
            how: removed.how.clone(),
            owner: removed.owner.clone(),
            review_at: timestamp(removed.review_at),
        }
    }
}

impl From<DutyOutcome> for DutyDone {
    fn from(outcome: DutyOutcome) -> Self {
        let (lease, risk) =
            (outcome.lease.as_ref().map(LeaseStatus::from), outcome.risk.as_ref().map(RiskStatus::from));
        Self { lease, risk, changes: outcome.changes }
    }
}
