//! The highest load that a backend is known to have carried.
//!
//! Bounded: ten minutes by the minute, and one record for each of fifteen days. Days are by the wall clock, since they
//! outlive a boot; a clock that was wrong costs evidence, never invents it: records of days to come are dropped.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::api::Time;

const MINUTE_MS: u64 = 60_000;
/// A load counts that was carried for so many whole minutes running.
const MINUTES: u64 = 10;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// How long it counts, days.
const DAYS: i64 = 14;

/// A load that was carried for ten minutes with headroom to spare.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// The fewest active flows in these ten minutes.
    pub flows: u64,
    /// The least headroom in them, 0 to 1.
    pub headroom: f64,
    /// When they ended, Unix time, ms.
    pub ended_ms: i64,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} active flows for ten minutes with {:.0} % of its memory left", self.flows, self.headroom * 100.0)
    }
}

/// One minute: the least of all that was seen in it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Minute {
    index: u64,
    flows: u64,
    headroom: f64,
}

/// The highest loads of the last 14 days, the best of each day. What is under way is not kept across a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    days: Vec<Carried>,
    #[serde(skip)]
    minutes: VecDeque<Minute>,
}

impl Peak {
    /// Takes the active flows of a moment. `spare`: headroom, if memory is ample; `None` if it is short or not known, which
    /// ends the ten minutes. To be called at least once a minute: a minute without ends them, too. Returns whether there is
    /// a better load of this day than before, which is worth keeping.
    pub fn record(&mut self, flows: u64, spare: Option<f64>, now: Time) -> bool {
        let Some(headroom) = spare.filter(|headroom| headroom.is_finite()) else {
            self.minutes.clear();
            return false;
        };
        let index = now.boot_ms / MINUTE_MS;
        match self.minutes.back_mut() {
            Some(minute) if minute.index == index => {
                minute.flows = minute.flows.min(flows);
                minute.headroom = minute.headroom.min(headroom);
                return false;
            }
            Some(minute) if minute.index + 1 != index => self.minutes.clear(),
            _ => {}
        }
        let mut better = false;
        // A new minute begins: those before it are whole, but for the one in which it all began.
        if self.minutes.len() as u64 > MINUTES {
            let whole = self.minutes.range(1..);
            let load = whole.fold((u64::MAX, f64::INFINITY), |(f, h), m| (f.min(m.flows), h.min(m.headroom)));
            better = self.keep(Carried { flows: load.0, headroom: load.1, ended_ms: now.wall_ms }, now);
            self.minutes.pop_front();
        }
        self.minutes.push_back(Minute { index, flows, headroom });
        better
    }

    /// When the newest of its loads ended, Unix time, ms; `None` if there is none.
    pub fn newest_ms(&self) -> Option<i64> {
        self.days.iter().map(|carried| carried.ended_ms).max()
    }

    /// The highest load of the last 14 days.
    pub fn best(&self, now: Time) -> Option<Carried> {
        let recent = self.days.iter().filter(|carried| is_recent(carried, now));
        recent.max_by_key(|carried| carried.flows).copied()
    }

    /// Keeps the day's best; whether it is better than before.
    fn keep(&mut self, carried: Carried, now: Time) -> bool {
        self.days.retain(|day| is_recent(day, now));
        let day = |carried: &Carried| carried.ended_ms.div_euclid(DAY_MS);
        match self.days.iter_mut().find(|other| day(other) == day(&carried)) {
            Some(other) if other.flows > carried.flows => false,
            Some(other) => std::mem::replace(other, carried).flows < carried.flows,
            None => {
                self.days.push(carried);
                true
            }
        }
    }
}

fn is_recent(carried: &Carried, now: Time) -> bool {
    (0..=DAYS * DAY_MS).contains(&now.wall_ms.saturating_sub(carried.ended_ms))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const START: Time = Time { boot_ms: 3_600_000, wall_ms: 1_700_000_000_000 };

    /// So many active flows every ten seconds for some time.
    fn feed(peak: &mut Peak, start: Time, seconds: u64, flows: u64, spare: Option<f64>) -> Time {
        for s in (0..seconds).step_by(10) {
            peak.record(flows, spare, start + Duration::from_secs(s));
        }
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn load_counts_after_ten_whole_minutes_by_its_lowest_moment() {
        let mut peak = Peak::default();
        let now = feed(&mut peak, START, 660, 500, Some(0.5));
        assert_eq!(peak.best(now), None);
        let now = feed(&mut peak, now, 10, 400, Some(0.4));
        assert_eq!(peak.best(now).map(|c| (c.flows, c.headroom)), Some((500, 0.5)));
        // The one dip is in the next ten minutes.
        let now = feed(&mut peak, now, 300, 900, Some(0.6));
        assert_eq!(peak.best(now).map(|c| c.flows), Some(500));
        let now = feed(&mut peak, now, 900, 900, Some(0.6));
        assert_eq!(peak.best(now).map(|c| (c.flows, c.headroom)), Some((900, 0.6)));
    }

    #[test]
    fn load_of_the_first_whole_minute_counts() {
        let mut peak = Peak::default();
        let now = feed(&mut peak, START, 60, 900, Some(0.5));
        let now = feed(&mut peak, now, 60, 300, Some(0.5));
        let now = feed(&mut peak, now, 550, 900, Some(0.5));
        assert_eq!(peak.best(now).map(|c| c.flows), Some(300));
    }

    #[test]
    fn short_memory_or_a_gap_begins_the_ten_minutes_again() {
        let mut peak = Peak::default();
        let mut now = START;
        for _ in 0..5 {
            now = feed(&mut peak, now, 600, 500, Some(0.5));
            now = feed(&mut peak, now, 10, 500, None);
        }
        for _ in 0..5 {
            now = feed(&mut peak, now, 600, 500, Some(0.5)) + Duration::from_secs(121);
        }
        assert_eq!(peak.best(now), None);
    }

    #[test]
    fn load_is_forgotten_after_fourteen_days_and_survives_a_restart_before() {
        let mut peak = Peak::default();
        let now = feed(&mut peak, START, 700, 500, Some(0.5));
        let later = now + Duration::from_hours(24 * 13);
        let text = serde_json::to_string(&peak).unwrap();
        let read: Peak = serde_json::from_str(&text).unwrap();
        assert_eq!(read.best(later).map(|c| c.flows), Some(500));
        assert_eq!(read.best(now + Duration::from_hours(24 * 14)), None);
        // The clock was wrong: what is yet to come does not count.
        assert_eq!(read.best(Time { boot_ms: 0, wall_ms: 1_600_000_000_000 }), None);
    }

    proptest! {
        #[test]
        fn best_of_any_loads_was_carried_and_state_is_bounded(
            loads in proptest::collection::vec((0u64..1000, 1u64..200_000), 1..600),
        ) {
            let mut peak = Peak::default();
            let (mut now, mut highest) = (START, 0);
            for (flows, seconds) in loads {
                now = feed(&mut peak, now, seconds.min(1200), flows, Some(0.5)) + Duration::from_secs(seconds);
                if seconds >= 660 {
                    highest = highest.max(flows);
                }
                prop_assert!(peak.days.len() <= 15 && peak.minutes.len() <= 11);
            }
            prop_assert!(peak.best(now).is_none_or(|best| best.flows <= highest));
        }
    }
}
