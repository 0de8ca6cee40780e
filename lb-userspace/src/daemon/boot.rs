//! From the command line to a configuration that may run: the file, or the last good revision if the file is bad, and
//! the state that goes with it. Touches neither kernel nor network.

use std::path::{Path, PathBuf};
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
    /// Where state and journal are.
    pub state_dir: PathBuf,
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
    /// The file that ran last, if it is another than the one that is to run.
    pub other_file: Option<PathBuf>,
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
    Ok(Boot { running, state_dir, journal, lock, bad_file, lost_state, resume })
}

/// Leases carried over into this boot, removed servers, and the configuration that they were counted from.
fn resume(journal: &mut Journal) -> Result<Resume, ControlError> {
    let now = clock::now();
    let ((mut leases, bad_leases), (removed, bad_removed)) = (journal.leases()?, journal.removed()?);
    let (mark, boot_id) = (journal.mark()?, journal.boot_id().to_owned());
    let unreadable = bad_leases.into_iter().chain(bad_removed);
    let mut warnings: Vec<String> =
        unreadable.map(|what| format!("cannot be read, so it is not in force: {what}")).collect();
    let (mut risks, bad_risks) = journal.risks()?;
    warnings.extend(bad_risks.into_iter().map(|what| format!("cannot be read, so it is not in force: {what}")));
    for risk in &mut risks {
        risk.carry_over(mark.as_ref(), &boot_id, now);
        journal.put_risk(risk)?;
    }
    let peaks = journal.peaks()?;
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
    let (path, text) = match journal.accounted()? {
        Some((path, text)) => (path, Some(text)),
        // Of a version that kept no account.
        None => (journal.path().to_owned(), journal.last_revision()?.map(|revision| revision.recorded.text)),
    };
    let other_file = Some(path).filter(|path| path != journal.path());
    let before = match text.map(|text| config::parse(&text, other_file.as_deref().unwrap_or(journal.path()))) {
        None => None,
        Some(Ok(config)) => Some(Arc::new(config)),
        Some(Err(e)) => {
            // What an earlier version took for good may not be for this one.
            warnings.push(format!(
                "what ran before cannot be read by this version, so nobody is missed who left the configuration since; \
                 compare `rollcall status` with whom you expect: {e}"
            ));
            None
        }
    };
    Ok(Resume { input: Input::Resume { leases, removed, before, boot_id, risks, peaks }, warnings, other_file })
}

fn bad(e: &config::ConfigError) -> ControlError {
    ControlError::new(e.code(), e.to_string())
        .with_hint("correct the file; `rollcall config check` shows what is wrong without starting")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
edge.interfaces = ["eth0"]
source_pool.ipv4 = ["192.0.2.2"]
[[backend]]
name = "a"
ipv4 = "10.0.0.1"
[[service]]
name = "web"
vip = "192.0.2.10"
port = 80
[[service.member]]
backend = "a"
"#;

    fn journal(dir: &Path, file: &str) -> Journal {
        Journal::new(State::open(dir).unwrap(), dir.join(file), "this boot".into())
    }

    fn before(resume: &Resume) -> Option<&Arc<Config>> {
        let Input::Resume { before, .. } = &resume.input else { panic!("that is what it is") };
        before.as_ref()
    }

    #[test]
    fn start_with_another_file_compares_with_what_ran_last_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path(), "a.toml").set_accounted(TEXT).unwrap();
        let same = resume(&mut journal(dir.path(), "a.toml")).unwrap();
        assert!(before(&same).is_some() && same.other_file.is_none() && same.warnings.is_empty());
        let other = resume(&mut journal(dir.path(), "b.toml")).unwrap();
        assert!(before(&other).is_some());
        assert_eq!(other.other_file, Some(dir.path().join("a.toml")));
    }

    #[test]
    fn earlier_text_that_cannot_be_read_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path(), "a.toml").set_accounted("comets = 1\n").unwrap();
        let resume = resume(&mut journal(dir.path(), "a.toml")).unwrap();
        assert!(before(&resume).is_none());
        assert!(resume.warnings[0].contains("nobody is missed who left"), "{:?}", resume.warnings);
    }
}
