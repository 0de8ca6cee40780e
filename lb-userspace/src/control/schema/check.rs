//! `rollcall.check/v1`: the verdict for monitors.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Document;

/// One verdict on all services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CheckReport {
    /// When the roll call was taken; when it was asked for, if there is none.
    pub time: Timestamp,
    /// The state, which is the exit code, too.
    pub state: CheckState,
    /// The line for people: the first line of `status`, then what else there is.
    pub verdict: String,
    /// What makes it so, worst first.
    pub findings: Vec<Finding>,
    /// Figures; null if there is no roll call.
    pub figures: Option<Figures>,
}

/// How it stands; ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// All backends are in rotation. Exit code 0.
    Ok,
    /// Somebody is out, or something deserves a look, and it is accounted for. Exit code 1.
    Warning,
    /// Something is unaccounted for, overdue, or does not mend itself. Exit code 2.
    Critical,
    /// Nobody can tell. Exit code 3.
    Unknown,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// How bad it is: `warning` or `critical`.
    pub state: CheckState,
    /// What, in words.
    pub text: String,
    /// Whether the first line of `status` tells it already.
    pub in_verdict: bool,
}

/// What monitors draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Figures {
    /// Backends that are configured for a service or expected back.
    pub backends: usize,
    /// Those that take new flows in every service that they are a member of.
    pub in_rotation: usize,
    /// Leases that hold.
    pub leases: usize,
    /// Memberships that left the configuration and are missed.
    pub removed: usize,
    /// Findings that are critical.
    pub critical: usize,
    /// Flows that are open now.
    pub flows_active: u64,
}

impl Document for CheckReport {
    const SCHEMA: &'static str = "rollcall.check/v1";
}

impl CheckState {
    /// The exit code, by the convention of monitoring plugins.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    /// As monitoring plugins print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}
