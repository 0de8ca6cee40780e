//! Recording in `state.db` what runs: the revision, and the addresses that are the daemon's. What could not be recorded
//! (a full disk) is no reason to undo what runs: it is a warning, and tried again.

use std::collections::{BTreeSet, VecDeque};

use tokio::task::block_in_place;

use super::actor::Actor;
use super::picture::Topic;
use super::revise::Change;
use super::{clock, crash};
use crate::control::daemon::ControlError;
use crate::core::api::{DAEMON, Store};
use crate::io::net::Placement;

/// What is still to be recorded.
#[derive(Debug, Default)]
pub struct Unrecorded {
    /// The revision that runs.
    revision: Option<Change>,
    /// The list of the daemon's addresses.
    addresses: bool,
    /// Ends of leases, and removals, in order.
    duties: VecDeque<Store>,
    /// That all removals up to the configuration that runs are recorded.
    account: bool,
    /// That the daemon is there.
    mark: bool,
}

impl Actor {
    /// Records the first revision of this run, if the history does not end with it. `how` it came, in words.
    pub(super) fn record_start(&mut self, how: &str) {
        if self.running.revision.is_none() {
            self.record(self.running.change(how));
            self.applied(DAEMON, how, &[]);
        } else {
            self.account();
        }
    }

    /// Keeps what the core wants kept, after what could not be kept before.
    pub(super) fn store(&mut self, store: Store) {
        if let Store::PutPeaks(_) = &store {
            // Evidence, which comes again: nothing waits for it.
            let stored = block_in_place(|| if fails() { Err(full()) } else { self.journal.store(&store) });
            return stored.unwrap_or_else(|e| tracing::warn!("what servers carried could not be recorded: {e}"));
        }
        self.unrecorded.duties.push_back(store);
        self.store_rest();
    }

    /// Whether ends of leases or removals wait to be kept.
    pub(super) fn has_unrecorded_duties(&self) -> bool {
        !self.unrecorded.duties.is_empty()
    }

    /// Tries to keep what could not be kept before.
    pub(super) fn store_rest(&mut self) {
        while let Some(store) = self.unrecorded.duties.front() {
            let stored = block_in_place(|| if fails() { Err(full()) } else { self.journal.store(store) });
            match stored {
                Ok(()) => drop(self.unrecorded.duties.pop_front()),
                Err(e) => return self.unrecordable("an end of a lease, or a removal (a restart would undo it)", &e),
            }
        }
        self.all_recorded();
    }

    /// Notes that the daemon is there now: after a reboot, leases are counted from the last such moment.
    pub(super) fn mark(&mut self) {
        let noted = block_in_place(|| if fails() { Err(full()) } else { self.journal.set_mark(clock::now()) });
        self.unrecorded.mark = noted.is_err();
        match noted {
            Ok(()) => self.all_recorded(),
            Err(e) => self.unrecordable("when the daemon was last there", &e),
        }
    }

    /// Notes that whoever left up to the configuration that runs is recorded.
    fn account(&mut self) {
        let text = self.running.text.clone();
        let noted = block_in_place(|| if fails() { Err(full()) } else { self.journal.set_accounted(&text) });
        self.unrecorded.account = noted.is_err();
        match noted {
            Ok(()) => self.all_recorded(),
            Err(e) => self.unrecordable("what was compared with the configuration", &e),
        }
    }

    /// Records the change that runs now.
    pub(super) fn record(&mut self, change: Change) {
        // First of all who was removed: a revision without that would hide it from the next start.
        if self.has_unrecorded_duties() {
            self.store_rest();
        }
        if self.has_unrecorded_duties() {
            self.unrecorded.revision = Some(change);
            return;
        }
        let recorded =
            block_in_place(|| if fails() { Err(full()) } else { self.journal.commit(&change, clock::now()) });
        match recorded {
            Ok(id) => {
                self.running.revision = Some(id);
                self.unrecorded.revision = None;
                self.all_recorded();
            }
            Err(e) => {
                self.unrecorded.revision = Some(change);
                self.unrecordable("the revision that runs", &e);
            }
        }
    }

    /// Notes which addresses are the daemon's to remove.
    pub(super) fn remember(&mut self, own: BTreeSet<Placement>) {
        if own == self.net.own && !self.unrecorded.addresses {
            return;
        }
        let list: Vec<Placement> = own.iter().cloned().collect();
        self.net.own = own;
        let recorded = block_in_place(|| if fails() { Err(full()) } else { self.journal.set_addresses(&list) });
        self.unrecorded.addresses = recorded.is_err();
        match recorded {
            Ok(()) => self.all_recorded(),
            Err(e) => self.unrecordable("which addresses the daemon added", &e),
        }
    }

    /// Tries again what could not be recorded.
    pub(super) fn record_again(&mut self) {
        if self.has_unrecorded_duties() {
            self.store_rest();
        }
        if let Some(change) = self.unrecorded.revision.take() {
            self.record(change);
        }
        if self.unrecorded.addresses {
            self.remember(self.net.own.clone());
        }
        if self.unrecorded.mark {
            self.mark();
        }
        if self.unrecorded.account {
            self.account();
        }
    }

    fn all_recorded(&mut self) {
        let Unrecorded { revision, addresses, duties, account, mark } = &self.unrecorded;
        if revision.is_none() && !addresses && duties.is_empty() && !account && !mark {
            self.picture.clear(Topic::Record);
        }
    }

    fn unrecordable(&mut self, what: &str, e: &ControlError) {
        let hint = e.hint.as_deref().unwrap_or("look at the file system");
        let text = format!("{what} could not be recorded, which is tried again: {}; {hint}", e.message);
        self.picture.warn(Topic::Record, text);
    }
}

/// Whether a test asks for a full disk.
pub(super) fn fails() -> bool {
    crash::fails("record")
}

/// What is said of it.
pub(super) fn full() -> ControlError {
    super::error::system("told to fail")
}
