//! A copy of `state.db` as the next daemon will find it. A daemon that was killed in a write leaves the file half written
//! and beside it what undoes that; SQLite does so at the next opening, but not for who must leave the file alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{State, StateError};

/// A copy; its files are gone with it.
pub struct Copied {
    /// The copy, open.
    pub state: State,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Copied {
    /// Of `state.db` in `dir`. Only where no daemon runs: what is written meanwhile would be copied in part. An outer error
    /// means that it could not be copied, an inner one that the copy cannot be used either.
    pub fn of(dir: &Path) -> io::Result<Result<Self, StateError>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rollcall-state-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        // For its owner alone, as the original; and refused if someone else made it.
        DirBuilder::new().mode(0o700).create(&folder)?;
        let folder = Folder(folder);
        fs::copy(dir.join("state.db"), folder.0.join("state.db"))?;
        match fs::copy(dir.join("state.db-journal"), folder.0.join("state.db-journal")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        Ok(State::open(&folder.0).map(|state| Self { state, _folder: folder }))
    }
}
