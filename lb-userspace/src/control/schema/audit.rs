//! `rollcall.audit/v1`: whether kernel and host are as the daemon decided.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Check, CheckResult, Document};

/// All checks, and what was repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuditReport {
    /// When.
    pub time: Timestamp,
    /// Checks that failed.
    pub failed: usize,
    /// Checks with a warning.
    pub warned: usize,
    /// What this audit found and repaired, in words; empty if it was not to repair.
    pub repaired: Vec<String>,
    /// The checks, after the repair: maps, tables, pins, program, addresses, counts of flows.
    pub checks: Vec<Check>,
}

impl Document for AuditReport {
    const SCHEMA: &'static str = "rollcall.audit/v1";
}

impl AuditReport {
    /// Counts the results.
    pub fn new(time: Timestamp, repaired: Vec<String>, checks: Vec<Check>) -> Self {
        let count = |r| checks.iter().filter(|c| c.result == r).count();
        Self { time, failed: count(CheckResult::Fail), warned: count(CheckResult::Warn), repaired, checks }
    }

    /// Adds the result of another check.
    #[must_use]
    pub fn with(mut self, check: Check) -> Self {
        self.checks.push(check);
        Self::new(self.time, self.repaired, self.checks)
    }
}
