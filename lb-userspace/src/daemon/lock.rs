//! One daemon for one state directory: an exclusive lock on `<state_dir>/lock`, which the kernel drops when the process
//! dies. The file holds the pid only so that a second daemon can say who is first.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::error::system;
use crate::control::daemon::{ControlError, ErrorCode};

/// The lock, held as long as this lives.
pub struct InstanceLock {
    _file: Flock<File>,
}

impl InstanceLock {
    /// Takes the lock, creating the directory if need be.
    pub fn take(state_dir: &Path) -> Result<Self, ControlError> {
        let path = state_dir.join("lock");
        let fail = |what: &str, e: &dyn std::fmt::Display| {
            system(format!("cannot {what} {}: {e}", path.display()))
                .with_hint("control.state_dir must lie on a file system that can be written and has space")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(state_dir)
            .map_err(|e| fail("create the directory of", &e))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(|e| fail("open", &e))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => return Err(second(&mut file, state_dir)),
            Err((_, e)) => return Err(fail("lock", &e)),
        };
        // The pid is for people alone: on a full disk the daemon must start all the same.
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(e) = written {
            tracing::warn!("cannot write {}, whose lock is held all the same: {e}", path.display());
        }
        Ok(Self { _file: file })
    }
}

/// The same for a pin directory, which the kernel's file system lets nobody write a pid into: two daemons with separate
/// states must not share one data plane.
pub struct PinLock {
    _directory: Flock<File>,
}

impl PinLock {
    /// Takes the lock; `None` if the directory does not exist yet.
    pub fn take(pin_dir: &Path) -> Result<Option<Self>, ControlError> {
        let fail = |e: &dyn std::fmt::Display| system(format!("cannot lock {}: {e}", pin_dir.display()));
        let directory = match File::open(pin_dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| fail(&e))?,
        };
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(directory) => Ok(Some(Self { _directory: directory })),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(ControlError::new(
                ErrorCode::Conflict,
                format!("another rollcall daemon uses the data plane in {}", pin_dir.display()),
            )
            .with_hint("stop that one first, or give this one its own control.pin_dir, state_dir and socket")),
            Err((_, e)) => Err(fail(&e)),
        }
    }
}

fn second(file: &mut File, state_dir: &Path) -> ControlError {
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    let who = match pid.trim() {
        "" => String::new(),
        pid => format!(" (pid {pid})"),
    };
    ControlError::new(
        ErrorCode::Conflict,
        format!("another rollcall daemon{who} runs with the state in {}", state_dir.display()),
    )
    .with_hint("stop it first, or use `rollcall reload` if you want it to read its configuration again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_held_second_is_refused_and_names_the_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = InstanceLock::take(dir.path()).unwrap();
        let refused = InstanceLock::take(dir.path()).err().unwrap();
        assert_eq!(refused.code, ErrorCode::Conflict);
        assert!(refused.message.contains(&format!("pid {}", std::process::id())), "{}", refused.message);
        drop(first);
        InstanceLock::take(dir.path()).unwrap();
    }

    #[test]
    fn pin_lock_held_second_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = PinLock::take(dir.path()).unwrap().expect("the directory exists");
        let refused = PinLock::take(dir.path()).err().unwrap();
        assert_eq!(refused.code, ErrorCode::Conflict);
        drop(first);
        assert!(PinLock::take(dir.path()).unwrap().is_some());
        assert!(PinLock::take(&dir.path().join("absent")).unwrap().is_none());
    }

    #[test]
    fn lock_left_by_a_dead_daemon_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "999999999 and much more text\n").unwrap();
        let _lock = InstanceLock::take(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("lock")).unwrap(), format!("{}\n", std::process::id()));
    }
}
