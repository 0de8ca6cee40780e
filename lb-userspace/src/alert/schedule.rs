//! How one route fares, and when it may be tried again. A route that fails is tried by one message at a time, with growing
//! pauses, so that it costs nothing but itself.

use std::time::Duration;

use crate::config::model::{AlertRoute, AlertTarget};
use crate::core::api::Time;

/// The longest pause between two attempts on a route that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often an Alertmanager is told that an alert stands: it forgets those of which it hears nothing.
const REFRESH: Duration = Duration::from_secs(60);

/// A route's record in this run of the daemon.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// Attempts in a row that failed.
    failures: u32,
    /// Since when, and the newest error.
    pub(super) failing: Option<(Time, String)>,
    /// When to try again, CLOCK_BOOTTIME ms.
    next: u64,
    /// Messages under way.
    pub(super) in_flight: usize,
    /// Messages that it took.
    pub(super) delivered: u64,
    /// Attempts that failed.
    pub(super) failed: u64,
}

impl Health {
    /// How many more messages it may be given now, of at most `most` under way.
    pub(super) fn room(&self, most: usize, now: Time) -> usize {
        if self.failures == 0 {
            return most.saturating_sub(self.in_flight);
        }
        usize::from(self.in_flight == 0 && now.boot_ms >= self.next)
    }

    /// Takes what came of an attempt.
    pub(super) fn record(&mut self, result: &Result<(), String>, now: Time) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match result {
            Ok(()) => {
                self.delivered += 1;
                (self.failures, self.failing) = (0, None);
            }
            Err(why) => {
                self.failed += 1;
                self.failures += 1;
                let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
                self.failing = Some((since, why.clone()));
                self.next = (now + pause(self.failures)).boot_ms;
            }
        }
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}

/// How often a route hears of an alert that stands.
pub(super) fn repeat(route: &AlertRoute) -> Duration {
    if forgets(route) { REFRESH } else { route.repeat }
}

/// Whether an alert is over for the receiver unless it is told again and again that it stands.
pub(super) fn forgets(route: &AlertRoute) -> bool {
    matches!(route.target, AlertTarget::Alertmanager(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time { boot_ms: seconds * 1000, wall_ms: 0 }
    }

    #[test]
    fn failing_route_is_tried_by_one_message_at_a_time_with_growing_pauses() {
        let mut health = Health { in_flight: 3, ..Health::default() };
        assert_eq!(health.room(8, at(0)), 5);
        health.record(&Err("no".into()), at(10));
        assert_eq!((health.room(8, at(11)), health.in_flight), (0, 2), "others are still under way");
        health.in_flight = 0;
        assert_eq!((health.room(8, at(10)), health.room(8, at(11))), (0, 1));
        health.record(&Err("still no".into()), at(11));
        assert_eq!((health.room(8, at(12)), health.room(8, at(13))), (0, 1));
        assert_eq!(health.failing, Some((at(10), "still no".to_owned())));
        health.record(&Ok(()), at(13));
        assert_eq!((health.room(8, at(13)), health.failing), (8, None));
        assert_eq!([1, 2, 6, 7, 40].map(|n| pause(n).as_secs()), [1, 2, 32, 60, 60]);
    }
}
