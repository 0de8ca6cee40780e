//! Documents made of the journal: by the daemon for the control socket, and by the command line itself where no daemon
//! runs. Reads `journal.db` and changes nothing.

use std::path::Path;

use jiff::Timestamp;

use super::MAX_EVENTS;
use super::daemon::{ControlError, ErrorCode};
use super::schema::{Events, Facts, Report, Traffic, timestamp};
use crate::core::api::Time;
use crate::io::journal::{EventQuery, JournalError, Reader};

/// A window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its begin.
    pub since: Timestamp,
    /// Its end, after the begin.
    pub until: Timestamp,
}

/// Events of the journal in `dir`, the state directory.
pub fn events(dir: &Path, query: &EventQuery, now: Time) -> Result<Events, ControlError> {
    let reader = open(dir)?;
    let (events, more) = reader.events(query).map_err(unreadable)?;
    let newest = reader.newest().map_err(unreadable)?;
    Ok(Events::new(timestamp(now), events, more, newest))
}

/// What the journal in `dir`, the state directory, knows of a window.
pub fn report(dir: &Path, window: Window, now: Time) -> Result<Report, ControlError> {
    let reader = open(dir)?;
    let (since_ms, until_ms) = (window.since.as_millisecond(), window.until.as_millisecond());
    let query =
        EventQuery { since_ms: Some(since_ms), until_ms: Some(until_ms), limit: MAX_EVENTS, ..EventQuery::default() };
    let facts = || {
        let mut traffic = Traffic::default();
        reader.samples(since_ms, until_ms, |sample| traffic.add(&sample))?;
        Ok(Facts {
            time: timestamp(now),
            window: (window.since, window.until),
            known_since: reader.begin_ms()?.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            stood: reader.last_before(since_ms)?,
            events: reader.events(&query)?,
            traffic,
        })
    };
    Ok(Report::new(facts().map_err(unreadable)?))
}

fn open(dir: &Path) -> Result<Reader, ControlError> {
    Reader::open(dir).map_err(unreadable)?.ok_or_else(|| {
        let what = format!("there is no journal in {}", dir.display());
        ControlError::new(ErrorCode::Unavailable, what)
            .with_hint("a daemon begins it when it starts; --config names the file that says where")
    })
}

fn unreadable(e: JournalError) -> ControlError {
    let denied = matches!(&e, JournalError::Sqlite { path, .. } if std::fs::File::open(path)
        .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied));
    let (code, mend) = if denied {
        (ErrorCode::Permission, "without a daemon the journal can be read by root alone")
    } else if e.is_damage() {
        (ErrorCode::System, "look at the disk's health; the daemon begins a new journal and puts this one aside")
    } else {
        (ErrorCode::System, "look at the disk's space and health, and at the file's mode")
    };
    ControlError::new(code, format!("the journal cannot be read: {e}")).with_hint(mend)
}
