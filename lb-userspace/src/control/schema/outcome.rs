//! Answers to requests that change something, and to those that failed.

use serde::{Deserialize, Serialize};

use super::Document;
use crate::control::daemon::{ControlError, ErrorCode, Outcome};

/// What a reload or an edit did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Applied {
    /// Number of the revision that runs now.
    pub revision: i64,
    /// One line for each change, in words; empty if nothing changed.
    pub changes: Vec<String>,
}

/// The data plane is down; the daemon stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stopping {
    /// Whether a daemon did it; `false`: there was none, and the CLI removed the pinned data plane itself.
    pub by_daemon: bool,
}

/// A request that was not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failure {
    /// Its class: `usage`, `config`, `permission`, `not_found`, `conflict`, `unconfirmed`, `system` or
    /// `unavailable`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub code: ErrorCode,
    /// What, where, why.
    pub message: String,
    /// What to do; null if there is nothing to say.
    pub hint: Option<String>,
}

impl Document for Applied {
    const SCHEMA: &'static str = "rollcall.applied/v1";
}

impl Document for Stopping {
    const SCHEMA: &'static str = "rollcall.down/v1";
}

impl Document for Failure {
    const SCHEMA: &'static str = "rollcall.error/v1";
}

impl From<Outcome> for Applied {
    fn from(outcome: Outcome) -> Self {
        Self { revision: outcome.revision, changes: outcome.changes }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self { code: error.code, message: error.message, hint: error.hint }
    }
}

impl From<Failure> for ControlError {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, message: failure.message, hint: failure.hint }
    }
}
