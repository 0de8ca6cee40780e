//! Acknowledgements: somebody has seen an alert and works on it, so for a time nobody further is called.
//!
//! An acknowledgement is of one alert, from firing to resolved; the same trouble anew is nobody's. It ends by itself: then
//! the alert escalates again from the first step.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::api::Time;
use crate::core::lease::Owner;

/// How long an acknowledgement holds, unless told otherwise.
pub const DEFAULT: Duration = Duration::from_secs(3600);
/// The longest.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The shortest.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// Bytes of a note.
const LONGEST_NOTE: usize = 1000;

/// Somebody works on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Who.
    pub by: Owner,
    /// What they said.
    pub note: Option<String>,
    /// Since when.
    pub at: Time,
    /// Until when.
    pub until: Time,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckAsked {
    /// Which alert: its key, or as much of the key's parts, from the left, as only one has.
    pub alert: String,
    /// Who.
    pub by: Owner,
    /// For how long.
    pub length: Duration,
    /// What they say.
    pub note: Option<String>,
}

/// Why an alert is not acknowledged, in words that say what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckRefusal {
    /// No alert, or more than one, is called so; which there are.
    NotFound(String),
    /// A bound is not kept.
    Bounds(String),
}

impl Ack {
    /// As asked, from `now` on.
    pub(super) fn new(asked: AckAsked, now: Time) -> Result<Self, AckRefusal> {
        let AckAsked { by, length, note, .. } = asked;
        if !(SHORTEST..=LONGEST).contains(&length) {
            let rule = "an acknowledgement lasts 1 s to 24 h; acknowledge it again when it ends";
            return Err(AckRefusal::Bounds(rule.to_owned()));
        }
        let note = note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty());
        if note.as_ref().is_some_and(|note| note.len() > LONGEST_NOTE || note.chars().any(char::is_control)) {
            let rule = format!("a note is at most {LONGEST_NOTE} bytes without control characters");
            return Err(AckRefusal::Bounds(rule));
        }
        Ok(Self { by, note, at: now, until: now + length })
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.until.boot_ms <= now.boot_ms
    }

    /// After a reboot, by the wall clock: never longer than it was given.
    pub(super) fn carry_over(&mut self, now: Time) {
        let given = self.until.boot_ms.saturating_sub(self.at.boot_ms);
        let left = u64::try_from(self.until.wall_ms.saturating_sub(now.wall_ms)).unwrap_or(0).min(given);
        let begun = now.boot_ms.saturating_sub(given - left);
        self.at.boot_ms = begun;
        self.until = now + Duration::from_millis(left);
    }

    /// `acknowledged by ada for 60 min: on it`.
    pub(super) fn in_words(&self) -> String {
        let minutes = self.until.boot_ms.saturating_sub(self.at.boot_ms).div_ceil(60_000);
        let note = self.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        format!("acknowledged by {} for {minutes} min{note}", self.by.in_words())
    }
}
