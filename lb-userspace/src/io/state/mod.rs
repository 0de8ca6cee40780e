//! `state.db`: revisions of the configuration, the journal of an edit under way, the addresses that the daemon added, and
//! ([`roll_call`]) leases and removed servers, ([`capacity`]) accepted risks and what servers carried.
//!
//! SQLite with `synchronous=FULL` and a rollback journal: what a method has returned from survives SIGKILL and a power
//! cut. The schema only grows: each version is a list of statements added to [`MIGRATIONS`], never a changed one.
//! Knows nothing of files or the core; the order of an edit is `daemon::revise`'s.

mod capacity;
mod copy;
mod roll_call;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::sqlite;
use crate::control::daemon::Actor;
use crate::io::net::Placement;

pub use copy::Copied;

/// Why `state.db` could not be used.
pub use super::sqlite::DatabaseError as StateError;

/// Revisions kept.
const KEEP_REVISIONS: i64 = 50;

/// One entry for each schema version, from 1 on.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE revision (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        text TEXT NOT NULL,
        applied_at_wall_ms INTEGER NOT NULL,
        uid INTEGER,
        loginuid INTEGER,
        cause TEXT NOT NULL
    ) STRICT;
    CREATE TABLE intent (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        path TEXT NOT NULL,
        old_sha256 TEXT NOT NULL,
        new_sha256 TEXT NOT NULL,
        text TEXT NOT NULL,
        uid INTEGER,
        loginuid INTEGER,
        cause TEXT NOT NULL
    ) STRICT;
    CREATE TABLE address (
        address TEXT NOT NULL,
        interface TEXT NOT NULL,
        PRIMARY KEY (address, interface)
    ) STRICT;
",
    "
    CREATE TABLE lease (
        backend TEXT NOT NULL,
        service TEXT NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (backend, service)
    ) STRICT;
    CREATE TABLE removed (
        backend TEXT NOT NULL,
        service TEXT NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (backend, service)
    ) STRICT;
    CREATE TABLE accounted (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        path TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    CREATE TABLE mark (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        boot_id TEXT NOT NULL,
        boot_ms INTEGER NOT NULL,
        wall_ms INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE risk (
        name TEXT PRIMARY KEY,
        json TEXT NOT NULL
    ) STRICT;
    CREATE TABLE peak (
        name TEXT PRIMARY KEY,
        newest_wall_ms INTEGER NOT NULL,
        json TEXT NOT NULL
    ) STRICT;
",
];

/// A configuration that ran, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevision {
    /// The configuration file.
    pub path: PathBuf,
    /// SHA-256 of the text, hex.
    pub sha256: String,
    /// The file's text.
    pub text: String,
    /// Unix time of its application, ms.
    pub applied_wall_ms: i64,
    /// Who asked; `None` for the daemon itself (start, SIGHUP).
    pub by: Option<Actor>,
    /// Why, in words.
    pub cause: String,
}

/// A recorded [`NewRevision`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number; never used twice.
    pub id: i64,
    /// What was recorded.
    pub recorded: NewRevision,
}

/// An edit under way: the file is about to change from one text to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The configuration file.
    pub path: PathBuf,
    /// Digest of the file before.
    pub old_sha256: String,
    /// Digest of the file after.
    pub new_sha256: String,
    /// The file's new text.
    pub text: String,
    /// Who asked.
    pub by: Option<Actor>,
    /// What, in words.
    pub cause: String,
}

/// The open database.
pub struct State {
    db: Connection,
    path: PathBuf,
}

