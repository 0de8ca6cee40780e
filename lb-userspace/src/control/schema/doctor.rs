//! `rollcall.doctor/v1`: what the pre-flight check found.

use serde::{Deserialize, Serialize};

use super::Document;

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DoctorReport {
    /// Whether a daemon answered and its picture was used.
    pub daemon_running: bool,
    /// Checks that failed.
    pub failed: usize,
    /// Checks with a warning.
    pub warned: usize,
    /// The checks, in the order of a packet's needs: kernel, configuration, interfaces, addresses, neighbours.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// What was checked, such as `kernel` or `interface eth0: mtu`.
    pub name: String,
    /// How it ended.
    pub result: CheckResult,
    /// What was seen.
    pub evidence: String,
    /// Why it matters; null if all is well and there is nothing to know.
    pub why: Option<String>,
    /// What to do.
    pub mend: Option<String>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// As it should be.
    Ok,
    /// Worth knowing; it works, perhaps with limits.
    Warn,
    /// Will not work.
    Fail,
}

impl Document for DoctorReport {
    const SCHEMA: &'static str = "rollcall.doctor/v1";
}

impl DoctorReport {
    /// Counts the results.
    pub fn new(daemon_running: bool, checks: Vec<Check>) -> Self {
        let count = |r| checks.iter().filter(|c| c.result == r).count();
        Self { daemon_running, failed: count(CheckResult::Fail), warned: count(CheckResult::Warn), checks }
    }
}
