//! When each member is probed next, and which answers still count.
//!
//! Intervals have jitter, so that probes of many members and edge nodes do not march in step. The randomness is seeded,
//! so that a run can be replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::hash::mix;

use super::api::MemberName;

/// Jitter of an interval, to each side, in percent. Small enough that `fall` intervals are still about that long.
pub const JITTER_PERCENT: u32 = 5;
/// A probe answers within its timeout; so much later the prober itself is taken to have failed.
const ANSWER_SLACK: Duration = Duration::from_secs(1);

/// A small seeded generator (SplitMix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number from 0 to `limit`, both included.
    fn up_to(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % limit.saturating_add(1)
    }
}

#[derive(Debug)]
struct Turn {
    interval_ms: u64,
    timeout_ms: u64,
    /// When it is in `due`.
    at_ms: u64,
    /// The probe under way.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    started_ms: u64,
}

/// What is due for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Start a probe with this number.
    Start(MemberName, u64),
    /// The prober gave no answer in so long.
    Lost(MemberName, Duration),
}

/// The schedule of all members that are probed.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
    turns: BTreeMap<MemberName, Turn>,
    due: BTreeSet<(u64, MemberName)>,
    last_id: u64,
}

impl Schedule {
    /// An empty schedule.
    pub fn new(seed: u64) -> Self {
        Self { random: Random(seed), turns: BTreeMap::new(), due: BTreeSet::new(), last_id: 0 }
    }

    /// Probes a member with this interval and timeout: at once if it is new or `afresh` (then an answer still to come is
    /// void), else where its turn is.
    pub fn watch(&mut self, member: &MemberName, interval: Duration, timeout: Duration, afresh: bool, now_ms: u64) {
        let (interval_ms, timeout_ms) = (millis(interval).max(1), millis(timeout));
        match self.turns.get_mut(member) {
            Some(turn) if !afresh => {
                (turn.interval_ms, turn.timeout_ms) = (interval_ms, timeout_ms);
                if turn.open.is_none() && turn.at_ms > now_ms + interval_ms {
                    self.set(member, now_ms + interval_ms);
                }
            }
            _ => {
                self.forget(member);
                let at_ms = now_ms + self.random.up_to((interval_ms / 20).min(100));
                self.turns.insert(member.clone(), Turn { interval_ms, timeout_ms, at_ms, open: None });
                self.due.insert((at_ms, member.clone()));
            }
        }
    }

    /// Ends probing of all members but these.
    pub fn retain(&mut self, keep: impl Fn(&MemberName) -> bool) {
        let gone: Vec<MemberName> = self.turns.keys().filter(|m| !keep(m)).cloned().collect();
        for member in gone {
            self.forget(&member);
        }
    }

    /// What is due first, if anything is. Call it until there is nothing more.
    pub fn pop(&mut self, now_ms: u64) -> Option<Due> {
        let (at_ms, member) = self.due.first().cloned()?;
        if at_ms > now_ms {
            return None;
        }
        let turn = self.turns.get_mut(&member).expect("every due entry has its turn");
        if let Some(open) = turn.open.take() {
            let waited = Duration::from_millis(now_ms.saturating_sub(open.started_ms));
            self.set(&member, now_ms + 1);
            return Some(Due::Lost(member, waited));
        }
        self.last_id += 1;
        turn.open = Some(Open { id: self.last_id, started_ms: now_ms });
        let deadline = now_ms + turn.timeout_ms + millis(ANSWER_SLACK);
        self.set(&member, deadline);
        Some(Due::Start(member, self.last_id))
    }

    /// Takes an answer; whether it counts. The next probe starts an interval after this one started.
    pub fn answer(&mut self, member: &MemberName, id: u64, now_ms: u64) -> bool {
        let Some(turn) = self.turns.get_mut(member) else { return false };
        let Some(open) = turn.open.take_if(|open| open.id == id) else { return false };
        let spread = turn.interval_ms * u64::from(JITTER_PERCENT) / 100;
        let at_ms = open.started_ms + turn.interval_ms - spread + self.random.up_to(2 * spread);
        self.set(member, at_ms.max(now_ms + 1));
        true
    }