impl State {
    /// Opens or creates `state.db` in `dir`, which exists, and brings its schema up to date.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join("state.db");
        // Its check takes some milliseconds: it holds fifty texts at most.
        Ok(Self { db: sqlite::open(path.clone(), "DELETE", "FULL", MIGRATIONS)?, path })
    }

    /// Opens `state.db` in `dir` to read it, while no daemon runs. Nothing is changed, so the tables may be an older
    /// version's; what a crash left half written is an error until the next daemon has ended it.
    pub fn open_readonly(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join("state.db");
        match Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX) {
            Ok(db) => Ok(Self { db, path }),
            Err(source) => Err(StateError::Sqlite { path, source }),
        }
    }

    /// As [`State::open`]; but a damaged file is put aside and a new one begun, since traffic and health must not wait for a
    /// history. Then also says, in words, what was lost, and where the old file is. `now_s`: Unix time, for its new name.
    pub fn open_or_begin(dir: &Path, now_s: i64) -> Result<(Self, Option<String>), StateError> {
        let damage = match Self::open(dir) {
            Err(e) if e.is_damage() => e,
            opened => return opened.map(|state| (state, None)),
        };
        let Ok(aside) = sqlite::put_aside(&dir.join("state.db"), now_s) else { return Err(damage) };
        let lost = format!(
            "{damage}; it is now {}, and a new one was begun without revisions. Addresses that an earlier run added on a \
             kernel before 5.18 count as the operator's. Look at the disk's health",
            aside.display()
        );
        Self::open(dir).map(|state| (state, Some(lost)))
    }

    /// The newest revision of the file at `path`: the last text of it that was good.
    pub fn last_revision(&self, path: &Path) -> Result<Option<Revision>, StateError> {
        let sql = "SELECT * FROM revision WHERE path = ? ORDER BY id DESC LIMIT 1";
        let row = self.db.query_row(sql, [path.to_string_lossy()], revision);
        self.named(row.optional())
    }

    /// Records a revision and ends the intent, both or neither; forgets the oldest revisions. `accounted`: whoever left up to
    /// it is recorded, too, which is noted in the same step. Returns its number.
    pub fn commit(&mut self, new: &NewRevision, accounted: bool) -> Result<i64, StateError> {
        let done = (|| {
            let tx = self.db.transaction()?;
            tx.execute(
                "INSERT INTO revision (path, sha256, text, applied_at_wall_ms, uid, loginuid, cause)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![
                    new.path.to_string_lossy(),
                    new.sha256,
                    new.text,
                    new.applied_wall_ms,
                    uid(&new.by),
                    loginuid(&new.by),
                    new.cause
                ],
            )?;
            let id = tx.last_insert_rowid();
            tx.execute("DELETE FROM revision WHERE id <= ?", [id - KEEP_REVISIONS])?;
            tx.execute("DELETE FROM intent", [])?;
            if accounted {
                tx.execute(roll_call::SET_ACCOUNTED, params![new.path.to_string_lossy(), new.text])?;
            }
            tx.commit()?;
            Ok(id)
        })();
        self.named(done)
    }

    /// Journals an edit before anything is changed.
    pub fn begin(&mut self, intent: &Intent) -> Result<(), StateError> {
        let done = self.db.execute(
            "INSERT OR REPLACE INTO intent (only, path, old_sha256, new_sha256, text, uid, loginuid, cause)
             VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
            params![
                intent.path.to_string_lossy(),
                intent.old_sha256,
                intent.new_sha256,
                intent.text,
                uid(&intent.by),
                loginuid(&intent.by),
                intent.cause
            ],
        );
        self.named(done.map(|_| ()))
    }

    /// The edit that was under way, if one was.
    pub fn intent(&self) -> Result<Option<Intent>, StateError> {
        let row = self.db.query_row("SELECT * FROM intent", [], |row| {
            Ok(Intent {
                path: PathBuf::from(row.get::<_, String>("path")?),
                old_sha256: row.get("old_sha256")?,
                new_sha256: row.get("new_sha256")?,
                text: row.get("text")?,
                by: actor(row)?,
                cause: row.get("cause")?,
            })
        });
        self.named(row.optional())
    }

    /// Ends the intent without a revision.
    pub fn drop_intent(&mut self) -> Result<(), StateError> {
        let done = self.db.execute("DELETE FROM intent", []);
        self.named(done.map(|_| ()))
    }

    /// The addresses that the daemon added, and may therefore remove, in order.
    pub fn addresses(&self) -> Result<Vec<Placement>, StateError> {
        let rows = (|| {
            let mut statement =
                self.db.prepare("SELECT address, interface FROM address ORDER BY address, interface")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        })();
        let parse = |(address, interface): (String, String)| {
            // Only ever written from an `IpAddr`; a row that someone changed by hand is not ours to remove.
            Some(Placement { address: address.parse().ok()?, interface })
        };
        Ok(self.named(rows)?.into_iter().filter_map(parse).collect())
    }

    /// Replaces the list of added addresses.
    pub fn set_addresses(&mut self, addresses: &[Placement]) -> Result<(), StateError> {
        let done = (|| {
            let tx = self.db.transaction()?;
            tx.execute("DELETE FROM address", [])?;
            for a in addresses {
                tx.execute(
                    "INSERT OR IGNORE INTO address (address, interface) VALUES (?, ?)",
                    params![a.address.to_string(), a.interface],
                )?;
            }
            tx.commit()
        })();
        self.named(done)
    }

    fn named<T>(&self, result: rusqlite::Result<T>) -> Result<T, StateError> {
        result.map_err(|source| StateError::Sqlite { path: self.path.clone(), source })
    }
}

fn uid(by: &Option<Actor>) -> Option<u32> {
    by.as_ref().map(|a| a.uid)
}

fn loginuid(by: &Option<Actor>) -> Option<u32> {
    by.as_ref().and_then(|a| a.loginuid)
}

fn actor(row: &Row<'_>) -> rusqlite::Result<Option<Actor>> {
    let loginuid = row.get("loginuid")?;
    Ok(row.get::<_, Option<u32>>("uid")?.map(|uid| Actor { uid, loginuid }))
}

fn revision(row: &Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision {
        id: row.get("id")?,
        recorded: NewRevision {
            path: PathBuf::from(row.get::<_, String>("path")?),
            sha256: row.get("sha256")?,
            text: row.get("text")?,
            applied_wall_ms: row.get("applied_at_wall_ms")?,
            by: actor(row)?,
            cause: row.get("cause")?,
        },
    })
}

#[cfg(test)]
mod tests;
