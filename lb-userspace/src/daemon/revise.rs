//! Changing the configuration file and the revision together, so that a crash at any point leaves both old or both new.
//!
//! The order: (1) the intent is journalled, (2) the file is replaced atomically, (3) the caller applies the new
//! configuration, (4) the revision is committed, which ends the intent. After a crash [`Journal::recover`] looks at the
//! file: its digest says on which side of step 2 the crash was. It never changes the file; what runs next is what the
//! file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::system;
use super::file::Replaced;
use super::{clock, crash, file, who};
use crate::config::{self, model::BackendName};
use crate::control::daemon::{Actor, ControlError, ErrorCode};
use crate::core::api::{Author, Store, Time};
use crate::core::guard::peak::Peak;
use crate::core::lease::{Lease, Mark};
use crate::core::removed::Removed;
use crate::core::risk::Risk;
use crate::io::net::Placement;
use crate::io::state::{Intent, NewRevision, Revision, State, StateError};

/// What a server carried so long ago is no evidence any more, ms.
const FORGET_PEAKS_MS: i64 = 15 * 24 * 3600 * 1000;

/// A new text for the file.
#[derive(Clone, Debug)]
pub struct Change {
    /// The text.
    pub text: String,
    /// Who asked; `None` for the daemon itself.
    pub by: Option<Actor>,
    /// What, in words.
    pub cause: String,
    /// Servers that it removes for good, each with the reason.
    pub decommissioned: BTreeMap<BackendName, String>,
}

impl Change {
    /// A change that removes nobody for good.
    pub fn new(text: String, by: Option<Actor>, cause: &str) -> Self {
        Self { text, by, cause: cause.to_owned(), decommissioned: BTreeMap::new() }
    }

    /// Who made it, for the roll call.
    pub fn author(&self) -> Author {
        let (name, how) = (who::name(self.by.as_ref()), self.cause.clone());
        Author { name, how, decommissioned: self.decommissioned.clone() }
    }
}

/// What [`Journal::recover`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// No edit was under way.
    Clean,
    /// The file was already new: the edit is complete. Its cause.
    Finished(String),
    /// The file was still old: the edit never happened. Its cause.
    Reverted(String),
    /// The file is neither: someone changed it since. The edit's cause.
    Overtaken(String),
}

/// The configuration file and its history in `state.db`.
pub struct Journal {
    state: State,
    path: PathBuf,
    boot_id: String,
}

impl Journal {
    /// Of the file at `path`.
    pub fn new(state: State, path: PathBuf, boot_id: String) -> Self {
        Self { state, path, boot_id }
    }

    /// This boot.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends an edit that a crash interrupted.
    pub fn recover(&mut self, now: Time) -> Result<Recovery, ControlError> {
        // Unsuccessful only on a file system that will refuse the next edit anyway, with its reason.
        let _ = file::discard_temp(&self.path);
        let Some(intent) = self.state.intent().map_err(unusable)? else { return Ok(Recovery::Clean) };
        let digest = file::digest(&intent.path);
        if digest.as_deref() == Some(intent.new_sha256.as_str()) {
            self.state
                .commit(
                    &NewRevision {
                        path: intent.path,
                        sha256: intent.new_sha256,
                        text: intent.text,
                        applied_wall_ms: now.wall_ms,
                        by: intent.by,
                        cause: intent.cause.clone(),
                    },
                    // Whom it removed is still to be recorded.
                    false,
                )
                .map_err(unusable)?;
            return Ok(Recovery::Finished(intent.cause));
        }
        self.state.drop_intent().map_err(unusable)?;
        let reverted = digest.as_deref() == Some(intent.old_sha256.as_str());
        Ok(if reverted { Recovery::Reverted(intent.cause) } else { Recovery::Overtaken(intent.cause) })
    }

    /// Steps 1 and 2: journals the change and replaces the file. On an error nothing was changed. Returns what people
    /// should know of a file that was replaced, but not for certain on the disk.
    pub fn write(&mut self, old_sha256: &str, change: &Change) -> Result<Option<String>, ControlError> {
        crash::point("before_intent");
        self.state
            .begin(&Intent {
                path: self.path.clone(),
                old_sha256: old_sha256.to_owned(),
                new_sha256: config::sha256(&change.text),
                text: change.text.clone(),
                by: change.by.clone(),
                cause: change.cause.clone(),
            })
            .map_err(unusable)?;
        crash::point("after_intent");
        // Checked again as late as can be: what someone saved meanwhile must not be lost.
        if file::digest(&self.path).as_deref() != Some(old_sha256) {
            let _ = self.state.drop_intent();
            return Err(ControlError::new(
                ErrorCode::Conflict,
                format!("{} was changed or removed by someone else at the same moment", self.path.display()),
            )
            .with_hint("look at it, apply it with `rollcall reload`, then repeat the edit"));
        }
        let replaced = file::replace(&self.path, &change.text).map_err(|e| {
            // If the journal fails now too, recovery finds the old file and drops the intent.
            let _ = self.state.drop_intent();
            system(format!("cannot replace {}: {e}", self.path.display()))
                .with_hint("look at the file system's space, and the directory's mode and attributes")
        })?;
        crash::point("after_rename");
        Ok(self.doubt(&replaced))
    }

