//! What is on one service follows it to its new name: leases, records of who was removed, last resort, limits and N-1. A lease of a service that is
//! gone covers nobody, and that is told.

use std::collections::BTreeMap;

use super::Core;
use super::api::{Author, EventKind, Output, Scope, Store};
use crate::config::model::{Config, ServiceName};

impl Core {
    /// Lets leases and records of removals go by the new names of their services.
    pub(super) fn follow_renames(&mut self, old: &Config, new: &Config, by: &Author) {
        for (from, to) in renamed(old, new) {
            // Nothing of this is stored: it goes on as it is.
            self.resorts.remove(&from).map(|state| self.resorts.insert(to.clone(), state));
            self.crowded.remove(&from).map(|since| self.crowded.insert(to.clone(), since));
            self.capacity.remove(&from).map(|state| self.capacity.insert(to.clone(), state));
            let of = |scope: &&Scope| scope.service.as_ref() == Some(&from);
            let moved = |scope: &Scope| Scope { service: Some(to.clone()), ..scope.clone() };
            let cause =
                |what: &str| format!("{what} goes on: its service {from} is now {to} (by {}, {})", by.name, by.how);
            for scope in self.leases.keys().filter(of).cloned().collect::<Vec<_>>() {
                let Some(mut lease) = self.leases.remove(&scope) else { continue };
                lease.scope = moved(&scope);
                let text = cause(&lease.in_words());
                if self.reminded.remove(&scope) {
                    self.reminded.insert(lease.scope.clone());
                }
                // The new name first: a crash between leaves both, and the next start moves it again.
                self.outputs.push_back(Output::Store(Store::PutLease(lease.clone())));
                self.outputs.push_back(Output::Store(Store::DropLease(scope)));
                self.event_of(&lease.scope, EventKind::Renamed, text);
                if let Some(other) = self.leases.insert(lease.scope.clone(), lease.clone()) {
                    let text =
                        format!("{}, of an earlier service {to}, makes way for {}", other.in_words(), lease.in_words());
                    self.event_of(&lease.scope, EventKind::LeaseEnded, text);
                }
            }
            for scope in self.removed.keys().filter(of).cloned().collect::<Vec<_>>() {
                let Some(mut record) = self.removed.remove(&scope) else { continue };
                record.scope = moved(&scope);
                let text = cause(&format!("its removal by {} ({})", record.by, record.how));
                self.event_of(&record.scope, EventKind::Renamed, text);
                if self.reviewed.remove(&scope) {
                    self.reviewed.insert(record.scope.clone());
                }
                self.outputs.push_back(Output::Store(Store::PutRemoved(record.clone())));
                self.outputs.push_back(Output::Store(Store::DropRemoved(scope)));
                self.removed.insert(record.scope.clone(), record);
            }
        }
    }

    /// Tells of leases whose service is no longer there. They stay: the service may come back, as it was.
    pub(super) fn tell_idle_leases(&mut self, old: Option<&Config>, new: &Config) {
        let has = |config: &Config, name: &ServiceName| config.services.iter().any(|s| s.name == *name);
        let idle = |scope: &&Scope| {
            let gone = |name| !has(new, name) && old.is_none_or(|old| has(old, name));
            scope.service.as_ref().is_some_and(gone)
        };
        for scope in self.leases.keys().filter(idle).cloned().collect::<Vec<_>>() {
            let cause = format!(
                "{} covers nobody: there is no such service any more. It ends at its time, or by `rollcall backend restore`",
                self.leases[&scope].in_words()
            );
            self.event_of(&scope, EventKind::LeaseIdle, cause);
        }
    }
}

/// Services that have another name: what they listen on is the same, the old name is gone, and the new one is new.
fn renamed(old: &Config, new: &Config) -> BTreeMap<ServiceName, ServiceName> {
    let has = |config: &Config, name: &ServiceName| config.services.iter().any(|s| s.name == *name);
    let gone = old.services.iter().filter(|s| !has(new, &s.name));
    gone.filter_map(|before| {
        let now = new.services.iter().find(|s| s.listen == before.listen && !has(old, &s.name))?;
        Some((before.name.clone(), now.name.clone()))
    })
    .collect()
}
