//! The capacity guard: can the others carry it if this one is taken out, or its weight changed?
//!
//! Owns the answer and its evidence; not what follows from it (a refusal, a question, the N-1 alarm), nor where flows and
//! samples come from. The best evidence that there is for each member whose load would rise decides for it, and the worst
//! member decides for the pool:
//!
//! 1. its memory is short already: it can take no more;
//! 2. its configured limit of active flows;
//! 3. the highest load that it carried for ten minutes in the last 14 days with headroom to spare ([`peak`]): as much as
//!    that fits, but more is not refused for it;
//! 4. how its memory follows its flows ([`line`]), if that is known narrowly enough.
//!
//! With none of these the answer is that nobody can tell, which is not the same as yes.

mod evidence;
pub mod line;
pub mod peak;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

pub use evidence::{Answer, Basis, Evidence, Finding, Verdict};
use line::Line;
use peak::Carried;

use super::memory::thresholds::Thresholds;
use super::memory::tracker::Memory;
use crate::config::model::BackendName;

/// A service's members, and how many of them must be in rotation.
#[derive(Clone, Debug)]
pub struct Pool<'a> {
    /// All configured members.
    pub members: Vec<Member<'a>>,
    /// At least so many; 0: no such rule.
    pub min_in_rotation: usize,
}

/// What the guard must know of a member.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Who.
    pub backend: &'a BackendName,
    /// Its effective weight; 0: not in rotation.
    pub weight: u32,
    /// Its active flows of this service, opened less closed; `None` while they are not known. Those of a member out of
    /// rotation count, too: they come back elsewhere.
    pub flows: Option<u64>,
    /// The configured limit of its active flows.
    pub max_flows: Option<u64>,
    /// The memory fact.
    pub memory: &'a Memory,
    /// Headroom, 0 to 1; `None` while unknown.
    pub headroom: Option<f64>,
    /// Its thresholds.
    pub thresholds: Thresholds,
    /// The highest load it carried ([`peak::Peak::best`]).
    pub carried: Option<Carried>,
    /// How its memory follows its flows ([`line::Follower::line`]).
    pub line: Option<Line>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// It goes out of rotation: drain, maintenance, removal, or its death.
    Out(&'a BackendName),
    /// Its effective weight becomes this; 0 is the same as out.
    Weight(&'a BackendName, u32),
    /// Nothing: do all in rotation carry what there is, with the flows that still leave the others? For the life of a
    /// lease.
    Nothing,
}

/// The guard's answer, and what else is to be said of the change.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// Whether the others can carry it.
    pub answer: Answer,
    /// What is true however much they can carry.
    pub findings: Vec<Finding>,
}

/// Answers for one change. All flows are taken to be spread by weight over those in rotation after it, or to stay where
/// they are and be joined by their part of what must move, whichever is more. A backend that is not in the pool changes
/// nothing.
pub fn assess(pool: &Pool<'_>, change: Change<'_>) -> Assessment {
    let after = Spread::new(pool, change);
    let judged = pool.members.iter().enumerate().filter_map(|(index, member)| {
        let (verdict, basis) = after.judge(index, member)?;
        let (flows, expected) = (member.flows, after.expected(index, member));
        Some(Evidence { backend: member.backend.clone(), flows, expected, verdict, basis })
    });
    let mut evidence: Vec<Evidence> = judged.collect();
    evidence.sort_by_key(|e| Reverse(e.verdict));
    let findings = findings(pool, &after);
    let answer = match after.verdict(pool) {
        Verdict::Fits => Answer::Fits(evidence),
        Verdict::CannotTell => Answer::CannotTell(evidence),
        Verdict::DoesNotFit => Answer::DoesNotFit(evidence),
    };
    Assessment { answer, findings }
}

/// N-1: the member in rotation whose loss the others would bear worst, and the answer for it; of equally bad ones, the
/// one with the most flows. `None`: nobody is in rotation. Work grows with the square of the members.
pub fn worst_loss<'a>(pool: &Pool<'a>) -> Option<(&'a BackendName, Assessment)> {
    let serving = pool.members.iter().filter(|m| m.weight > 0);
    let worst = serving.max_by_key(|m| {
        let verdict = Spread::new(pool, Change::Out(m.backend)).verdict(pool);
        (verdict, m.flows, Reverse(m.backend))
    })?;
    Some((worst.backend, assess(pool, Change::Out(worst.backend))))
}

/// Where the flows are after a change.
struct Spread {
    weights: Vec<u32>,
    sum: u64,
    /// In rotation before.
    before: usize,
    /// All of the service's flows, and those of members that are out afterwards.
    flows: Option<(u64, u64)>,
    /// Weights before, and their sum.
    old: (Vec<u32>, u64),
    /// Whether all are judged, and not only those whose share grows.
    all: bool,
}