    fn doubt(&self, replaced: &Replaced) -> Option<String> {
        let Replaced::UntilPowerFails(e) = replaced else { return None };
        let doubt = format!(
            "{} is replaced, but its directory cannot be written to the disk ({e}): after a power failure it may be the old \
             one again; look at the disk",
            self.path.display()
        );
        tracing::warn!("{doubt}");
        Some(doubt)
    }

    /// Takes [`Journal::write`] back, where step 3 failed: the file is again what it was.
    pub fn revert(&mut self, old_text: &str) -> Result<(), ControlError> {
        let replaced = file::replace(&self.path, old_text)
            .map_err(|e| system(format!("cannot put the old text back into {}: {e}", self.path.display())))?;
        self.doubt(&replaced);
        self.state.drop_intent().map_err(unusable)
    }

    /// Step 4, and the whole of a reload's record: the text runs. Returns the revision's number.
    pub fn commit(&mut self, change: &Change, now: Time) -> Result<i64, ControlError> {
        crash::point("after_apply");
        let new = NewRevision {
            path: self.path.clone(),
            sha256: config::sha256(&change.text),
            text: change.text.clone(),
            applied_wall_ms: now.wall_ms,
            by: change.by.clone(),
            cause: change.cause.clone(),
        };
        let id = self.state.commit(&new, true).map_err(unusable)?;
        crash::point("after_revision");
        Ok(id)
    }

    /// The newest revision of the file.
    pub fn last_revision(&self) -> Result<Option<Revision>, ControlError> {
        self.state.last_revision(&self.path).map_err(unusable)
    }

    /// Leases, and what of them cannot be read.
    pub fn leases(&self) -> Result<(Vec<Lease>, Vec<String>), ControlError> {
        self.state.leases().map_err(unusable)
    }

    /// Removed servers, and what of them cannot be read.
    pub fn removed(&self) -> Result<(Vec<Removed>, Vec<String>), ControlError> {
        self.state.removed().map_err(unusable)
    }

    /// The text whose removals are recorded, and the file it is from: what the next configuration is compared with.
    pub fn accounted(&self) -> Result<Option<(PathBuf, String)>, ControlError> {
        self.state.accounted().map_err(unusable)
    }

    /// From now on removals are counted from this text.
    pub fn set_accounted(&mut self, text: &str) -> Result<(), ControlError> {
        self.state.set_accounted(&self.path, text).map_err(unusable)
    }

    /// Keeps a lease.
    pub fn put_lease(&mut self, lease: &Lease) -> Result<(), ControlError> {
        crash::point("before_lease");
        self.state.put_lease(lease).map_err(unusable)?;
        crash::point("after_lease");
        Ok(())
    }

    /// Accepted risks, and what of them cannot be read.
    pub fn risks(&self) -> Result<(Vec<Risk>, Vec<String>), ControlError> {
        self.state.risks().map_err(unusable)
    }

    /// Keeps an accepted risk.
    pub fn put_risk(&mut self, risk: &Risk) -> Result<(), ControlError> {
        self.state.put_risk(risk).map_err(unusable)
    }

    /// What servers carried.
    pub fn peaks(&self) -> Result<Vec<(BackendName, Peak)>, ControlError> {
        self.state.peaks().map_err(unusable)
    }

    /// Keeps what the core wants kept.
    pub fn store(&mut self, store: &Store) -> Result<(), ControlError> {
        crash::point("before_store");
        let done = match store {
            Store::PutLease(lease) => self.state.put_lease(lease),
            Store::DropLease(scope) => self.state.drop_lease(scope),
            Store::PutRemoved(removed) => self.state.put_removed(removed),
            Store::DropRemoved(scope) => self.state.drop_removed(scope),
            Store::DropRisk(service) => self.state.drop_risk(service),
            Store::PutPeaks(peaks) => {
                let oldest = clock::now().wall_ms.saturating_sub(FORGET_PEAKS_MS);
                self.state.put_peaks(peaks, oldest)
            }
        };
        done.map_err(unusable)
    }

    /// The last moment that was recorded.
    pub fn mark(&self) -> Result<Option<Mark>, ControlError> {
        self.state.mark().map_err(unusable)
    }

    /// Records that this moment was reached.
    pub fn set_mark(&mut self, now: Time) -> Result<(), ControlError> {
        self.state.set_mark(&Mark { time: now, boot_id: self.boot_id.clone() }).map_err(unusable)
    }

    /// The addresses that the daemon added.
    pub fn addresses(&self) -> Result<Vec<Placement>, ControlError> {
        self.state.addresses().map_err(unusable)
    }

    /// Records the addresses that the daemon is about to own.
    pub fn set_addresses(&mut self, addresses: &[Placement]) -> Result<(), ControlError> {
        self.state.set_addresses(addresses).map_err(unusable)
    }
}

