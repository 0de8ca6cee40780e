//! What the capacity guard needs to outlive a daemon: accepted risks, and the loads that servers carried.
//!
//! One row each with its JSON form, as leases have it.

use rusqlite::params;
use serde::de::DeserializeOwned;

use super::{State, StateError};
use crate::config::model::{BackendName, ServiceName};
use crate::core::guard::peak::Peak;
use crate::core::risk::Risk;

/// Rows by name, and what is in the way of reading the others.
type Named<T> = (Vec<(String, T)>, Vec<String>);

impl State {
    /// All accepted risks, and what is in the way of reading those that cannot be read.
    pub fn risks(&self) -> Result<(Vec<Risk>, Vec<String>), StateError> {
        let (risks, bad) = self.named_rows("risk")?;
        Ok((risks.into_iter().map(|(_, risk)| risk).collect(), bad))
    }

    /// Keeps a risk, in place of what was there for its service.
    pub fn put_risk(&mut self, risk: &Risk) -> Result<(), StateError> {
        let json = serde_json::to_string(risk).expect("a risk has string keys only");
        let sql = "INSERT OR REPLACE INTO risk (name, json) VALUES (?, ?)";
        let done = self.db.execute(sql, params![column(&risk.service), json]);
        self.named(done.map(|_| ()))
    }

    /// Drops the risk of a service, or of all.
    pub fn drop_risk(&mut self, service: &Option<ServiceName>) -> Result<(), StateError> {
        let done = self.db.execute("DELETE FROM risk WHERE name = ?", [column(service)]);
        self.named(done.map(|_| ()))
    }

    /// What servers carried. What cannot be read is no loss: it is evidence that comes again.
    pub fn peaks(&self) -> Result<Vec<(BackendName, Peak)>, StateError> {
        let (peaks, _) = self.named_rows::<Peak>("peak")?;
        Ok(peaks.into_iter().filter_map(|(name, peak)| Some((BackendName::new(&name)?, peak))).collect())
    }

    /// Keeps what servers carried, all or nothing, and forgets what is older than `oldest_ms`, Unix time, ms.
    pub fn put_peaks(&mut self, peaks: &[(BackendName, Peak)], oldest_ms: i64) -> Result<(), StateError> {
        let done = (|| {
            let tx = self.db.transaction()?;
            for (name, peak) in peaks {
                let json = serde_json::to_string(peak).expect("a peak has string keys only");
                tx.execute(
                    "INSERT OR REPLACE INTO peak (name, newest_wall_ms, json) VALUES (?, ?, ?)",
                    params![name.as_str(), peak.newest_ms().unwrap_or(i64::MIN), json],
                )?;
            }
            tx.execute("DELETE FROM peak WHERE newest_wall_ms < ?", [oldest_ms])?;
            tx.commit()
        })();
        self.named(done)
    }

    fn named_rows<T: DeserializeOwned>(&self, table: &str) -> Result<Named<T>, StateError> {
        let rows = (|| {
            let mut statement = self.db.prepare(&format!("SELECT name, json FROM {table} ORDER BY name"))?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        })();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (name, json) in self.named(rows)? {
            match serde_json::from_str(&json) {
                Ok(row) => good.push((name, row)),
                Err(e) => bad.push(format!("the {table} of {name:?} in {}: {e}", self.path.display())),
            }
        }
        Ok((good, bad))
    }
}

/// The column: empty for all services, which no service is called.
fn column(service: &Option<ServiceName>) -> &str {
    service.as_ref().map_or("", |s| s.as_str())
}
