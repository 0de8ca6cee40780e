//! New flows of one member against its configured weight, of the times in which nothing was known against it.
//!
//! Only too few are found: who gets more has what others lost for their reasons.

use std::time::Duration;

use super::stats::p_value;
use super::{ENOUGH, OFF, P, SHORTEST, Share};
use crate::config::model::BackendName;
use crate::core::api::Time;
use crate::core::streak::Streak;

/// Flows expected of a member that gets none at all.
const ENOUGH_FOR_NONE: f64 = 30.0;

/// A window, and what those before it came to.
#[derive(Clone, Debug, Default)]
pub(super) struct WeightWindow {
    since: Option<Time>,
    flows: f64,
    expected: f64,
    total: f64,
    streak: Streak,
}

impl WeightWindow {
    /// Takes the member's share of what came between two counts: new flows of a service of so many members.
    pub(super) fn take(
        &mut self,
        name: &BackendName,
        share: Share,
        (total, members): (u64, usize),
        (began, now): (Time, Time),
    ) {
        if share.excused {
            // It has a reason now: without one is what this is about.
            *self = Self::default();
            return;
        }
        let since = *self.since.get_or_insert(began);
        self.flows += share.flows as f64;
        self.expected += share.configured * total as f64;
        self.total += total as f64;
        let age = Duration::from_millis(now.boot_ms.saturating_sub(since.boot_ms));
        let enough = if self.flows == 0.0 { ENOUGH_FOR_NONE } else { ENOUGH };
        if age < SHORTEST || self.expected < enough {
            return;
        }
        let (flows, expected, rest) = (self.flows, self.expected, self.total - self.expected);
        let short = rest > 0.0 && flows < expected * (1.0 - OFF);
        let p = if short { p_value(&[(flows, expected), (self.total - flows, rest)]) * members as f64 } else { 1.0 };
        let off = (p < P).then(|| {
            format!(
                "{name} got {:.1} % of {:.0} new flows, by its configured weight at least {:.1} % are due, and nothing is \
                 known against it",
                100.0 * flows / self.total,
                self.total,
                100.0 * expected / self.total
            )
        });
        self.streak.take(off, since, now);
        (self.since, self.flows, self.expected, self.total) = (None, 0.0, 0.0, 0.0);
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.streak.expire(now);
    }

    pub(super) fn found(&self) -> Option<(Time, &str)> {
        self.streak.found()
    }
}
