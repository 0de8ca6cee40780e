//! What the roll call needs to outlive a daemon: leases, removed servers, the configuration whose removals are accounted
//! for, and the last moment that was certainly reached.
//!
//! A lease or a removal is one row with its JSON form: fields are only ever added, so that neighbouring versions read each
//! other's.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{State, StateError};
use crate::core::api::{Scope, Time};
use crate::core::lease::{Lease, Mark};
use crate::core::removed::Removed;

/// Parameters: path, text.
pub(super) const SET_ACCOUNTED: &str = "INSERT OR REPLACE INTO accounted (only, path, text) VALUES (1, ?, ?)";

impl State {
    /// All leases, and what is in the way of reading those that cannot be read.
    pub fn leases(&self) -> Result<(Vec<Lease>, Vec<String>), StateError> {
        self.rows("lease")
    }

    /// Keeps a lease, in place of what was there for its scope.
    pub fn put_lease(&mut self, lease: &Lease) -> Result<(), StateError> {
        self.put("lease", &lease.scope, lease)
    }

    /// Drops the lease of a scope.
    pub fn drop_lease(&mut self, scope: &Scope) -> Result<(), StateError> {
        self.drop_row("lease", scope)
    }

    /// All removed servers, and what is in the way of reading those that cannot be read.
    pub fn removed(&self) -> Result<(Vec<Removed>, Vec<String>), StateError> {
        self.rows("removed")
    }

    /// Keeps a removal.
    pub fn put_removed(&mut self, removed: &Removed) -> Result<(), StateError> {
        self.put("removed", &removed.scope, removed)
    }

    /// Drops a removal.
    pub fn drop_removed(&mut self, scope: &Scope) -> Result<(), StateError> {
        self.drop_row("removed", scope)
    }

    /// The text that ran last and whose removals are all recorded, and the file that said it: there is one data plane, so
    /// what counts is the last, whatever file it came from.
    pub fn accounted(&self) -> Result<Option<(PathBuf, String)>, StateError> {
        let row = self.db.query_row("SELECT path, text FROM accounted", [], |row| {
            Ok((PathBuf::from(row.get::<_, String>(0)?), row.get(1)?))
        });
        self.named(row.optional())
    }

    /// From now on removals are counted from this text.
    pub fn set_accounted(&mut self, path: &Path, text: &str) -> Result<(), StateError> {
        let done = self.db.execute(SET_ACCOUNTED, params![path.to_string_lossy(), text]);
        self.named(done.map(|_| ()))
    }

    /// The last moment that was recorded.
    pub fn mark(&self) -> Result<Option<Mark>, StateError> {
        let row = self.db.query_row("SELECT boot_id, boot_ms, wall_ms FROM mark", [], |row| {
            let boot_ms: i64 = row.get(1)?;
            let time = Time { boot_ms: boot_ms.unsigned_abs(), wall_ms: row.get(2)? };
            Ok(Mark { boot_id: row.get(0)?, time })
        });
        self.named(row.optional())
    }

    /// Records this moment.
    pub fn set_mark(&mut self, mark: &Mark) -> Result<(), StateError> {
        let boot_ms = i64::try_from(mark.time.boot_ms).unwrap_or(i64::MAX);
        let sql = "INSERT OR REPLACE INTO mark (only, boot_id, boot_ms, wall_ms) VALUES (1, ?, ?, ?)";
        let done = self.db.execute(sql, params![mark.boot_id, boot_ms, mark.time.wall_ms]);
        self.named(done.map(|_| ()))
    }

    fn rows<T: DeserializeOwned>(&self, table: &str) -> Result<(Vec<T>, Vec<String>), StateError> {
        let rows = (|| {
            let sql = format!("SELECT backend, service, json FROM {table} ORDER BY backend, service");
            let mut statement = self.db.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        })();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (backend, service, json) in self.named(rows)? {
            match serde_json::from_str(&json) {
                Ok(row) => good.push(row),
                Err(e) => bad.push(format!("the {table} of {backend} {service} in {}: {e}", self.path.display())),
            }
        }
        Ok((good, bad))
    }

    fn put<T: Serialize>(&mut self, table: &str, scope: &Scope, row: &T) -> Result<(), StateError> {
        let json = serde_json::to_string(row).expect("these types have string keys only");
        let sql = format!("INSERT OR REPLACE INTO {table} (backend, service, json) VALUES (?, ?, ?)");
        let done = self.db.execute(&sql, params![scope.backend.as_str(), service(scope), json]);
        self.named(done.map(|_| ()))
    }

    fn drop_row(&mut self, table: &str, scope: &Scope) -> Result<(), StateError> {
        let sql = format!("DELETE FROM {table} WHERE backend = ? AND service = ?");
        let done = self.db.execute(&sql, params![scope.backend.as_str(), service(scope)]);
        self.named(done.map(|_| ()))
    }
}

/// The service's column: empty for all services, which no service is called.
fn service(scope: &Scope) -> &str {
    scope.service.as_ref().map_or("", |s| s.as_str())
}
