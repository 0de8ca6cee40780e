//! The parameters of a query of the journal: written by the CLI, checked by the server.

use jiff::Timestamp;
use serde::Deserialize;

use super::daemon::{ControlError, ErrorCode};
use super::history::Window;
use super::{DEFAULT_EVENTS, MAX_EVENTS};
use crate::config::model::{BackendName, ServiceName};
use crate::io::journal::EventQuery;

/// `/v1/events?…`, and what the CLI sends there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventParams {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Only of this backend.
    pub backend: Option<String>,
    /// Only of this service.
    pub service: Option<String>,
    /// Only those after the event of this number, the oldest first; else the newest are meant.
    pub after: Option<i64>,
    /// At most so many; default [`DEFAULT_EVENTS`].
    pub limit: Option<usize>,
}

/// `/v1/report?…`, and what the CLI sends there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowParams {
    /// Begin of the window.
    pub since: Timestamp,
    /// Its end; now, if none is given.
    pub until: Option<Timestamp>,
}

impl EventParams {
    /// The request for these parameters. Names and times in UTC need no escaping: none may hold a character that means
    /// something in a query.
    pub fn path(&self) -> String {
        let pairs = [
            ("since", self.since.map(|t| t.to_string())),
            ("until", self.until.map(|t| t.to_string())),
            ("backend", self.backend.clone()),
            ("service", self.service.clone()),
            ("after", self.after.map(|n| n.to_string())),
            ("limit", self.limit.map(|n| n.to_string())),
        ];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        format!("/v1/events?{}", pairs.collect::<Vec<_>>().join("&"))
    }

    /// Checks names and limit. A name that is not configured is none to refuse: its server may have been removed.
    pub fn check(self) -> Result<EventQuery, ControlError> {
        let bad = |kind, name: &str| ControlError::new(ErrorCode::Usage, format!("{name:?} is no name of a {kind}"));
        if let Some(name) = self.backend.as_deref().filter(|name| BackendName::new(name).is_none()) {
            return Err(bad("backend", name));
        }
        if let Some(name) = self.service.as_deref().filter(|name| ServiceName::new(name).is_none()) {
            return Err(bad("service", name));
        }
        let limit = self.limit.unwrap_or(DEFAULT_EVENTS);
        if !(1..=MAX_EVENTS).contains(&limit) {
            return Err(ControlError::new(ErrorCode::Usage, format!("limit is {limit}"))
                .with_hint(format!("ask for 1 to {MAX_EVENTS}")));
        }
        Ok(EventQuery {
            since_ms: self.since.map(Timestamp::as_millisecond),
            until_ms: self.until.map(Timestamp::as_millisecond),
            backend: self.backend,
            service: self.service,
            after: self.after,
            limit,
        })
    }
}

impl WindowParams {
    /// The request for these parameters.
    pub fn path(&self) -> String {
        let until = self.until.map(|t| format!("&until={t}")).unwrap_or_default();
        format!("/v1/report?since={}{until}", self.since)
    }

    /// The window, which must not be empty.
    pub fn check(self, now: Timestamp) -> Result<Window, ControlError> {
        let (since, until) = (self.since, self.until.unwrap_or(now));
        if since >= until {
            return Err(ControlError::new(ErrorCode::Usage, format!("the window from {since} to {until} is empty"))
                .with_hint("--since must be before --until, and before now"));
        }
        Ok(Window { since, until })
    }
}
