//! Health of one member: what consecutive probes say.
//!
//! Owns the counting and the first decision after a start; not when probes run ([`super::schedule`]), nor what health
//! means for the weight ([`super::weight`]).

use std::time::Duration;

use super::api::{Health, LastProbe, Time};

/// How a member came to be watched; it decides what holds before the first results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Configured without probe: always up.
    Unprobed,
    /// There at a cold start: out until the first result, which decides alone.
    Cold,
    /// Added to a running edge: out until its first success.
    Added,
    /// Found in the kernel: in or out as it was there.
    Adopted {
        /// Whether it had slots.
        serving: bool,
    },
}

/// A change of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether it was allowed new flows before.
    pub was_serving: bool,
    /// What it is now.
    pub now: Health,
}

/// Health and what it was concluded from.
#[derive(Clone, Debug)]
pub struct Tracker {
    origin: Origin,
    health: Health,
    /// Whether the last result was a success, and how many equal ones came in a row.
    run: Option<(bool, u32)>,
    succeeded: bool,
    unverified: bool,
    /// When results last changed the health.
    changed: Option<Time>,
    last: Option<LastProbe>,
}

impl Tracker {
    /// A member before its first probe.
    pub fn new(origin: Origin) -> Self {
        let health = match origin {
            Origin::Unprobed | Origin::Adopted { serving: true } => Health::Up,
            Origin::Adopted { serving: false } => Health::Down,
            Origin::Cold | Origin::Added => Health::Unknown,
        };
        Self { origin, health, run: None, succeeded: false, unverified: false, changed: None, last: None }
    }

    /// Takes a result. `rise` and `fall` count consecutive results only.
    pub fn record(
        &mut self,
        result: Result<(), String>,
        took: Duration,
        rise: u32,
        fall: u32,
        now: Time,
    ) -> Option<Change> {
        let ok = result.is_ok();
        let streak = match self.run {
            Some((last, n)) if last == ok => n.saturating_add(1),
            _ => 1,
        };
        self.run = Some((ok, streak));
        self.last = Some(LastProbe { time: now, took, error: result.err() });
        let first_success = ok && !self.succeeded;
        self.succeeded |= ok;
        let added = self.origin == Origin::Added;
        let next = match (self.health, ok) {
            (Health::Unknown, true) => Health::Up,
            (Health::Unknown, false) if !added || streak >= fall => Health::Down,
            (Health::Up, false) if streak >= fall => Health::Down,
            (Health::Down, true) if streak >= rise || (added && first_success) => Health::Up,
            (same, _) => same,
        };
        if next == self.health {
            return None;
        }
        let was_serving = self.is_serving();
        self.health = next;
        self.unverified = false;
        self.changed = Some(now);
        Some(Change { was_serving, now: next })
    }

    /// The start's grace is over: without a result it serves unverified. Whether that changed anything.
    pub fn grace_over(&mut self) -> bool {
        let changed = self.origin == Origin::Cold && self.health == Health::Unknown && !self.unverified;
        self.unverified |= changed;
        changed
    }

    /// Probing begins on a member that had none: it keeps serving until probes say otherwise.
    pub fn begin_probing(&mut self) {
        if self.origin == Origin::Unprobed {
            *self = Self::new(Origin::Adopted { serving: true });
        }
    }

    /// Health as the roll call shows it.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether health alone allows new flows.
    pub fn is_serving(&self) -> bool {
        self.health == Health::Up || self.unverified
    }

    /// In rotation without a result.
    pub fn is_unverified(&self) -> bool {
        self.unverified
    }

    /// Added, and without a success so far.
    pub fn awaits_first_success(&self) -> bool {
        self.origin == Origin::Added && !self.succeeded
    }

    /// When results made it go down.
    pub fn down_since(&self) -> Option<Time> {
        self.changed.filter(|_| self.health == Health::Down)
    }

    /// When results made it come up.
    pub fn up_since(&self) -> Option<Time> {
        self.changed.filter(|_| self.health == Health::Up)
    }

    /// Consecutive results equal to the last one.
    pub fn streak(&self) -> u32 {
        self.run.map_or(0, |(_, n)| n)
    }

    /// The last probe.
    pub fn last(&self) -> Option<&LastProbe> {
        self.last.as_ref()
    }

    /// The last probe's error.
    pub fn error(&self) -> Option<&str> {
        self.last.as_ref()?.error.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: Time = Time { boot_ms: 1, wall_ms: 1 };

    /// Feeds results (`+` success, `-` failure; rise 2, fall 3) and returns the health after each.
    fn feed(origin: Origin, results: &str) -> String {
        let mut tracker = Tracker::new(origin);
        let letter = |result| {
            let result = if result == '+' { Ok(()) } else { Err("refused".to_owned()) };
            tracker.record(result, Duration::ZERO, 2, 3, NOW);
            match tracker.health() {
                Health::Unknown => '?',
                Health::Up => 'U',
                Health::Down => 'D',
            }
        };
        results.chars().map(letter).collect()
    }

    #[rstest]
    #[case::only_consecutive_failures_count(Origin::Adopted { serving: true }, "--+--+--+---", "UUUUUUUUUUUD")]
    #[case::only_consecutive_successes_count(Origin::Adopted { serving: false }, "+-+-++", "DDDDDU")]
    #[case::cold_first_success_decides(Origin::Cold, "+--", "UUU")]
    #[case::cold_first_failure_decides(Origin::Cold, "-+-++", "DDDDU")]
    #[case::added_first_success_decides(Origin::Added, "--+--+", "??UUUU")]
    #[case::added_down_then_first_success_decides(Origin::Added, "---+---+", "??DUUUDD")]
    fn health_results_decide(#[case] origin: Origin, #[case] results: &str, #[case] expected: &str) {
        assert_eq!(feed(origin, results), expected);
    }

    #[test]
    fn grace_over_only_a_cold_member_without_result_serves() {
        let mut cold = Tracker::new(Origin::Cold);
        assert!(cold.grace_over() && !cold.grace_over() && cold.is_serving() && cold.is_unverified());
        assert_eq!(
            cold.record(Err("late".into()), Duration::ZERO, 2, 3, NOW),
            Some(Change { was_serving: true, now: Health::Down })
        );
        assert!(!cold.is_serving() && !cold.is_unverified());
        assert!(!Tracker::new(Origin::Added).grace_over());
    }
}
