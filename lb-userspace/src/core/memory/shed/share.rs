//! The factor of one server: pace, changes of direction, and whether shedding helps it.

use std::collections::VecDeque;

use super::super::super::api::Time;
use super::super::tracker::Memory;
use super::{FLOOR, FULL, HELP_WITHIN_MS, MINUTE_MS, Member};

/// Time between two steps down of one server.
const DOWN_EVERY_MS: u64 = MINUTE_MS;
/// Time between two steps up.
const UP_EVERY_MS: u64 = 5 * MINUTE_MS;
/// Headroom that is better by less is not better.
const BETTER: f64 = 0.01;
/// The wait before a change of direction, doubled by each one before it.
const TURN_MS: u64 = 5 * MINUTE_MS;
const LONGEST_TURN_MS: u64 = 80 * MINUTE_MS;
/// The wait before a step up that might make memory tight again, doubled likewise.
const TRY_MS: u64 = 120 * MINUTE_MS;
const LONGEST_TRY_MS: u64 = 24 * 60 * MINUTE_MS;
/// So long without a change of direction, and they are forgotten.
const FORGET_MS: u64 = 24 * 60 * MINUTE_MS;

/// Why shedding stopped although memory is short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stuck {
    /// Since when.
    pub since: Time,
    /// Headroom then, 0 to 1.
    pub headroom: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

/// The state of one server that gives up weight, or did within the last day.
#[derive(Clone, Debug)]
pub(super) struct Share {
    factor: u8,
    changed_ms: u64,
    direction: Direction,
    /// Changes of direction that are not forgotten.
    turns: u32,
    turned_ms: u64,
    /// When the factor changed of late, and from what.
    before: VecDeque<(u64, u8)>,
    /// Since when it is seen whether shedding helps, and the headroom then.
    trial: Option<(u64, f64)>,
    stuck: Option<Stuck>,
    cause: String,
}

impl Share {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            factor: FULL,
            changed_ms: 0,
            direction: Direction::Down,
            turns: 0,
            turned_ms: now_ms,
            before: VecDeque::new(),
            trial: None,
            stuck: None,
            cause: String::new(),
        }
    }

    /// Now, in sixteenths.
    pub(super) fn factor(&self) -> u8 {
        self.factor
    }

    /// Why, by the last step.
    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    /// Whether shedding stopped because it did not help.
    pub(super) fn stuck(&self) -> Option<Stuck> {
        self.stuck
    }

    /// Forgets what is over, and says whether that is all.
    pub(super) fn forget(&mut self, now_ms: u64) -> bool {
        while self.before.front().is_some_and(|(when, _)| when + HELP_WITHIN_MS < now_ms) {
            self.before.pop_front();
        }
        if now_ms.saturating_sub(self.turned_ms) >= FORGET_MS {
            self.turns = 0;
        }
        self.factor == FULL && self.turns == 0 && self.before.is_empty()
    }

    /// What it was at this time of the last ten minutes.
    pub(super) fn factor_at(&self, at_ms: u64) -> u8 {
        self.before.iter().find(|(when, _)| *when > at_ms).map_or(self.factor, |(_, factor)| *factor)
    }

    fn rested(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.changed_ms)
    }

    /// How long a change of direction must wait after the last step.
    fn turn_ms(&self) -> u64 {
        doubled(TURN_MS, self.turns).min(LONGEST_TURN_MS)
    }

    /// Whether one step down is due, by pace alone.
    pub(super) fn may_go_down(&self, exhausted: bool, now_ms: u64) -> bool {
        let wait = if self.direction == Direction::Up && !exhausted { self.turn_ms() } else { DOWN_EVERY_MS };
        self.factor > FLOOR && self.stuck.is_none() && self.rested(now_ms) >= wait
    }

    /// Whether one step up is due, by pace alone.
    pub(super) fn may_go_up(&self, now_ms: u64) -> bool {
        let wait = if self.direction == Direction::Down { self.turn_ms() } else { UP_EVERY_MS };
        self.factor < FULL && self.rested(now_ms) >= wait.max(UP_EVERY_MS)
    }

    /// Whether it rested for so long that a step up may be tried that might have to be taken back.
    pub(super) fn may_try(&self, now_ms: u64) -> bool {
        self.rested(now_ms) >= doubled(TRY_MS, self.turns).min(LONGEST_TRY_MS)
    }

    pub(super) fn go(&mut self, to: u8, cause: &str, now_ms: u64) {
        let direction = if to < self.factor { Direction::Down } else { Direction::Up };
        if direction != self.direction {
            self.turns = self.turns.saturating_add(1);
            self.turned_ms = now_ms;
        }
        self.before.push_back((now_ms, self.factor));
        (self.factor, self.changed_ms, self.direction) = (to, now_ms, direction);
        cause.clone_into(&mut self.cause);
    }

    /// Sees whether shedding helps.
    pub(super) fn watch(&mut self, member: &Member<'_>, now: Time) {
        let short = member.memory.is_short().then_some(member.headroom).flatten();
        let short = short.filter(|&headroom| headroom < member.thresholds.tight() && self.factor < FULL);
        let Some(headroom) = short else {
            if !matches!(member.memory, Memory::Unknown { .. }) {
                (self.trial, self.stuck) = (None, None);
            }
            return;
        };
        if let Some(stuck) = self.stuck {
            if headroom >= stuck.headroom + BETTER {
                (self.trial, self.stuck) = (Some((now.boot_ms, headroom)), None);
            }
            return;
        }
        let (since_ms, then) = *self.trial.get_or_insert((now.boot_ms, headroom));
        if now.boot_ms.saturating_sub(since_ms) < HELP_WITHIN_MS {
            return;
        }
        if headroom >= then + BETTER {
            self.trial = Some((now.boot_ms, headroom));
        } else {
            self.stuck = Some(Stuck { since: now, headroom });
        }
    }
}

/// `base` doubled so many times.
fn doubled(base: u64, times: u32) -> u64 {
    base.saturating_mul(1 << times.min(16))
}
