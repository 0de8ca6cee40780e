//! How much of its weight a server gives up for its memory: the factor, in sixteenths.
//!
//! One step function over the whole pool of a service, because what one gives up the others must carry. Owns the factors
//! and their pace; not the fact ([`super::tracker`]), nor what else lowers a weight ([`super::super::weight`]).
//!
//! - **Down** by a sixteenth a minute at most while memory is short, not below a quarter, and no more than the others can
//!   absorb ([`pool`]). If all are short, none is shed, and what was shed is given back.
//! - **Up** by a sixteenth in five minutes at most, once memory is ample and would stay so if all of it followed the
//!   flows. Else the factor stays: giving back what would be shed again is oscillation. After two hours of it one step is
//!   tried all the same, since memory may not follow the flows at all.
//! - **No help** within ten minutes: no further step, and an alarm condition ([`Shedding::stuck`]).
//! - **Silence**: held for five minutes, then given back.
//!
//! Each change of direction doubles the wait before the next, as route flap damping does (RFC 2439), so that whatever
//! memory does, a day sees few of them. A day without a change forgets them.

mod pool;
mod share;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::super::api::Time;
use super::thresholds::Thresholds;
use super::tracker::Memory;
use crate::config::model::BackendName;
use pool::Pool;
use share::Share;
pub use share::Stuck;

/// The whole weight.
pub const FULL: u8 = 16;
/// Shedding never goes below this.
pub const FLOOR: u8 = 4;

/// Shedding must help within this; and so long flows go on before what they held is free.
const HELP_WITHIN_MS: u64 = 10 * MINUTE_MS;
/// How long a factor is held when the source is silent.
const HELD_MS: u64 = 5 * MINUTE_MS;
/// How often [`Shedding::step`] wants to be called.
const STEP_MS: u64 = 15_000;
const MINUTE_MS: u64 = 60_000;

/// What a step must know of a member.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Who.
    pub backend: &'a BackendName,
    /// Its weight apart from the factor; 0: not in rotation, it keeps its factor and carries nothing.
    pub weight: u32,
    /// The fact.
    pub memory: &'a Memory,
    /// Headroom, 0 to 1 ([`super::tracker::Tracker::headroom`]); `None` while unknown.
    pub headroom: Option<f64>,
    /// Its thresholds.
    pub thresholds: Thresholds,
}

/// A factor changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose.
    pub backend: BackendName,
    /// Before, in sixteenths.
    pub from: u8,
    /// Now, in sixteenths.
    pub to: u8,
    /// Why, in words.
    pub cause: String,
}

/// The factors of one service's members.
#[derive(Clone, Debug, Default)]
pub struct Shedding {
    shares: BTreeMap<BackendName, Share>,
    stepped_ms: u64,
}

impl Shedding {
    /// Takes what is known of all members, and moves each factor by at most one sixteenth. To be called with each sample
    /// or every quarter of a minute; more often does no harm. Members that are not named are forgotten.
    pub fn step(&mut self, members: &[Member<'_>], now: Time) -> Vec<Step> {
        self.stepped_ms = now.boot_ms;
        self.prepare(members, now);
        let may_go_up = |m: &Member<'_>| self.shares.get(m.backend).is_some_and(|share| share.may_go_up(now.boot_ms));
        if !members.iter().any(|m| self.wants_less(m, now.boot_ms) || may_go_up(m)) {
            return Vec::new();
        }
        let mut steps = Vec::new();
        let pool =
            Pool::new(members, |backend, at_ms| self.shares.get(backend).map_or(FULL, |s| s.factor_at(at_ms)), now);
        for index in pool.shed(|index| self.wants_less(&members[index], now.boot_ms)) {
            let headroom = members[index].headroom.unwrap_or(0.0) * 100.0;
            let cause = format!("memory is {} ({headroom:.1} % headroom)", members[index].memory.name());
            steps.push((index, false, cause));
        }
        if steps.is_empty() {
            let all_short = pool.all_short();
            for (index, member) in members.iter().enumerate().filter(|(_, m)| m.weight > 0) {
                let Some(share) = self.shares.get(member.backend).filter(|s| s.may_go_up(now.boot_ms)) else {
                    continue;
                };
                if let Some(cause) = give_back(share, member, index, &pool, all_short, now.boot_ms) {
                    steps.push((index, true, cause));
                }
            }
        }
        steps.into_iter().map(|(index, up, cause)| self.take(members[index].backend, up, cause, now.boot_ms)).collect()
    }

    /// A server's factor, in sixteenths.
    pub fn factor(&self, backend: &BackendName) -> u8 {
        self.shares.get(backend).map_or(FULL, |share| share.factor())
    }

    /// If its factor is lowered, why, by the last step.
    pub fn cause(&self, backend: &BackendName) -> Option<&str> {
        self.shares.get(backend).filter(|share| share.factor() < FULL).map(|share| share.cause())
    }

    /// An alarm condition: shedding did not help this server within ten minutes, and stopped.
    pub fn stuck(&self, backend: &BackendName) -> Option<Stuck> {
        self.shares.get(backend)?.stuck()
    }

    /// When to call [`Shedding::step`] again if no sample comes before, CLOCK_BOOTTIME ms; `None`: no need.
    pub fn next_ms(&self) -> Option<u64> {
        self.shares.values().any(|share| share.factor() < FULL).then_some(self.stepped_ms + STEP_MS)
    }

    fn prepare(&mut self, members: &[Member<'_>], now: Time) {
        let named = |backend: &BackendName| members.iter().any(|m| m.backend == backend);
        self.shares.retain(|backend, share| named(backend) && !share.forget(now.boot_ms));
        for member in members {
            if let Some(share) = self.shares.get_mut(member.backend) {
                share.watch(member, now);
            }
        }
    }

    /// Whether a member's memory asks for a step down that its pace allows.
    fn wants_less(&self, member: &Member<'_>, now_ms: u64) -> bool {
        let short = member.memory.is_short() && member.headroom.is_some_and(|h| h < member.thresholds.tight());
        let exhausted = matches!(member.memory, Memory::Exhausted);
        let may = self.shares.get(member.backend).is_none_or(|share| share.may_go_down(exhausted, now_ms));
        member.weight > 0 && short && may
    }

    fn take(&mut self, backend: &BackendName, up: bool, cause: String, now_ms: u64) -> Step {
        let share = self.shares.entry(backend.clone()).or_insert_with(|| Share::new(now_ms));
        let from = share.factor();
        let to = if up { from + 1 } else { from - 1 };
        share.go(to, &cause, now_ms);
        Step { backend: backend.clone(), from, to, cause }
    }
}

/// Why a member may have a sixteenth back, if it may.
fn give_back(
    share: &Share,
    member: &Member<'_>,
    index: usize,
    pool: &Pool<'_>,
    all_short: bool,
    now_ms: u64,
) -> Option<String> {
    match member.memory {
        Memory::Ample if pool.stays_ample(index) => Some("memory is ample again".to_owned()),
        Memory::Ample if share.may_try(now_ms) => Some("memory has been ample for long".to_owned()),
        Memory::Unknown { since, why } if now_ms.saturating_sub(since.boot_ms) >= HELD_MS => {
            Some(format!("memory has been unknown for five minutes: {why}"))
        }
        Memory::NotMonitored => Some("memory is not monitored any more".to_owned()),
        Memory::Tight | Memory::Exhausted if all_short => Some("nobody else has memory to spare".to_owned()),
        _ => None,
    }
}
