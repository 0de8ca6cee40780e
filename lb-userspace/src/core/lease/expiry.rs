//! A lease's life: it begins, its owner is reminded, it ends or is ended, and the server comes back.

use super::{Lease, LeaseKind};
use crate::core::Core;
use crate::core::api::{EventKind, MemberName, Output, Scope, Store};

/// Why a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Expired,
    Restored(String),
    Recalled(String),
}

impl Core {
    /// Takes leases that an earlier daemon had granted, already carried over into this boot.
    pub(in crate::core) fn take_leases(&mut self, leases: Vec<Lease>) {
        for lease in leases {
            self.mark_dirty(&lease.scope);
            self.leases.insert(lease.scope.clone(), lease);
        }
    }

    /// Takes a lease that `by` was granted, or has extended, and that is stored.
    pub(in crate::core) fn take_lease(&mut self, lease: Lease, by: &str) {
        let scope = lease.scope.clone();
        // It was granted some milliseconds ago.
        let left = lease.left(self.now).as_millis().div_ceil(1000);
        let (minutes, seconds) = (left / 60, left % 60);
        let before = self.leases.insert(scope.clone(), lease.clone());
        self.reminded.remove(&scope);
        let same = |b: &Lease| b.kind == lease.kind && b.begun == lease.begun && b.owner == lease.owner;
        let (kind, cause) = match before {
            Some(before) if same(&before) => {
                let what = lease.in_words();
                (EventKind::LeaseExtended, format!("by {by}: {what} ends in {minutes} min {seconds} s now"))
            }
            before => {
                let instead = before.map(|b| format!("; in place of {}", b.in_words())).unwrap_or_default();
                let kind = match lease.kind {
                    LeaseKind::Drain => EventKind::Drained,
                    LeaseKind::Maintenance => EventKind::Maintenance,
                };
                (kind, format!("by {by} for {minutes} min {seconds} s: {}{instead}", lease.reason))
            }
        };
        self.event_by(&scope, kind, Some(by), cause);
        if let Some(overrode) = lease.overrode.filter(|_| kind != EventKind::LeaseExtended) {
            self.event_by(&scope, EventKind::GuardOverridden, Some(by), format!("by {by}: {overrode}"));
        }
        for member in self.members_of(&scope) {
            if let Some(watched) = self.members.get_mut(&member) {
                watched.returning = None;
            }
        }
        self.mark_dirty(&scope);
    }

    /// Ends a lease before its time, as its owner or another asked.
    pub(in crate::core) fn restore(&mut self, scope: &Scope, by: String) {
        self.end_lease(scope, End::Restored(by));
    }

    /// Ends a lease because the others have become too few.
    pub(in crate::core) fn recall(&mut self, scope: &Scope, why: String) {
        self.end_lease(scope, End::Recalled(why));
    }

    /// Ends leases whose time is over, and reminds of those that end soon.
    pub(in crate::core) fn run_leases(&mut self) {
        let now_ms = self.now.boot_ms;
        let over = self.leases.values().filter(|l| l.ends.boot_ms <= now_ms);
        for scope in over.map(|l| l.scope.clone()).collect::<Vec<_>>() {
            self.end_lease(&scope, End::Expired);
        }
        let due: Vec<Lease> = (self.leases.values())
            .filter(|l| l.reminder_ms() <= now_ms && !self.reminded.contains(&l.scope))
            .cloned()
            .collect();
        for lease in due {
            let left = lease.left(self.now).as_secs();
            let cause = format!(
                "the {} by {} ends in {} min {} s, then it is probed and takes flows again: {}",
                lease.kind.name(),
                lease.owner.name,
                left / 60,
                left % 60,
                lease.reason
            );
            self.event_of(&lease.scope, EventKind::LeaseEnding, cause);
            self.reminded.insert(lease.scope);
        }
    }

    /// When a lease ends or its owner is to be reminded next, CLOCK_BOOTTIME ms.
    pub(in crate::core) fn next_lease(&self) -> Option<u64> {
        let due = |l: &Lease| if self.reminded.contains(&l.scope) { l.ends.boot_ms } else { l.reminder_ms() };
        self.leases.values().map(due).min()
    }

    fn end_lease(&mut self, scope: &Scope, end: End) {
        let Some(lease) = self.leases.remove(scope) else { return };
        self.reminded.remove(scope);
        self.outputs.push_back(Output::Store(Store::DropLease(scope.clone())));
        let what = lease.in_words();
        if end == End::Expired && lease.owner.name == super::agent_of(&scope.backend) {
            self.forget_wish(scope);
        }
        let (kind, by, cause) = match end {
            End::Expired => (EventKind::LeaseEnded, None, format!("{what} is over")),
            End::Restored(by) => {
                let cause = format!("by {by}, before the end of {what}");
                (EventKind::Restored, Some(by), cause)
            }
            End::Recalled(why) => (EventKind::Recalled, None, format!("{why}: {what} was ended before its time")),
        };
        self.event_by(scope, kind, by.as_deref(), cause);
        for member in self.members_of(scope) {
            self.await_return(&member);
        }
        self.mark_dirty(scope);
    }

    /// A member comes back once a probe that began after the lease's end has succeeded.
    fn await_return(&mut self, name: &MemberName) {
        if self.is_leased(name) {
            return;
        }
        let now = self.now;
        let Some(watched) = self.members.get_mut(name) else { return };
        let Some(probe) = &watched.probe else { return };
        (watched.returning, watched.return_failed) = (watched.returning.or(Some(now)), false);
        self.schedule.watch(name, probe.interval, probe.timeout, true, now.boot_ms);
    }

    fn members_of(&self, scope: &Scope) -> Vec<MemberName> {
        self.members.keys().filter(|name| scope.covers(name)).cloned().collect()
    }

    /// Its members are to be weighed, and their next hops planned, again.
    pub(in crate::core) fn mark_dirty(&mut self, scope: &Scope) {
        self.replan = true;
        let services: Vec<_> = self.members_of(scope).into_iter().map(|name| name.service).collect();
        self.dirty.extend(services);
    }
}
