//! What a change of factors would mean for every member's load: who can absorb what others give up.
//!
//! A member's load follows its share of the pool's weight. The cautious assumption is that all memory in use follows the
//! load: a member with a quarter more load uses a quarter more memory. Loads of ten minutes ago count if they were lower,
//! because memory follows late: flows must first end or begin.

use super::super::super::api::Time;
use super::super::tracker::Memory;
use super::{FULL, HELP_WITHIN_MS, Member};
use crate::config::model::BackendName;

/// A member whose memory is not known may get so much more load than by its configured weight.
const UNSEEN: f64 = 1.0 + 1.0 / 16.0;
/// Shares that differ by less are equal.
const EQUAL: f64 = 1e-9;

/// The members with their factors.
pub(super) struct Pool<'a> {
    members: &'a [Member<'a>],
    factors: Vec<u8>,
    /// Shares of the load that today's memory stands for: the lower of now and ten minutes ago.
    settled: Vec<f64>,
    /// Shares by configured weight.
    configured: Vec<f64>,
}

impl<'a> Pool<'a> {
    /// `factor_at` tells a member's factor at a time, CLOCK_BOOTTIME ms.
    pub(super) fn new(members: &'a [Member<'a>], factor_at: impl Fn(&BackendName, u64) -> u8, now: Time) -> Self {
        let at = |ms: u64| members.iter().map(|m| factor_at(m.backend, ms)).collect::<Vec<u8>>();
        let factors = at(now.boot_ms);
        let before = shares(members, &at(now.boot_ms.saturating_sub(HELP_WITHIN_MS)));
        let settled = shares(members, &factors).into_iter().zip(before).map(|(a, b)| a.min(b)).collect();
        let configured = shares(members, &vec![FULL; members.len()]);
        Self { members, factors, settled, configured }
    }

    /// Which of the members that ask for it may give up a sixteenth: the worst first, as many as the others can absorb.
    pub(super) fn shed(&self, asks: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut asking: Vec<usize> = (0..self.members.len()).filter(|&index| asks(index)).collect();
        let headroom = |index: usize| self.members[index].headroom.unwrap_or(0.0);
        asking.sort_by(|&a, &b| headroom(a).total_cmp(&headroom(b)));
        while !asking.is_empty() {
            let mut factors = self.factors.clone();
            for &index in &asking {
                factors[index] -= 1;
            }
            if self.is_absorbed(&factors) {
                break;
            }
            asking.pop();
        }
        asking
    }

    /// Whether a member that is ample would still be so with a sixteenth more.
    pub(super) fn stays_ample(&self, index: usize) -> bool {
        let mut factors = self.factors.clone();
        factors[index] += 1;
        self.carries(index, shares(self.members, &factors)[index])
    }

    /// Whether no member in rotation is known to have headroom to spare, and some are known to have none.
    pub(super) fn all_short(&self) -> bool {
        let mut serving = self.members.iter().filter(|m| m.weight > 0).map(|m| m.memory);
        let known = serving.clone().any(Memory::is_short);
        known && serving.all(|memory| memory.is_short())
    }

    fn is_absorbed(&self, factors: &[u8]) -> bool {
        let shares = shares(self.members, factors);
        let serving = || self.members.iter().enumerate().filter(|(_, m)| m.weight > 0);
        serving().any(|(_, m)| matches!(m.memory, Memory::Ample))
            && serving().all(|(index, m)| match m.memory {
                Memory::Ample => shares[index] <= self.settled[index] + EQUAL || self.carries(index, shares[index]),
                Memory::Tight | Memory::Exhausted => shares[index] <= self.configured[index] + EQUAL,
                Memory::Unknown { .. } | Memory::NotMonitored => shares[index] <= self.configured[index] * UNSEEN,
            })
    }

    /// Whether a member has headroom to spare with this share of the load.
    fn carries(&self, index: usize, share: f64) -> bool {
        let member = &self.members[index];
        let more = share / self.settled[index];
        member.headroom.is_some_and(|headroom| 1.0 - (1.0 - headroom) * more >= member.thresholds.ample_again())
    }
}

/// Each member's share of the weight; 0 for all if there is none.
fn shares(members: &[Member<'_>], factors: &[u8]) -> Vec<f64> {
    let weight = |(m, &factor): (&Member<'_>, &u8)| f64::from(m.weight) * f64::from(factor);
    let weights: Vec<f64> = members.iter().zip(factors).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| if sum > 0.0 { w / sum } else { 0.0 }).collect()
}
