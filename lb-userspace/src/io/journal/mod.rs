//! `journal.db`: what happened (events), and once a minute the counters of every member whose counters moved (samples).
//!
//! Append-only, bounded by age and number. SQLite with a write-ahead log and `synchronous=NORMAL`: an event that was
//! written survives the daemon's death, readers and the writer never wait for each other, and no write waits for the disk
//! but the one that moves the log into the file. A power failure may cost the last events, never the file: the deeds
//! themselves are kept by [`super::state`]. The schema only grows, as there.
//!
//! Knows neither queue nor thread: when to write, and what to do if that fails, is `daemon::chronicle`'s.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::sqlite;
use crate::core::api::{Event, EventKind, Time};

pub use super::sqlite::DatabaseError as JournalError;
pub use read::{EventQuery, Reader};

/// One entry for each schema version, from 1 on.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        wall_ms INTEGER NOT NULL,
        boot_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        backend TEXT,
        service TEXT,
        person TEXT,
        cause TEXT NOT NULL
    ) STRICT;
    CREATE INDEX event_wall ON event (wall_ms);
    CREATE TABLE sample (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        wall_ms INTEGER NOT NULL,
        service TEXT NOT NULL,
        backend TEXT,
        opened INTEGER NOT NULL,
        forward_bytes INTEGER NOT NULL,
        reverse_bytes INTEGER NOT NULL,
        unanswered INTEGER NOT NULL,
        syn_retransmits INTEGER NOT NULL,
        resets_backend INTEGER NOT NULL,
        ports_exhausted INTEGER NOT NULL,
        dropped INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sample_wall ON sample (wall_ms);
"];

/// The log is moved into the file when it has so many pages, a megabyte.
const LOG_PAGES: i64 = 256;

/// How much is kept; whatever is beyond either goes, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Age by the wall clock.
    pub age: Duration,
    /// Events.
    pub events: i64,
    /// Samples.
    pub samples: i64,
}

impl Default for Bounds {
    /// About 150 MB at most. Ten members that never rest are sampled for two months, a thousand for sixteen hours.
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 86_400), events: 200_000, samples: 1_000_000 }
    }
}

/// An event as it is kept. Its kind is text, since a later version may have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its number: rises with each event, never used twice.
    pub id: i64,
    /// When.
    pub time: Time,
    /// What: an [`EventKind`] by its name.
    pub kind: String,
    /// Which server, if one.
    pub backend: Option<String>,
    /// In which service, if in one.
    pub service: Option<String>,
    /// Who did it, if a person did.
    pub by: Option<String>,
    /// Why, in words.
    pub cause: String,
}

impl Recorded {
    /// As it will be kept, under this number.
    pub fn new(id: i64, event: &Event) -> Self {
        Self {
            id,
            time: event.time,
            kind: kind_name(event.kind),
            backend: event.backend.as_ref().map(ToString::to_string),
            service: event.service.as_ref().map(ToString::to_string),
            by: event.by.clone(),
            cause: event.cause.clone(),
        }
    }

    /// Its kind, if this version knows it.
    pub fn kind(&self) -> Option<EventKind> {
        serde_json::from_value(self.kind.as_str().into()).ok()
    }
}

/// A kind's name, as JSON has it.
pub fn kind_name(kind: EventKind) -> String {
    let name = serde_json::to_value(kind).expect("a variant without fields is a string");
    name.as_str().unwrap_or_default().to_owned()
}

/// Counters of a member, or of a service's refusals, at one moment. They count since the data plane was created; lower
/// than before means that it was created anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Unix time, ms.
    pub wall_ms: i64,
    /// The service.
    pub service: String,
    /// The backend; none for what the service refused before it had chosen one.
    pub backend: Option<String>,
    /// What was counted.
    pub counted: Counted,
}

