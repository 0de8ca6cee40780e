//! What the daemon's SQLite files have in common: schemas that only grow, why a file cannot be used, and putting a damaged
//! one aside. What is in them is [`super::state`]'s and [`super::journal`]'s.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

/// What SQLite keeps beside a file: a rollback journal, or a write-ahead log and its index.
const COMPANIONS: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Why a database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite said no.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer rollcall wrote it.
    #[error("{path} has schema version {found}, this rollcall knows up to {known}: run the version that wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest known one.
        known: i64,
    },
    /// It opens, but its pages contradict each other.
    #[error("{path} is damaged: {found}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that SQLite's check found.
        found: String,
    },
}

impl DatabaseError {
    /// Whether what is in the file is no database, or none that can be relied on: no retry will help.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sqlite { source, .. } => {
                matches!(source.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            Self::Damaged { .. } => true,
            Self::Newer { .. } => false,
        }
    }

    /// Whether the disk is full: the opening is as good as before.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// Opens or creates the file at `path`, checks its pages, and brings its schema up to date: `migrations` has one entry
/// for each version, from 1 on; entries are added, never changed.
pub fn open(
    path: PathBuf,
    journal_mode: &str,
    synchronous: &str,
    migrations: &[&str],
) -> Result<Connection, DatabaseError> {
    let opened = Connection::open(&path).and_then(|mut db| {
        db.pragma_update(None, "journal_mode", journal_mode)?;
        db.pragma_update(None, "synchronous", synchronous)?;
        let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        let version = if found == "ok" { migrate(&mut db, migrations)? } else { 0 };
        Ok((db, version, found))
    });
    let known = migrations.len() as i64;
    match opened {
        Ok((_, _, found)) if found != "ok" => Err(DatabaseError::Damaged { path, found }),
        Ok((_, found, _)) if found > known => Err(DatabaseError::Newer { path, found, known }),
        Ok((db, ..)) => Ok(db),
        Err(source) => Err(DatabaseError::Sqlite { path, source }),
    }
}

/// Renames a damaged file, so that a new one can be begun in its place; its new name. `now_s`: Unix time, for that name.
pub fn put_aside(path: &Path, now_s: i64) -> io::Result<PathBuf> {
    let name = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = format!(".damaged-{now_s}");
    std::fs::rename(path, name(&aside))?;
    for companion in COMPANIONS {
        // Left by a crash in a write, it belongs to the old file and would be applied to the new one.
        let _ = std::fs::rename(name(companion), name(&format!("{aside}{companion}")));
    }
    Ok(name(&aside))
}

/// Brings the schema up to date and returns its version, which is above the known ones if a newer program wrote it.
fn migrate(db: &mut Connection, migrations: &[&str]) -> rusqlite::Result<i64> {
    let tx = db.transaction()?;
    tx.execute("CREATE TABLE IF NOT EXISTS meta (schema_version INTEGER NOT NULL) STRICT", [])?;
    let version: Option<i64> = tx.query_row("SELECT schema_version FROM meta", [], |row| row.get(0)).optional()?;
    let from = usize::try_from(version.unwrap_or(0)).unwrap_or(0);
    for statements in migrations.iter().skip(from) {
        tx.execute_batch(statements)?;
    }
    let now = version.unwrap_or(0).max(migrations.len() as i64);
    if version.is_none() {
        tx.execute("INSERT INTO meta (schema_version) VALUES (?)", [now])?;
    } else if version != Some(now) {
        tx.execute("UPDATE meta SET schema_version = ?", [now])?;
    }
    tx.commit()?;
    Ok(now)
}
