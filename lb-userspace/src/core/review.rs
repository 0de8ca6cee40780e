//! Nothing stands unnoticed past its time: reasons and removals that reach their `review_at` escalate, once each.

use super::Core;
use super::api::{EventKind, MemberName, Scope};
use super::reason::{Reason, ReasonKind};

/// When a reason of a member is to be reviewed, CLOCK_BOOTTIME ms.
pub type Review = (u64, MemberName, ReasonKind);

impl Core {
    /// Follows a member's reasons: those before no longer count, those now do.
    pub(super) fn review(&mut self, name: &MemberName, before: &[Reason], now: &[Reason]) {
        for (at, kind) in before.iter().filter_map(|r| Some((r.review_at?, r.kind))) {
            self.reviews.remove(&(at.boot_ms, name.clone(), kind));
        }
        let stood = |reason: &Reason| {
            let same = |b: &&Reason| b.kind == reason.kind && b.since == reason.since;
            before.iter().find(same).is_some_and(|b| b.is_overdue(self.now))
        };
        for (at, kind) in now.iter().filter(|reason| !stood(reason)).filter_map(|r| Some((r.review_at?, r.kind))) {
            self.reviews.insert((at.boot_ms, name.clone(), kind));
        }
    }

    /// Tells of reasons and removals whose time has come.
    pub(super) fn run_reviews(&mut self) {
        let now = self.now;
        while self.reviews.first().is_some_and(|(at, ..)| *at <= now.boot_ms) {
            let Some((_, name, kind)) = self.reviews.pop_first() else { break };
            let Some(reasons) = self.members.get(&name).map(|m| &m.reasons) else { continue };
            let Some(reason) = reasons.iter().find(|r| r.kind == kind) else { continue };
            // Under a lease, what else is wrong is being worked on. Its end begins a review of its own.
            if !kind.is_lease() && reasons.iter().any(|r| r.kind.is_lease()) {
                continue;
            }
            let minutes = now.boot_ms.saturating_sub(reason.since.boot_ms) / 60_000;
            let owner = reason.owner.as_deref().unwrap_or("nobody");
            let cause = format!("{} for {minutes} min: {}; {owner} answers for it", kind.name(), reason.cause);
            self.event(Some(&name), EventKind::Overdue, cause);
        }
        let due = |scope: &&Scope| {
            let record = &self.removed[*scope];
            record.review_at.wall_ms <= now.wall_ms && !self.reviewed.contains(*scope)
        };
        for scope in self.removed.keys().filter(due).cloned().collect::<Vec<_>>() {
            let record = &self.removed[&scope];
            let owner = record.owner.as_deref().unwrap_or("nobody");
            let cause = format!(
                "removed by {} ({}) and not back; {owner} answers for it. Add it again, or say `rollcall backend forget \
                 {}`",
                record.by, record.how, scope.backend
            );
            self.event_of(&scope, EventKind::Overdue, cause);
            self.reviewed.insert(scope);
        }
        let removed = &self.removed;
        self.reviewed.retain(|scope| removed.contains_key(scope));
    }

    /// When the next is due, CLOCK_BOOTTIME ms.
    pub(super) fn next_review(&self) -> Option<u64> {
        let now = self.now;
        let removed = self.removed.values().filter(|r| !self.reviewed.contains(&r.scope));
        let removed = removed.map(|r| {
            let ahead = r.review_at.wall_ms.saturating_sub(now.wall_ms);
            now.boot_ms.saturating_add(u64::try_from(ahead).unwrap_or(0))
        });
        removed.chain(self.reviews.first().map(|(at, ..)| *at)).min()
    }
}
