//! `rollcall.headroom/v1`: a backend's memory, as `rollcall agent` there tells it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Document;

/// Memory of one host at one moment, by the limit that leaves the smaller share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Headroom {
    /// When it was measured, by the host's own clock.
    pub time: Timestamp,
    /// The host's name.
    pub hostname: String,
    /// The kernel's id of this boot: another one means that the host was started again.
    pub boot_id: String,
    /// Whose limit it is.
    pub limit: Limit,
    /// The cgroup that has this limit, as a path below the cgroup file system; null if the limit is the system's.
    pub cgroup: Option<String>,
    /// The limit.
    pub total_bytes: u64,
    /// What can still be used of it, reclaimable memory included.
    pub available_bytes: u64,
    /// Share of the last ten seconds in which some task waited for memory, 0 to 1 (PSI `some avg10`): of the cgroup that
    /// is watched, else of the system. Null where the kernel does not say.
    pub pressure_some_avg10_ratio: Option<f64>,
}

impl Headroom {
    /// Where the agent answers with it.
    pub const PATH: &str = "/v1/headroom";
}

/// Whose limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// All memory of the host.
    System,
    /// A cgroup's: `memory.max`, or `memory.limit_in_bytes` of version 1.
    Cgroup,
}

impl Limit {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Cgroup => "cgroup",
        }
    }
}

impl Document for Headroom {
    const SCHEMA: &'static str = "rollcall.headroom/v1";
}
