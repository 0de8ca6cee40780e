//! Removed is not forgotten: who left the configuration, by whose hand, until it returns or is let go.
//!
//! A membership that vanishes while its service goes on is the silent way out of rotation; so is a server that no service
//! uses any more. Both stay in the roll call, and escalate, until the server is back, `backend forget` was said, or it was
//! removed for good with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Core;
use super::api::{Author, EventKind, Output, Scope, Store, Time};
use crate::config::model::{BackendName, Config, Service};

/// A server that left the configuration, or one service of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What left: a server from a service, or, without a service, a server whose services are gone, too.
    pub scope: Scope,
    /// When. Of its clocks only the wall clock is comparable after a reboot.
    pub since: Time,
    /// By whom.
    pub by: String,
    /// By what: the command, a reload, a start with another file.
    pub how: String,
    /// Who answers for it: the service's owner, else the server's.
    pub owner: Option<String>,
    /// When it escalates.
    pub review_at: Time,
}

impl Core {
    /// Takes what an earlier daemon had recorded.
    pub(super) fn take_removed(&mut self, removed: Vec<Removed>) {
        self.removed = removed.into_iter().map(|r| (r.scope.clone(), r)).collect();
    }

    /// Records who left between two configurations, and strikes out who is back.
    pub(super) fn account_for(&mut self, old: Option<&Arc<Config>>, new: &Config, by: &Author) {
        if let Some(old) = old {
            self.follow_renames(old, new, by);
        }
        self.tell_idle_leases(old.map(|old| &**old), new);
        for scope in self.removed.keys().filter(|scope| is_used(new, scope)).cloned().collect::<Vec<_>>() {
            self.strike_out(&scope, EventKind::Returned, &by.name, format!("back in the configuration ({})", by.how));
        }
        let Some(old) = old else { return };
        for (scope, service) in missing(old, new) {
            if self.removed.contains_key(&scope) {
                // A crash came between this record and the revision: it says by whom, which is not known any more.
                continue;
            }
            if let Some(why) = by.decommissioned.get(&scope.backend) {
                let cause = format!("by {}: {why}", by.name);
                self.event_by(&scope, EventKind::Decommissioned, Some(&by.name), cause);
                continue;
            }
            let backend = old.backends.get(&scope.backend).and_then(|b| b.owner.clone());
            let (name, how) = (by.name.clone(), by.how.clone());
            let cause = format!("by {name} ({how}); it stays in the roll call until it returns or is forgotten");
            self.event_by(&scope, EventKind::Removed, Some(&name), cause);
            let record = Removed {
                scope: scope.clone(),
                since: self.now,
                by: name,
                how,
                owner: service.owner.clone().or(backend),
                review_at: self.now + service.expected_out,
            };
            self.keep_removal(record);
        }
        // Gone for good is gone, also from what was removed before.
        for (backend, why) in &by.decommissioned {
            for scope in self.removed_of(&Scope { backend: backend.clone(), service: None }) {
                self.strike_out(&scope, EventKind::Decommissioned, &by.name, format!("by {}: {why}", by.name));
            }
        }
    }

    /// Takes back what [`Core::account_for`] recorded of a change that failed: who was missed before it is missed again, and
    /// nobody else.
    pub(super) fn take_back(&mut self, changed: &Config, now: &Config, removed: Vec<Removed>, by: &Author) {
        self.follow_renames(changed, now, by);
        let before: BTreeMap<Scope, Removed> = removed.into_iter().map(|r| (r.scope.clone(), r)).collect();
        let why = format!("the change failed and was taken back ({})", by.how);
        for scope in self.removed.keys().filter(|scope| !before.contains_key(scope)).cloned().collect::<Vec<_>>() {
            self.strike_out(&scope, EventKind::Returned, &by.name, why.clone());
        }
        for (scope, record) in before {
            if self.removed.get(&scope) == Some(&record) {
                continue;
            }
            self.event_by(&scope, EventKind::Removed, Some(&by.name), format!("{why}: it is missed as before"));
            self.keep_removal(record);
        }
        for backend in by.decommissioned.keys().filter(|name| now.backends.contains_key(*name)) {
            let scope = Scope { backend: backend.clone(), service: None };
            self.event_by(&scope, EventKind::Returned, Some(&by.name), why.clone());
        }
    }

    /// What is recorded within `scope`: of a server everywhere, or in one service.
    pub fn removed_of(&self, scope: &Scope) -> Vec<Scope> {
        let within = |r: &&Scope| r.backend == scope.backend && (scope.service.is_none() || r.service == scope.service);
        self.removed.keys().filter(within).cloned().collect()
    }

    /// Lets go of what is recorded within `scope`.
    pub(super) fn forget(&mut self, scope: &Scope, by: &str) {
        for scope in self.removed_of(scope) {
            self.strike_out(&scope, EventKind::Forgotten, by, format!("by {by}"));
        }
    }

    fn keep_removal(&mut self, record: Removed) {
        self.outputs.push_back(Output::Store(Store::PutRemoved(record.clone())));
        self.removed.insert(record.scope.clone(), record);
    }

    fn strike_out(&mut self, scope: &Scope, kind: EventKind, by: &str, cause: String) {
        self.removed.remove(scope);
        self.outputs.push_back(Output::Store(Store::DropRemoved(scope.clone())));
        self.event_by(scope, kind, Some(by), cause);
    }
}

/// Whether a server serves where it was removed from.
fn is_used(config: &Config, scope: &Scope) -> bool {
    (config.services.iter().filter(|s| scope.service.as_ref().is_none_or(|name| s.name == *name)))
        .any(|s| s.members.iter().any(|m| m.backend == scope.backend))
}

/// Who is in `old` and not in `new`, with the service as it was. A service goes on if its name or what it listens on does.
fn missing<'a>(old: &'a Config, new: &Config) -> Vec<(Scope, &'a Service)> {
    let mut missing = BTreeMap::new();
    for service in &old.services {
        let goes_on = |s: &&Service| s.name == service.name || s.listen == service.listen;
        let (same, after): (Vec<_>, Vec<_>) = (
            new.services.iter().filter(|s| s.name == service.name).collect(),
            new.services.iter().filter(goes_on).collect(),
        );
        for member in &service.members {
            let backend = &member.backend;
            let serves = |s: &&Service| s.members.iter().any(|m| m.backend == *backend);
            if after.iter().any(serves) {
                continue;
            }
            let name = same.first().or(after.first()).map(|s| s.name.clone());
            if name.is_some() || !new.services.iter().any(|s| serves(&s)) {
                missing.entry(Scope { backend: backend.clone(), service: name }).or_insert(service);
            }
        }
    }
    // A server that is out of a service that goes on need not be named as out of all of them, too.
    let named: Vec<BackendName> = missing.keys().filter(|s| s.service.is_some()).map(|s| s.backend.clone()).collect();
    missing.retain(|scope, _| scope.service.is_some() || !named.contains(&scope.backend));
    missing.into_iter().collect()
}

#[cfg(test)]
mod tests;
