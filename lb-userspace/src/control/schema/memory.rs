//! Memory of a server, as `rollcall.status/v1` shows it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::timestamp;
use crate::core::api::MemoryCall;
use crate::core::memory::forecast::Forecast;
use crate::core::memory::tracker::Memory;

/// What is known of a server's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MemoryStatus {
    /// `unknown`, `ample`, `tight` or `exhausted`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// Available memory as a share of all, 0 to 1; null while unknown.
    pub headroom: Option<f64>,
    /// All memory by the last sample, bytes; null before the first.
    pub total_bytes: Option<u64>,
    /// Available memory by the last sample, bytes; null before the first.
    pub available_bytes: Option<u64>,
    /// Why it is unknown; null if it is known.
    pub error: Option<String>,
    /// In how many seconds it is exhausted, if it goes on as it does; null if it has no trend, or nobody can tell yet.
    pub exhausted_in_s: Option<u64>,
    /// The near end of the 95 % confidence interval of that, seconds.
    pub exhausted_in_s_at_least: Option<u64>,
}

impl From<&MemoryCall> for MemoryStatus {
    fn from(call: &MemoryCall) -> Self {
        let (near, middle) = match call.forecast {
            Forecast::Exhausts { near, middle, .. } => (Some(near.as_secs()), Some(middle.as_secs())),
            Forecast::NoTrend | Forecast::CannotTell => (None, None),
        };
        Self {
            state: call.memory.name().to_owned(),
            since: timestamp(call.since),
            headroom: call.headroom,
            total_bytes: call.sample.map(|s| s.total_bytes),
            available_bytes: call.sample.map(|s| s.available_bytes),
            error: match &call.memory {
                Memory::Unknown { why, .. } => Some(why.clone()),
                _ => None,
            },
            exhausted_in_s: middle,
            exhausted_in_s_at_least: near,
        }
    }
}
