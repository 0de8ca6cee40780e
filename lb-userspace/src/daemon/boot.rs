//! From the command line to a configuration that may run: the file, or the last good revision if the file is bad, and
//! the state that goes with it. Touches neither kernel nor network.

use std::path::Path;
use std::sync::Arc;

use super::clock;
use super::lock::InstanceLock;
use super::revise::{Change, Journal, Recovery, unusable};
use crate::config::{self, PathKey, model::Config};
use crate::control::daemon::ControlError;
use crate::core::api::Input;
use crate::core::lease::Carried;
use crate::io::state::State;

/// A configuration that runs, or is about to.
#[derive(Clone, Debug)]
pub struct Running {
    /// What the text says.
    pub config: Arc<Config>,
    /// The text.
    pub text: Arc<str>,
    /// Its digest.
    pub sha256: String,
    /// Its number in the history; `None` until it has been recorded.
    pub revision: Option<i64>,
}

impl Running {
    /// As a change to be recorded.
    pub fn change(&self, cause: &str) -> Change {
        Change::new(self.text.to_string(), None, cause)
    }
}

/// Ready to run.
pub struct Boot {
    /// What to run.
    pub running: Running,
    /// The file and its history.
    pub journal: Journal,
    /// Keeps a second daemon out.
    pub lock: InstanceLock,
    /// Why the file itself does not run, if it does not.
    pub bad_file: Option<String>,
    /// What was lost with a damaged `state.db`, if it was.
    pub lost_state: Option<String>,
    /// What the daemon before left.
    pub resume: Resume,
}

/// What the daemon before left, for the core.
pub struct Resume {
    /// As the core takes it.
    pub input: Input,
    /// What people should know of it.
    pub warnings: Vec<String>,
}

/// Reads the file at `path`, takes the lock, ends an interrupted edit, and decides what to run.
pub fn boot(path: &Path) -> Result<Boot, ControlError> {
    let loaded = config::load(path);
    let state_dir = match &loaded {
        Ok(loaded) => loaded.config.control.state_dir.clone(),
        Err(_) => config::path_in(&config::text_of(path).unwrap_or_default(), PathKey::StateDir),
    };
    // A host that has never run a good configuration gets no state from a bad one.
    if let (Err(e), false) = (&loaded, state_dir.join("state.db").exists()) {
        return Err(bad(e));
    }
    let lock = InstanceLock::take(&state_dir)?;
    let (state, lost_state) = State::open_or_begin(&state_dir, clock::now().wall_ms / 1000).map_err(unusable)?;
    let mut journal = Journal::new(state, path.to_owned(), clock::boot_id()?);
    // Before an interrupted edit is ended: what it removed is not recorded yet.
    let resume = resume(&mut journal)?;
    match journal.recover(clock::now())? {
        Recovery::Clean => {}
        Recovery::Finished(cause) => tracing::warn!("finished an interrupted edit: {cause}"),
        Recovery::Reverted(cause) => tracing::warn!("an edit was interrupted before it took effect: {cause}"),
        Recovery::Overtaken(cause) => tracing::warn!("the file changed after an interrupted edit ({cause}); it stands"),
    }
    let last = journal.last_revision()?;
    let (running, bad_file) = match loaded {
        Ok(loaded) => {
            let same = last.filter(|r| r.recorded.sha256 == loaded.sha256);
            let (config, text) = (Arc::new(loaded.config), loaded.text.into());
            (Running { config, text, sha256: loaded.sha256, revision: same.map(|r| r.id) }, None)
        }
        Err(e) => {
            let Some(last) = last else { return Err(bad(&e)) };
            // What was good for an earlier version may not be for this one.
            let config = config::parse(&last.recorded.text, path).map_err(|_| bad(&e))?;
            let running = Running {
                config: Arc::new(config),
                text: last.recorded.text.into(),
                sha256: last.recorded.sha256,
                revision: Some(last.id),
            };
            (running, Some(format!("the file is bad, revision {} runs instead: {e}", last.id)))
        }
    };
    Ok(Boot { running, journal, lock, bad_file, lost_state, resume })
}

/// Leases carried over into this boot, removed servers, and the configuration that they were counted from.
fn resume(journal: &mut Journal) -> Result<Resume, ControlError> {
    let now = clock::now();
    let ((mut leases, bad_leases), (removed, bad_removed)) = (journal.leases()?, journal.removed()?);
    let (mark, boot_id) = (journal.mark()?, journal.boot_id().to_owned());
    let unreadable = bad_leases.into_iter().chain(bad_removed);
    let mut warnings: Vec<String> =
        unreadable.map(|what| format!("cannot be read, so it is not in force: {what}")).collect();
    for lease in &mut leases {
        if lease.carry_over(mark.as_ref(), &boot_id, now) == Carried::FromBoot {
            warnings.push(format!(
                "the clock went back over the restart of this host: the {} of {} by {} counts what was left of it from \
                 now on",
                lease.kind.name(),
                lease.scope,
                lease.owner.name
            ));
        }
        journal.put_lease(lease)?;
    }
    let text = match journal.accounted()? {
        Some(text) => Some(text),
        // Of a version that kept no account.
        None => journal.last_revision()?.map(|revision| revision.recorded.text),
    };
    // What an earlier version took for good may not be for this one; then nothing can be compared.
    let before = text.and_then(|text| config::parse(&text, journal.path()).ok()).map(Arc::new);
    Ok(Resume { input: Input::Resume { leases, removed, before, boot_id }, warnings })
}

fn bad(e: &config::ConfigError) -> ControlError {
    ControlError::new(e.code(), e.to_string())
        .with_hint("correct the file; `rollcall config check` shows what is wrong without starting")
}
