//! The capacity guard: can the others carry it if this one is taken out, or its weight changed?
//!
//! Owns the answer and its evidence; not what follows from it (a refusal, a question, the N-1 alarm), nor where flows and
//! samples come from. The best evidence that there is for each member whose load would rise decides for it, and the worst
//! member decides for the pool:
//!
//! 1. its memory is short already: it can take no more;
//! 2. its configured limit of active flows;
//! 3. that it would have no more than now;
//! 4. the highest load that it carried for ten minutes in the last 14 days with headroom to spare ([`peak`]): as much as
//!    that fits, but more is not refused for it;
//! 5. how its memory follows its flows ([`line`]), if that is known narrowly enough.
//!
//! With none of these the answer is that nobody can tell, which is not the same as yes.
//!
//! Flows and limits are those of the whole server, over all its services: what one service moves, and what others move at
//! the same time ([`together`]), adds up.

mod evidence;
pub mod line;
pub mod peak;
mod spread;
#[cfg(test)]
mod tests;
mod together;

use std::cmp::Reverse;

pub use evidence::{Answer, Basis, Evidence, Finding, Verdict};
use line::Line;
use peak::Carried;
use spread::Spread;
pub use together::{assess_together, worst_losses};

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
    /// The weight that a backup gets once nobody else is in rotation; 0 for all others, and for a backup that could not
    /// serve.
    pub reserve: u32,
    /// Its active flows of this service, opened less closed; `None` while they are not known. Those of a member out of
    /// rotation count, too: they come back elsewhere.
    pub flows: Option<u64>,
    /// Its active flows of other services now, and when what changes there has changed.
    pub elsewhere: (u64, u64),
    /// The configured limit of its active flows, over all services.
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
    /// lease. Memory that is short now is no evidence then, since shedding answers for that until all are short.
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
        let (flows, expected) = after.totals(index, member).unzip();
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
