//! Where a service's flows are after a change, and what each member that gets more of them makes of it.

use super::evidence::{Basis, Verdict};
use super::{Change, Member, Pool};

/// Where the flows are after a change.
pub(super) struct Spread {
    pub(super) weights: Vec<u32>,
    sum: u64,
    /// In rotation before.
    pub(super) before: usize,
    /// All of the service's flows, and those of members that are out afterwards.
    flows: Option<(u64, u64)>,
    /// Weights before, and their sum.
    old: (Vec<u32>, u64),
    /// Whether all are judged, and not only those whose share grows.
    all: bool,
}

impl Spread {
    pub(super) fn new(pool: &Pool<'_>, change: Change<'_>) -> Self {
        let weight = |m: &Member<'_>| match change {
            Change::Out(backend) if backend == m.backend => 0,
            Change::Weight(backend, weight) if backend == m.backend => weight,
            _ => m.weight,
        };
        let mut weights: Vec<u32> = pool.members.iter().map(weight).collect();
        if weights.iter().all(|&w| w == 0) {
            let gone = |m: &Member<'_>| change == Change::Out(m.backend);
            weights = pool.members.iter().map(|m| if gone(m) { 0 } else { m.reserve }).collect();
        }
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
    pub(super) fn left(&self) -> usize {
        self.weights.iter().filter(|&&w| w > 0).count()
    }

    /// Active flows of this service that a member would have, rounded up, never fewer than now; `None` if flows are not
    /// known.
    pub(super) fn expected(&self, index: usize, member: &Member<'_>) -> Option<u64> {
        let (all, moving) = self.flows?;
        let part = |flows: u64| {
            let share = u128::from(flows) * u128::from(self.weights[index]);
            u64::try_from(share.div_ceil(u128::from(self.sum.max(1)))).unwrap_or(u64::MAX)
        };
        Some(part(all).max(member.flows?.saturating_add(part(moving))))
    }

    /// Active flows of the whole server now and after the change; `None` if they are not known.
    pub(super) fn totals(&self, index: usize, member: &Member<'_>) -> Option<(u64, u64)> {
        let (now, after) = member.elsewhere;
        Some((member.flows?.saturating_add(now), self.expected(index, member)?.saturating_add(after)))
    }

    /// Whether a member's share grows, compared exactly.
    fn grows(&self, index: usize) -> bool {
        let (old, old_sum) = &self.old;
        let now = u128::from(self.weights[index]) * u128::from(*old_sum);
        now > u128::from(old[index]) * u128::from(self.sum)
    }

    /// The verdict on a member and what it rests on; `None` if its share does not grow and is not asked about.
    pub(super) fn judge(&self, index: usize, member: &Member<'_>) -> Option<(Verdict, Basis)> {
        if self.weights[index] == 0 || !(self.all || self.grows(index)) {
            return None;
        }
        if !self.all && member.memory.is_short() {
            return Some((Verdict::DoesNotFit, Basis::Short { headroom: member.headroom }));
        }
        let Some((flows, expected)) = self.totals(index, member) else {
            return Some((Verdict::CannotTell, Basis::FlowsUnknown));
        };
        if let Some(max_flows) = member.max_flows {
            let verdict = if expected <= max_flows { Verdict::Fits } else { Verdict::DoesNotFit };
            return Some((verdict, Basis::Limit { max_flows }));
        }
        if expected <= flows {
            return Some((Verdict::Fits, Basis::NoMore));
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
    pub(super) fn verdict(&self, pool: &Pool<'_>) -> Verdict {
        if self.left() == 0 && self.before > 0 {
            return Verdict::DoesNotFit;
        }
        let verdicts = pool.members.iter().enumerate().filter_map(|(index, m)| self.judge(index, m));
        verdicts.map(|(verdict, _)| verdict).max().unwrap_or(Verdict::Fits)
    }
}
