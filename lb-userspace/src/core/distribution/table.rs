//! New flows of a service's members against their slots in the live table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stats::p_value;
use super::{ENOUGH, OFF, P, SHORTEST, Share};
use crate::config::model::BackendName;
use crate::core::api::Time;
use crate::core::streak::Streak;

/// A window in which not everybody was to get enough ends all the same.
const LONGEST: Duration = Duration::from_secs(900);
/// With so many flows, then.
const FEWEST: f64 = 200.0;

/// A window, and what those before it came to.
#[derive(Clone, Debug, Default)]
pub(super) struct TableWindow {
    since: Option<Time>,
    /// Flows, and flows expected, by member.
    cells: BTreeMap<BackendName, (f64, f64)>,
    streak: Streak,
}

impl TableWindow {
    /// Takes what came between two counts while the table stood still.
    pub(super) fn take(&mut self, shares: &BTreeMap<BackendName, Share>, (began, now): (Time, Time)) {
        let total: u64 = shares.values().map(|share| share.flows).sum();
        let since = *self.since.get_or_insert(began);
        for (name, share) in shares {
            let cell = self.cells.entry(name.clone()).or_default();
            cell.0 += share.flows as f64;
            cell.1 += share.table * total as f64;
        }
        let age = Duration::from_millis(now.boot_ms.saturating_sub(since.boot_ms));
        let flows: f64 = self.cells.values().map(|cell| cell.0).sum();
        let all_enough = self.cells.values().all(|cell| cell.1 == 0.0 || cell.1 >= ENOUGH);
        let done = age >= SHORTEST && flows > 0.0 && all_enough || age >= LONGEST && flows >= FEWEST;
        if done {
            let off = self.off(flows);
            self.streak.take(off, since, now);
            (self.since, self.cells) = (None, BTreeMap::new());
        }
    }

    /// What came while the table changed cannot be compared; only members that left are forgotten.
    pub(super) fn pause(&mut self, shares: &BTreeMap<BackendName, Share>) {
        if self.cells.keys().any(|name| !shares.contains_key(name)) {
            (self.since, self.cells) = (None, BTreeMap::new());
        }
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.streak.expire(now);
    }

    pub(super) fn found(&self) -> Option<(Time, &str)> {
        self.streak.found()
    }

    /// What is off in this window, in words.
    fn off(&self, flows: f64) -> Option<String> {
        // Flows to somebody without slots cannot be by chance.
        if let Some((name, cell)) = self.cells.iter().find(|(_, cell)| cell.1 == 0.0 && cell.0 >= OFF * flows) {
            return Some(format!("{name} got {:.0} of {flows:.0} new flows, without a slot in the table", cell.0));
        }
        let cells: Vec<(f64, f64)> = self.cells.values().copied().filter(|cell| cell.1 > 0.0).collect();
        let alone = |cell: &(f64, f64)| p_value(&[*cell, (flows - cell.0, flows - cell.1)]);
        // One member that is off drowns among many in the test of all; each alone is tried as well.
        let each = cells.iter().map(alone).fold(1.0, f64::min) * cells.len() as f64;
        let far = |cell: &(f64, f64)| (cell.0 - cell.1).abs() / cell.1;
        let named = self.cells.iter().filter(|(_, cell)| cell.1 > 0.0 && far(cell) >= OFF);
        let (name, cell) = named.min_by(|a, b| alone(a.1).total_cmp(&alone(b.1)))?;
        if p_value(&cells).min(each) >= P {
            return None;
        }
        Some(format!(
            "{name} got {:.1} % of {flows:.0} new flows, its slots in the table are {:.1} %",
            100.0 * cell.0 / flows,
            100.0 * cell.1 / flows
        ))
    }
}