impl Spread {
    fn new(pool: &Pool<'_>, change: Change<'_>) -> Self {
        let weight = |m: &Member<'_>| match change {
            Change::Out(backend) if backend == m.backend => 0,
            Change::Weight(backend, weight) if backend == m.backend => weight,
            _ => m.weight,
        };
        let weights: Vec<u32> = pool.members.iter().map(weight).collect();
        let sum = weights.iter().copied().map(u64::from).sum();
        let old: Vec<u32> = pool.members.iter().map(|m| m.weight).collect();
        let old_sum = old.iter().copied().map(u64::from).sum();
        let flows = pool.members.iter().zip(&weights).try_fold((0_u64, 0_u64), |(all, moving), (m, &weight)| {
            let flows = m.flows?;
            Some((all.saturating_add(flows), moving.saturating_add(if weight == 0 { flows } else { 0 })))
        });
        let before = old.iter().filter(|&&w| w > 0).count();
        Self { weights, sum, before, flows, old: (old, old_sum), all: change == Change::Nothing }
    }

    /// In rotation after the change.
    fn left(&self) -> usize {
        self.weights.iter().filter(|&&w| w > 0).count()
    }

    /// Active flows that a member would have, rounded up; `None` if flows are not known.
    fn expected(&self, index: usize, member: &Member<'_>) -> Option<u64> {
        let (all, moving) = self.flows?;
        let part = |flows: u64| {
            let share = u128::from(flows) * u128::from(self.weights[index]);
            u64::try_from(share.div_ceil(u128::from(self.sum.max(1)))).unwrap_or(u64::MAX)
        };
        Some(part(all).max(member.flows?.saturating_add(part(moving))))
    }

    /// Whether a member's share grows, compared exactly.
    fn grows(&self, index: usize) -> bool {
        let (old, old_sum) = &self.old;
        let now = u128::from(self.weights[index]) * u128::from(*old_sum);
        now > u128::from(old[index]) * u128::from(self.sum)
    }

    /// The verdict on a member and what it rests on; `None` if its share does not grow and is not asked about.
    fn judge(&self, index: usize, member: &Member<'_>) -> Option<(Verdict, Basis)> {
        if self.weights[index] == 0 || !(self.all || self.grows(index)) {
            return None;
        }
        if member.memory.is_short() {
            return Some((Verdict::DoesNotFit, Basis::Short { headroom: member.headroom }));
        }
        let Some(expected) = self.expected(index, member) else {
            return Some((Verdict::CannotTell, Basis::FlowsUnknown));
        };
        if let Some(max_flows) = member.max_flows {
            let verdict = if expected <= max_flows { Verdict::Fits } else { Verdict::DoesNotFit };
            return Some((verdict, Basis::Limit { max_flows }));
        }
        if let Some(carried) = member.carried.filter(|carried| expected <= carried.flows) {
            return Some((Verdict::Fits, Basis::Carried(carried)));
        }
        let predicted = member.line.and_then(|line| line.headroom_at(expected));
        if let Some((low, high)) = predicted {
            let tight = member.thresholds.tight();
            if low >= tight {
                return Some((Verdict::Fits, Basis::Predicted { low, high }));
            }
            if high < tight {
                return Some((Verdict::DoesNotFit, Basis::Predicted { low, high }));
            }
        }
        Some((Verdict::CannotTell, member.carried.map_or(Basis::Nothing, Basis::Beyond)))
    }

    /// The worst verdict on any member; with nobody left to carry what there is, it does not fit.
    fn verdict(&self, pool: &Pool<'_>) -> Verdict {
        if self.left() == 0 && self.before > 0 {
            return Verdict::DoesNotFit;
        }
        let verdicts = pool.members.iter().enumerate().filter_map(|(index, m)| self.judge(index, m));
        verdicts.map(|(verdict, _)| verdict).max().unwrap_or(Verdict::Fits)
    }
}

fn findings(pool: &Pool<'_>, after: &Spread) -> Vec<Finding> {
    let left = after.left();
    let mut findings = Vec::new();
    if left < after.before && left == 0 {
        findings.push(Finding::LeavesNone);
    }
    let single = pool.members.iter().zip(&after.weights).find(|(_, weight)| **weight > 0);
    if let Some((member, _)) = single.filter(|_| left == 1 && after.before > 1) {
        findings.push(Finding::LeavesSingle { backend: member.backend.clone() });
    }
    if left < pool.min_in_rotation && left < after.before {
        findings.push(Finding::BelowMinimum { left, min_in_rotation: pool.min_in_rotation });
    }
    findings
}
