//! What a daemon that no longer runs left in force: maps, links, leases, removals. Read, and nothing changed; a daemon
//! that starts meanwhile is not disturbed.

use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clock;
use super::error::system;
use crate::config::{self, PathKey, model::Config};
use crate::control::daemon::{ControlError, Frozen, Topic, View, Warning};
use crate::control::schema::{Flows, Trace};
use crate::control::{FlowParams, TraceParams};
use crate::core::api::Time;
use crate::core::frozen;
use crate::core::lease::{Lease, Mark};
use crate::core::removed::Removed;
use crate::core::risk::Risk;
use crate::io::bpf::types::Counters;
use crate::io::bpf::{BpfError, DataPlane};
use crate::io::state::{Copied, State, StateError};

/// What is left.
pub struct Left {
    /// As a daemon would show it.
    pub view: View,
    /// Counters, read now.
    pub counters: Counters,
    /// The maps, opened to be read.
    pub plane: DataPlane,
}

impl Left {
    /// Flows that match, read now.
    pub fn flows(&self, params: FlowParams) -> Result<Flows, ControlError> {
        let filter = super::flows::filter(&params.check(&self.view)?, &self.view)?;
        let (records, more) = self.plane.flows(&filter).map_err(|e| system(e.to_string()))?;
        Ok(Flows::new(&self.view, &records, more, jiff::Timestamp::now()))
    }

    /// What the program, which still runs, does with a packet.
    pub fn trace(&self, params: TraceParams) -> Result<Trace, ControlError> {
        super::trace::run(&self.plane, &self.view, &params.check()?)
    }
}

/// Reads what the daemon of the configuration file at `file` left. `None`: a daemon holds its lock, so it runs, whatever
/// its socket says. An error says in words why nothing can be shown.
pub fn read(file: &Path) -> Option<Result<Left, String>> {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let loaded = config::load(&path);
    let state_dir = loaded.as_ref().map_or_else(
        |_| config::path_in(&config::text_of(&path).unwrap_or_default(), PathKey::StateDir),
        |loaded| loaded.config.control.state_dir.clone(),
    );
    if is_locked(&state_dir.join("lock")) {
        return None;
    }
    let record = Record::read(&state_dir, &path);
    let file_sha256 = loaded.as_ref().ok().map(|loaded| loaded.sha256.clone());
    // What ran last names what is in the maps; the file may say something else by now.
    let ran = record.text.as_deref().and_then(|text| Some((config::parse(text, &path).ok()?, text.to_owned())));
    let ran = ran.or_else(|| loaded.ok().map(|loaded| (loaded.config, loaded.text)));
    let Some((config, text)) = ran else {
        return Some(Err(
            "neither state.db nor the configuration file says what ran, so what it left has no names".into()
        ));
    };
    let differs = file_sha256.is_none_or(|sha256| sha256 != config::sha256(&text));
    Some(left(config, text, path, differs, record))
}

fn left(config: Config, text: String, path: PathBuf, file_differs: bool, record: Record) -> Result<Left, String> {
    let failed = |e: BpfError| match e {
        BpfError::NotRunning { .. } => "no data plane is up: this host forwards nothing".to_owned(),
        e => format!("what it left cannot be read: {e}"),
    };
    let plane = DataPlane::open_readonly(&config.control.pin_dir).map_err(failed)?;
    let kernel = plane.read_state().map_err(failed)?;
    let counters = plane.counters().map_err(failed)?;
    let now = clock::now();
    let since = record.seen.map(|time| time.seen_at(now));
    let mut roll_call = frozen::roll_call(&config, &kernel, &record.leases, &record.removed, since.unwrap_or(now), now);
    roll_call.risks = record.risks;
    let mut warnings = record.unreadable;
    let attached = plane.attached().unwrap_or_else(|e| {
        warnings.push(format!("where the program is cannot be read: {e}"));
        Vec::new()
    });
    let view = View {
        roll_call,
        config: Arc::new(config),
        config_text: text.into(),
        config_path: path,
        file_differs,
        attached,
        started: since.unwrap_or(now),
        adopted: false,
        created_boot_ms: plane.meta().created_boot_ns / 1_000_000,
        warnings: warnings.into_iter().map(|text| Warning { topic: Topic::Resume, text }).collect(),
        events: Vec::new(),
        violations: 0,
        events_lost: 0,
        frozen: Some(Frozen { since }),
    };
    Ok(Left { view, counters, plane })
}

/// What `state.db` says.
#[derive(Default)]
struct Record {
    leases: Vec<Lease>,
    removed: Vec<Removed>,
    risks: Vec<Risk>,
    /// The configuration that ran last.
    text: Option<String>,
    /// When a daemon was last certainly alive, in this boot or an earlier one.
    seen: Option<Time>,
    /// What could not be read, in words.
    unreadable: Vec<String>,
}

impl Record {
    /// Reads what can be read.
    fn read(state_dir: &Path, path: &Path) -> Self {
        let e = match State::open_readonly(state_dir).and_then(|state| Self::of(&state, path)) {
            Ok(record) => return record,
            Err(e) => e,
        };
        // A daemon that was killed in a write leaves a file that only a writer can read; then a copy is written.
        if let Ok(Ok(copied)) = Copied::of(state_dir)
            && let Ok(record) = Self::of(&copied.state, path)
        {
            return record;
        }
        let unreadable = vec![format!("leases and removals cannot be read without the daemon: {e}")];
        Self { unreadable, ..Self::default() }
    }

