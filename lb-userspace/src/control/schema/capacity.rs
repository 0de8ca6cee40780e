//! What `rollcall.status/v1` says of capacity: N-1, and risks that are accepted; and `rollcall.risks/v1`, the list of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Document, timestamp};
use crate::config::model::{BackendName, ServiceName};
use crate::core::api::{NMinusOne, Outgrown};
use crate::core::risk::Risk;

/// Whether a service could lose any one server: the worst case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NMinusOneStatus {
    /// `fits`, `does_not_fit` or `cannot_tell`.
    pub verdict: String,
    /// The server whose loss would be worst; null if nobody is in rotation.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub lost: Option<BackendName>,
    /// What the verdict rests on, in words.
    pub evidence: String,
    /// Since when the verdict has been this one.
    pub since: Timestamp,
    /// Since when the alarm stands that it does not fit; null if it does not stand. It stands also where it is accepted.
    pub alarm_since: Option<Timestamp>,
    /// The risk, if it is accepted.
    pub accepted: Option<RiskStatus>,
}

/// The others cannot carry the load of a server that is out, and it is not called back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OutgrownStatus {
    /// The server that is out.
    #[cfg_attr(test, schemars(with = "String"))]
    pub backend: BackendName,
    /// Who would have how much, in words.
    pub evidence: String,
    /// Since when.
    pub since: Timestamp,
}

/// A risk that somebody accepted for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RiskStatus {
    /// Which: `n-1`; later versions add risks.
    pub risk: String,
    /// Of this service; null if of all.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub service: Option<ServiceName>,
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
    /// Since when.
    pub begun: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
}

/// Risks that are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Risks {
    /// When the roll call was taken.
    pub time: Timestamp,
    /// By service; one of all services comes first.
    pub risks: Vec<RiskStatus>,
}

impl Document for Risks {
    const SCHEMA: &'static str = "rollcall.risks/v1";
}

impl NMinusOneStatus {
    /// Of a service, with the risks that are accepted.
    pub fn new(service: &ServiceName, n_minus_1: &NMinusOne, risks: &[Risk]) -> Self {
        Self {
            verdict: n_minus_1.verdict.name().to_owned(),
            lost: n_minus_1.lost.clone(),
            evidence: n_minus_1.evidence.clone(),
            since: timestamp(n_minus_1.since),
            alarm_since: n_minus_1.alarm.map(timestamp),
            accepted: risks.iter().filter(|risk| risk.covers(service)).max_by_key(|r| r.ends).map(RiskStatus::from),
        }
    }
}

impl From<&Outgrown> for OutgrownStatus {
    fn from(outgrown: &Outgrown) -> Self {
        let (backend, since) = (outgrown.scope.backend.clone(), timestamp(outgrown.since));
        Self { backend, evidence: outgrown.evidence.clone(), since }
    }
}

impl From<&Risk> for RiskStatus {
    fn from(risk: &Risk) -> Self {
        Self {
            risk: "n-1".to_owned(),
            service: risk.service.clone(),
            owner: risk.owner.name.clone(),
            owner_claimed: risk.owner.claimed,
            uid: risk.owner.uid,
            loginuid: risk.owner.loginuid,
            reason: risk.reason.clone(),
            begun: timestamp(risk.begun),
            ends: timestamp(risk.ends),
        }
    }
}
