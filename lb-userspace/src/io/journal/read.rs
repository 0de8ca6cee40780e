//! Reading, without a word with the writer: any process that may read the file, whether a daemon runs or not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, params_from_iter, types::Value};

use super::{Counted, JournalError, Recorded, Sample};
use crate::core::api::Time;

/// How long a reader waits for the moment in which the writer moves its log.
const BUSY: Duration = Duration::from_secs(2);

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Not before this Unix time, ms.
    pub since_ms: Option<i64>,
    /// Before this Unix time, ms.
    pub until_ms: Option<i64>,
    /// Only of this backend.
    pub backend: Option<String>,
    /// Only of this service.
    pub service: Option<String>,
    /// Only those after the event of this number. Then the oldest of them are meant, else the newest.
    pub after: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// The journal, open for reading.
pub struct Reader {
    db: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens `journal.db` in `dir`. `None`: there is no such file.
    pub fn open(dir: &Path) -> Result<Option<Self>, JournalError> {
        let path = super::path(dir);
        if std::fs::metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&path, flags).and_then(|db| {
            db.busy_timeout(BUSY)?;
            Ok(db)
        });
        match opened {
            Ok(db) => Ok(Some(Self { db, path })),
            Err(source) => Err(JournalError::Sqlite { path, source }),
        }
    }

    /// Events that match, oldest first, and whether more would have matched.
    pub fn events(&self, query: &EventQuery) -> Result<(Vec<Recorded>, bool), JournalError> {
        let mut wanted: Vec<&str> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut want = |condition, value: Option<Value>| {
            if let Some(value) = value {
                wanted.push(condition);
                values.push(value);
            }
        };
        want("wall_ms >= ?", query.since_ms.map(Value::from));
        want("wall_ms < ?", query.until_ms.map(Value::from));
        want("backend = ?", query.backend.clone().map(Value::from));
        want("service = ?", query.service.clone().map(Value::from));
        want("id > ?", Some(query.after.unwrap_or(0).into()));
        let order = if query.after.is_some() { "ASC" } else { "DESC" };
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX).saturating_add(1);
        let sql = format!("SELECT * FROM event WHERE {} ORDER BY id {order} LIMIT {limit}", wanted.join(" AND "));
        let mut events = self.rows(&sql, values, event)?;
        let more = events.len() > query.limit;
        events.truncate(query.limit);
        if query.after.is_none() {
            events.reverse();
        }
        Ok((events, more))
    }

    /// What stood at a moment: of each backend, service and kind the last event before it, in order.
    pub fn last_before(&self, wall_ms: i64) -> Result<Vec<Recorded>, JournalError> {
        let sql = "SELECT * FROM event WHERE id IN
                       (SELECT max(id) FROM event WHERE wall_ms < ? GROUP BY backend, service, kind)
                   ORDER BY id";
        self.rows(sql, vec![wall_ms.into()], event)
    }

    /// Gives samples from `since_ms` to `until_ms`, Unix time, one after the other in order; before them, of each member
    /// the last one earlier, from which the first difference is taken.
    pub fn samples(&self, since_ms: i64, until_ms: i64, mut each: impl FnMut(Sample)) -> Result<(), JournalError> {
        let sql = "SELECT * FROM sample WHERE wall_ms >= ?1 AND wall_ms < ?2 OR id IN
                       (SELECT max(id) FROM sample WHERE wall_ms < ?1 GROUP BY service, backend)
                   ORDER BY id";
        // There may be a million.
        self.each_row(sql, vec![since_ms.into(), until_ms.into()], |row| {
            each(sample(row)?);
            Ok(())
        })
    }

    /// The newest event's number; 0 if there is none.
    pub fn newest(&self) -> Result<i64, JournalError> {
        let rows = self.rows("SELECT coalesce(max(id), 0) FROM event", Vec::new(), |row| row.get(0))?;
        Ok(rows.first().copied().unwrap_or(0))
    }

    /// The oldest event's Unix time, ms: nothing is known of what was before.
    pub fn begin_ms(&self) -> Result<Option<i64>, JournalError> {
        let rows = self.rows("SELECT wall_ms FROM event ORDER BY id LIMIT 1", Vec::new(), |row| row.get(0))?;
        Ok(rows.first().copied())
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: Vec<Value>,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let mut rows = Vec::new();
        self.each_row(sql, values, |row| {
            rows.push(read(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    fn each_row(
        &self,
        sql: &str,
        values: Vec<Value>,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), JournalError> {
        let done = (|| {
            let mut statement = self.db.prepare(sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            while let Some(row) = rows.next()? {
                each(row)?;
            }
            Ok(())
        })();
        done.map_err(|source| JournalError::Sqlite { path: self.path.clone(), source })
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<Recorded> {
    let boot_ms: i64 = row.get("boot_ms")?;
    Ok(Recorded {
        id: row.get("id")?,
        time: Time { boot_ms: boot_ms.unsigned_abs(), wall_ms: row.get("wall_ms")? },
        kind: row.get("kind")?,
        backend: row.get("backend")?,
        service: row.get("service")?,
        by: row.get("person")?,
        cause: row.get("cause")?,
    })
}

fn sample(row: &Row<'_>) -> rusqlite::Result<Sample> {
    let counter = |name: &str| row.get::<_, i64>(name).map(i64::unsigned_abs);
    Ok(Sample {
        wall_ms: row.get("wall_ms")?,
        service: row.get("service")?,
        backend: row.get("backend")?,
        counted: Counted {
            opened: counter("opened")?,
            forward_bytes: counter("forward_bytes")?,
            reverse_bytes: counter("reverse_bytes")?,
            unanswered: counter("unanswered")?,
            syn_retransmits: counter("syn_retransmits")?,
            resets_backend: counter("resets_backend")?,
            ports_exhausted: counter("ports_exhausted")?,
            dropped: counter("dropped")?,
        },
    })
}