/// See [`Sample`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Flows opened.
    pub opened: u64,
    /// Bytes towards the backend.
    pub forward_bytes: u64,
    /// Bytes towards clients.
    pub reverse_bytes: u64,
    /// Half-open flows that ended without an answer of the backend.
    pub unanswered: u64,
    /// SYNs that clients sent again.
    pub syn_retransmits: u64,
    /// Resets by the backend.
    pub resets_backend: u64,
    /// New flows refused because no source port was free.
    pub ports_exhausted: u64,
    /// Packets of the service dropped, whatever the reason.
    pub dropped: u64,
}

impl Counted {
    /// The counters in the order of the table's columns.
    fn columns(self) -> [u64; 8] {
        // Spelled out, so that a new counter cannot be forgotten.
        let Self {
            opened,
            forward_bytes,
            reverse_bytes,
            unanswered,
            syn_retransmits,
            resets_backend,
            ports_exhausted,
            dropped,
        } = self;
        [opened, forward_bytes, reverse_bytes, unanswered, syn_retransmits, resets_backend, ports_exhausted, dropped]
    }

    fn from_columns(columns: [u64; 8]) -> Self {
        let [
            opened,
            forward_bytes,
            reverse_bytes,
            unanswered,
            syn_retransmits,
            resets_backend,
            ports_exhausted,
            dropped,
        ] = columns;
        Self {
            opened,
            forward_bytes,
            reverse_bytes,
            unanswered,
            syn_retransmits,
            resets_backend,
            ports_exhausted,
            dropped,
        }
    }

    /// What was counted from `before` to `self`; all of `self` if the counters began anew in between.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let (now, then) = (self.columns(), before.columns());
        if now.iter().zip(&then).any(|(now, then)| now < then) {
            return self;
        }
        Self::from_columns(std::array::from_fn(|i| now[i] - then[i]))
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let (a, b) = (self.columns(), other.columns());
        Self::from_columns(std::array::from_fn(|i| a[i].saturating_add(b[i])))
    }
}

/// The journal, open for writing: by one daemon at a time, which holds the lock of `state_dir`.
pub struct Journal {
    db: Connection,
    path: PathBuf,
    /// Which file it opened.
    file: Option<(u64, u64)>,
    bounds: Bounds,
}

/// Device and inode of a file.
fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// The journal's file in `dir`.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("journal.db")
}

impl Journal {
    /// Opens or creates `journal.db` in `dir`, which exists, and brings its schema up to date.
    pub fn open(dir: &Path, bounds: Bounds) -> Result<Self, JournalError> {
        let path = path(dir);
        let db = sqlite::open(path.clone(), "WAL", "NORMAL", MIGRATIONS)?;
        match db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES) {
            Ok(()) => Ok(Self { file: inode(&path), db, path, bounds }),
            Err(source) => Err(JournalError::Sqlite { path, source }),
        }
    }

    /// As [`Journal::open`]; but a damaged file is put aside and a new one begun. Then also says so, in words. `now_s`:
    /// Unix time, for its new name.
    pub fn open_or_begin(dir: &Path, bounds: Bounds, now_s: i64) -> Result<(Self, Option<String>), JournalError> {
        let damage = match Self::open(dir, bounds) {
            Err(e) if e.is_damage() => e,
            opened => return opened.map(|journal| (journal, None)),
        };
        let Ok(aside) = sqlite::put_aside(&path(dir), now_s) else { return Err(damage) };
        let lost = format!(
            "{damage}; it is now {}, and a new journal was begun, so events before it are missing. Look at the disk's \
             health",
            aside.display()
        );
        Self::open(dir, bounds).map(|journal| (journal, Some(lost)))
    }

    /// Whether the file at its path is still the one that it writes: nobody would read what goes into a removed one.
    pub fn is_in_place(&self) -> bool {
        self.file.is_some() && inode(&self.path) == self.file
    }

    fn named<T>(&self, result: rusqlite::Result<T>) -> Result<T, JournalError> {
        result.map_err(|source| JournalError::Sqlite { path: self.path.clone(), source })
    }
}