/// `state.db` failed.
pub fn unusable(e: StateError) -> ControlError {
    let mend = match &e {
        StateError::Newer { .. } => "run the newer version, or move state.db away to start without a history",
        damage if damage.is_damage() => "look at the disk's health, and move state.db away to go on without a history",
        _ => "look at the disk's space and health, and at the file's mode",
    };
    system(format!("the state database cannot be used: {e}")).with_hint(mend)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use rstest::rstest;

    use super::*;

    const OLD: &str = "old = 1\n";
    const NEW: &str = "new = 1\n";
    const DIR: &str = "ROLLCALL_TEST_DIR";

    fn journal(dir: &Path) -> Journal {
        Journal::new(State::open(dir).unwrap(), dir.join("rollcall.toml"), "this boot".into())
    }

    fn change(text: &str) -> Change {
        Change::new(text.into(), Some(Actor { uid: 7, loginuid: None }), "backend set")
    }

    fn now() -> Time {
        Time { boot_ms: 1, wall_ms: 2 }
    }

    /// The process that dies: does one whole edit in the directory that the parent names.
    #[test]
    #[ignore = "run as a child by edit_killed_at_any_point_is_old_or_new_as_a_whole"]
    fn child_edits_once() {
        let dir = PathBuf::from(std::env::var_os(DIR).expect("set by the parent"));
        let mut journal = journal(&dir);
        journal.write(&config::sha256(OLD), &change(NEW)).unwrap();
        journal.commit(&change(NEW), now()).unwrap();
    }

    #[test]
    fn edit_killed_at_any_point_is_old_or_new_as_a_whole() {
        for point in crash::POINTS {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("rollcall.toml"), OLD).unwrap();
            journal(dir.path()).commit(&change(OLD), now()).unwrap();

            let died = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "daemon::revise::tests::child_edits_once", "--include-ignored"])
                .env(DIR, dir.path())
                .env("ROLLCALL_CRASH_AT", point)
                .output()
                .unwrap();
            assert_eq!(died.status.signal(), Some(libc::SIGKILL), "the child passed {point}: {died:?}");

            let mut journal = journal(dir.path());
            let recovery = journal.recover(now()).unwrap();
            let text = std::fs::read_to_string(journal.path()).unwrap();
            let revision = journal.last_revision().unwrap().unwrap().recorded;
            assert_eq!(revision.text, text, "file and revision differ after {point}");
            let expected = match point {
                "before_intent" => (OLD, Recovery::Clean),
                "after_intent" | "after_temp" => (OLD, Recovery::Reverted("backend set".into())),
                "after_rename" | "after_apply" => (NEW, Recovery::Finished("backend set".into())),
                _ => (NEW, Recovery::Clean),
            };
            assert_eq!((text.as_str(), &recovery), (expected.0, &expected.1), "after {point}");
            // Whom an interrupted edit removed is still to be found by the next start.
            let accounted = journal.accounted().unwrap().unwrap().1;
            assert_eq!(accounted, if point == "after_revision" { NEW } else { OLD }, "after {point}");
            assert_eq!(journal.recover(now()).unwrap(), Recovery::Clean, "after {point}, second recovery");
            let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
            let left: Vec<_> = left.filter(|n| n != "rollcall.toml" && n != "state.db").collect();
            assert!(left.is_empty(), "left after {point}: {left:?}");
        }
    }

    #[rstest]
    #[case(OLD, Recovery::Reverted("backend set".into()), OLD)]
    #[case(NEW, Recovery::Finished("backend set".into()), NEW)]
    #[case("someone = 'else'\n", Recovery::Overtaken("backend set".into()), OLD)]
    fn recovery_decides_by_the_file(#[case] found: &str, #[case] recovery: Recovery, #[case] revision: &str) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(dir.path());
        std::fs::write(journal.path(), OLD).unwrap();
        journal.commit(&change(OLD), now()).unwrap();
        journal.write(&config::sha256(OLD), &change(NEW)).unwrap();
        std::fs::write(journal.path(), found).unwrap();

        assert_eq!(journal.recover(now()).unwrap(), recovery);
        assert_eq!(std::fs::read_to_string(journal.path()).unwrap(), found, "recovery leaves the file alone");
        assert_eq!(journal.last_revision().unwrap().unwrap().recorded.text, revision);
    }

    #[test]
    fn write_over_what_someone_just_saved_is_refused_and_leaves_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(dir.path());
        std::fs::write(journal.path(), "someone = 'else'\n").unwrap();
        let refused = journal.write(&config::sha256(OLD), &change(NEW)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
        assert_eq!(std::fs::read_to_string(journal.path()).unwrap(), "someone = 'else'\n");
        assert_eq!(journal.recover(now()).unwrap(), Recovery::Clean);
    }

    #[test]
    fn write_to_a_missing_file_fails_and_leaves_no_intent() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = journal(dir.path());
        let refused = journal.write(&config::sha256(OLD), &change(NEW)).unwrap_err();
        assert!(refused.message.contains("rollcall.toml"), "{}", refused.message);
        assert_eq!(journal.recover(now()).unwrap(), Recovery::Clean);
    }
}
