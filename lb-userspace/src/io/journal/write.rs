//! Appending, and giving up what is beyond the bounds.

use rusqlite::{Connection, params};

use super::{Journal, JournalError, Recorded, Sample};
use crate::core::api::Event;

/// Rows that one deletion takes at most: so a transaction stays short, however much is beyond the bounds.
const BATCH: i64 = 1000;
/// Deletions after one write at most: more than were written, so the rest goes with the next ones.
const ROUNDS: usize = 16;

impl Journal {
    /// Writes events and samples, all or none.
    pub fn append(&mut self, events: &[Event], samples: &[Sample]) -> Result<(), JournalError> {
        let written = (|| {
            let tx = self.db.transaction()?;
            {
                let mut insert = tx.prepare_cached(
                    "INSERT INTO event (wall_ms, boot_ms, kind, backend, service, person, cause)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )?;
                for event in events {
                    let row = Recorded::new(0, event);
                    let boot_ms = i64::try_from(row.time.boot_ms).unwrap_or(i64::MAX);
                    insert.execute(params![
                        row.time.wall_ms,
                        boot_ms,
                        row.kind,
                        row.backend,
                        row.service,
                        row.by,
                        row.cause
                    ])?;
                }
                let mut insert = tx.prepare_cached(
                    "INSERT INTO sample (wall_ms, service, backend, opened, forward_bytes, reverse_bytes, unanswered,
                                         syn_retransmits, resets_backend, ports_exhausted, dropped)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )?;
                for sample in samples {
                    let n = sample.counted.columns().map(|n| i64::try_from(n).unwrap_or(i64::MAX));
                    insert.execute(params![
                        sample.wall_ms,
                        sample.service,
                        sample.backend,
                        n[0],
                        n[1],
                        n[2],
                        n[3],
                        n[4],
                        n[5],
                        n[6],
                        n[7]
                    ])?;
                }
            }
            tx.commit()
        })();
        self.named(written)
    }

    /// Deletes what is beyond the bounds, oldest first, in batches. `now_ms`: Unix time.
    pub fn prune(&mut self, now_ms: i64) -> Result<(), JournalError> {
        let age_ms = i64::try_from(self.bounds.age.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = now_ms.saturating_sub(age_ms);
        let pruned = (|| {
            for (table, keep) in [("event", self.bounds.events), ("sample", self.bounds.samples)] {
                for _ in 0..ROUNDS {
                    if prune_batch(&self.db, table, keep, oldest_ms)? == 0 {
                        break;
                    }
                }
            }
            Ok(())
        })();
        self.named(pruned)
    }
}

/// One deletion; how many rows it took. Numbers have no gaps, so the newest tells how many there are beyond the oldest.
fn prune_batch(db: &Connection, table: &str, keep: i64, oldest_ms: i64) -> rusqlite::Result<usize> {
    let sql = format!(
        "DELETE FROM {table}
         WHERE id < (SELECT min(id) FROM {table}) + {BATCH}
           AND (id <= (SELECT max(id) FROM {table}) - ?1 OR wall_ms < ?2)"
    );
    db.prepare_cached(&sql)?.execute([keep, oldest_ms])
}