    fn of(state: &State, path: &Path) -> Result<Self, StateError> {
        let text = state.last_revision(path)?.map(|revision| revision.recorded.text);
        let mark = state.mark()?;
        let (leases, mut unreadable) = state.leases()?;
        let (removed, more) = state.removed()?;
        unreadable.extend(more);
        let unreadable = unreadable.into_iter().map(|what| format!("cannot be read: {what}")).collect();
        // A version that knew no risks had no table for them.
        let (mut risks, _) = state.risks().unwrap_or_default();
        if let Ok(boot_id) = clock::boot_id() {
            let now = clock::now();
            for risk in &mut risks {
                risk.carry_over(mark.as_ref(), &boot_id, now);
            }
        }
        let (leases, seen) = (carried(leases, mark.as_ref()), mark.map(|mark| mark.time));
        Ok(Self { leases, removed, risks, text, seen, unreadable })
    }
}

/// Leases by this boot's clock, as the next daemon will take them.
fn carried(mut leases: Vec<Lease>, mark: Option<&Mark>) -> Vec<Lease> {
    let now = clock::now();
    // A host that does not tell its boots apart shows them as they were stored.
    if let Ok(boot_id) = clock::boot_id() {
        for lease in &mut leases {
            lease.carry_over(mark, &boot_id, now);
        }
    }
    leases
}

/// Whether a process holds a lock on the file. By the kernel's list: to try it would take it from a daemon that starts.
fn is_locked(file: &Path) -> bool {
    let (Ok(meta), Ok(locks)) = (std::fs::metadata(file), std::fs::read_to_string("/proc/locks")) else { return false };
    let (major, minor) = (nix::sys::stat::major(meta.st_dev()), nix::sys::stat::minor(meta.st_dev()));
    let devices = [Some(format!("{major:02x}:{minor:02x}")), mounted_device(file)];
    is_listed(&locks, devices.iter().flatten(), meta.st_ino())
}

/// The device of a file as `/proc/locks` names it: the file system's. On btrfs a file's own, `st_dev`, is its subvolume's.
fn mounted_device(file: &Path) -> Option<String> {
    // Without reading it, which may not be allowed.
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(file).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", opened.as_raw_fd())).ok()?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned();
    device_of_mount(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &mount)
}

/// `09:02` of the mount with this id, in hexadecimal.
fn device_of_mount(mountinfo: &str, id: &str) -> Option<String> {
    let line = mountinfo.lines().find(|line| line.split(' ').next() == Some(id))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some(format!("{:02x}:{:02x}", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
}

fn is_listed<'a>(locks: &str, devices: impl IntoIterator<Item = &'a String>, inode: u64) -> bool {
    let places: Vec<String> = devices.into_iter().map(|device| format!(" {device}:{inode} ")).collect();
    locks.lines().any(|line| line.contains(" FLOCK ") && places.iter().any(|place| line.contains(place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::lock::InstanceLock;

    #[test]
    fn lock_is_seen_while_it_is_held_and_not_after() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        assert!(!is_locked(&file));
        let lock = InstanceLock::take(dir.path()).unwrap();
        assert!(is_locked(&file));
        drop(lock);
        assert!(!is_locked(&file));
    }

    #[test]
    fn lock_is_found_by_the_device_of_the_file_system() {
        // A btrfs: its mount is 0:44, while files in it say another device.
        let mountinfo = "30 1 0:44 /sub /var rw - btrfs /dev/vda2 rw\n3 1 8:17 / / rw - ext4 /dev/vdb1 rw\n";
        let device = device_of_mount(mountinfo, "30").unwrap();
        assert_eq!((device.as_str(), device_of_mount(mountinfo, "3").as_deref()), ("00:2c", Some("08:11")));
        let locks = "1: FLOCK  ADVISORY  WRITE 4711 00:2c:257 0 EOF\n2: POSIX  ADVISORY  WRITE 1 08:11:9 0 EOF\n";
        assert!(is_listed(locks, [&"00:31".to_owned(), &device], 257));
        assert!(!is_listed(locks, [&"00:31".to_owned()], 257) && !is_listed(locks, [&device], 25));
        assert!(!is_listed(locks, [&"08:11".to_owned()], 9), "no lock of a daemon");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(mounted_device(&dir.path().join("file")).is_some());
    }

    #[test]
    fn record_without_a_state_is_empty_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::read(dir.path(), &dir.path().join("rollcall.toml"));
        assert!(record.leases.is_empty() && record.text.is_none());
        assert_eq!(record.unreadable.len(), 1, "{:?}", record.unreadable);
        assert!(!dir.path().join("state.db").exists(), "reading makes no file");
    }

    #[test]
    fn record_that_a_killed_daemon_left_half_written_is_read_as_the_next_one_will() {
        let (dir, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        State::open(dir.path()).unwrap().put_lease(&crate::control::testing::lease()).unwrap();
        // A write so big that it is in the file before it is committed; what is there then is what a kill leaves.
        let db = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
        db.execute_batch(
            "PRAGMA cache_size = 1; BEGIN; DELETE FROM lease;
             CREATE TABLE much AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000)
             SELECT x, hex(randomblob(500)) FROM n;",
        )
        .unwrap();
        for file in ["state.db", "state.db-journal"] {
            std::fs::copy(dir.path().join(file), left.path().join(file)).unwrap();
        }
        let before = std::fs::read(left.path().join("state.db")).unwrap();
        assert!(State::open_readonly(left.path()).and_then(|state| state.leases()).is_err(), "it is half written");
        let record = Record::read(left.path(), &left.path().join("rollcall.toml"));
        assert!(record.unreadable.is_empty(), "{:?}", record.unreadable);
        assert_eq!(record.leases.len(), 1);
        assert_eq!(std::fs::read(left.path().join("state.db")).unwrap(), before, "it is left alone");
    }
}