    /// When something is due next, CLOCK_BOOTTIME ms.
    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, member: &MemberName, at_ms: u64) {
        if let Some(turn) = self.turns.get_mut(member) {
            self.due.remove(&(turn.at_ms, member.clone()));
            turn.at_ms = at_ms;
            self.due.insert((at_ms, member.clone()));
        }
    }

    fn forget(&mut self, member: &MemberName) {
        if let Some(turn) = self.turns.remove(member) {
            self.due.remove(&(turn.at_ms, member.clone()));
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{BackendName, ServiceName};

    const SECOND: Duration = Duration::from_secs(1);

    fn member(n: u32) -> MemberName {
        let backend = BackendName::new(&format!("b{n}")).unwrap();
        MemberName { service: ServiceName::new("web").unwrap(), backend }
    }

    fn start(schedule: &mut Schedule, now_ms: u64) -> u64 {
        match schedule.pop(now_ms) {
            Some(Due::Start(_, id)) => id,
            other => panic!("{other:?} at {now_ms}"),
        }
    }

    #[test]
    fn schedule_new_members_start_at_once_and_spread_with_time() {
        let mut schedule = Schedule::new(1);
        for n in 0..50 {
            schedule.watch(&member(n), SECOND, SECOND, false, 1000);
        }
        let mut starts = Vec::new();
        let mut now = 1000;
        while now < 20_000 {
            now = schedule.next().unwrap().max(now);
            let Some(Due::Start(name, id)) = schedule.pop(now) else { panic!("lost at {now}") };
            assert!(schedule.answer(&name, id, now));
            starts.push((name, now));
        }
        assert!(starts[..50].iter().all(|(_, at)| (1000..=1050).contains(at)));
        let mut last: BTreeMap<MemberName, u64> = BTreeMap::new();
        let mut steps = BTreeSet::new();
        for (name, at) in starts {
            if let Some(before) = last.insert(name, at) {
                assert!((950..=1050).contains(&(at - before)), "{}", at - before);
                steps.insert(at - before);
            }
        }
        assert!(steps.len() > 50, "no jitter: {steps:?}");
    }

    #[test]
    fn schedule_answer_counts_once_and_only_for_the_probe_under_way() {
        let mut schedule = Schedule::new(1);
        schedule.watch(&member(1), SECOND, SECOND, false, 0);
        let id = start(&mut schedule, 100);
        assert!(!schedule.answer(&member(1), id + 1, 110));
        assert!(schedule.answer(&member(1), id, 110) && !schedule.answer(&member(1), id, 110));
        let id = start(&mut schedule, 5000);
        schedule.watch(&member(1), SECOND, SECOND, true, 5001);
        assert!(!schedule.answer(&member(1), id, 5002), "an answer about what is no longer asked");
    }

    #[test]
    fn schedule_slow_answer_within_the_timeout_still_counts() {
        let mut schedule = Schedule::new(1);
        schedule.watch(&member(1), SECOND, SECOND, false, 0);
        let id = start(&mut schedule, 100);
        assert_eq!(schedule.pop(1300), None);
        assert!(schedule.answer(&member(1), id, 1300));
        assert_eq!(schedule.next(), Some(1301));
    }

    #[test]
    fn schedule_lost_answer_is_reported_once_and_the_probe_repeated() {
        let mut schedule = Schedule::new(1);
        schedule.watch(&member(1), SECOND, SECOND, false, 0);
        let id = start(&mut schedule, 100);
        assert_eq!(schedule.pop(2100), Some(Due::Lost(member(1), Duration::from_millis(2000))));
        assert!(!schedule.answer(&member(1), id, 2100));
        assert_eq!(start(&mut schedule, 2101), id + 1);
    }
}
