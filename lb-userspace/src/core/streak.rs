//! What is believed only after several windows running.

use std::time::Duration;

use super::api::Time;

/// Windows running.
pub const RUNNING: u32 = 3;
/// What was found is not known any more when nothing could be decided for so long.
const STALE: Duration = Duration::from_secs(3600);

/// How often running something was found amiss, since when, and when it was last decided.
#[derive(Clone, Debug, Default)]
pub struct Streak {
    windows: u32,
    since: Option<Time>,
    words: String,
    decided: Option<Time>,
}

impl Streak {
    /// Takes a window that began at `began`: well, or amiss in so many words.
    pub fn take(&mut self, amiss: Option<String>, began: Time, now: Time) {
        self.decided = Some(now);
        match amiss {
            None => *self = Self { decided: self.decided, ..Self::default() },
            Some(words) => {
                self.windows += 1;
                self.since.get_or_insert(began);
                self.words = words;
            }
        }
    }

    /// Forgets what is too old to be true still.
    pub fn expire(&mut self, now: Time) {
        if self.decided.is_some_and(|at| (at + STALE).boot_ms <= now.boot_ms) {
            *self = Self::default();
        }
    }

    /// Since when something is amiss, and what, if it is believed.
    pub fn found(&self) -> Option<(Time, &str)> {
        (self.windows >= RUNNING).then_some((self.since?, self.words.as_str()))
    }
}
