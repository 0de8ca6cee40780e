//! The memory fact of one server: what its samples say.
//!
//! Owns thresholds, hysteresis and silence; not when samples are fetched, nor what the fact means for a weight
//! ([`super::shed`]).
//!
//! A single odd sample changes nothing, because the median of the last three decides. It gets worse at once, but better
//! only after [`CALM`] above a threshold that lies higher than the one that was crossed, so it does not flap: a garbage
//! collector that touches 20 % every minute is tight, not tight and ample in turn.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::api::Time;
use super::sample::Sample;
use super::theil_sen::median;
use super::thresholds::Thresholds;

/// How long headroom must have been better before the fact is.
pub const CALM: Duration = Duration::from_mins(2);
/// Samples whose median decides.
const SMOOTHED: usize = 3;

/// How a server's memory is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Thresholds of headroom.
    pub thresholds: Thresholds,
    /// Time between two samples.
    pub interval: Duration,
    /// So many intervals without a good sample make it unknown; at least 1.
    pub silent_after: u32,
}

/// The fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// No source is configured. A lint, not an alarm.
    NotMonitored,
    /// The source is silent, or says what cannot be true.
    Unknown {
        /// Since when.
        since: Time,
        /// The last error.
        why: String,
    },
    /// Headroom to spare.
    Ample,
    /// Little headroom.
    Tight,
    /// Next to none.
    Exhausted,
}

impl Memory {
    /// Names of what memory can be where there is a source.
    pub const MONITORED: [&str; 4] = ["unknown", "ample", "tight", "exhausted"];

    /// The name that CLI and metrics print.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotMonitored => "not_monitored",
            Self::Unknown { .. } => "unknown",
            Self::Ample => "ample",
            Self::Tight => "tight",
            Self::Exhausted => "exhausted",
        }
    }

    /// Tight or exhausted.
    pub fn is_short(&self) -> bool {
        matches!(self, Self::Tight | Self::Exhausted)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Exhausted,
    Tight,
    Ample,
}

impl Level {
    /// What headroom means, coming from a better state.
    fn falling(headroom: f64, thresholds: Thresholds) -> Self {
        Self::by(headroom, thresholds.exhausted(), thresholds.tight())
    }

    /// What headroom means, coming from a worse state.
    fn rising(headroom: f64, thresholds: Thresholds) -> Self {
        Self::by(headroom, thresholds.tight_again(), thresholds.ample_again())
    }

    fn by(headroom: f64, exhausted: f64, tight: f64) -> Self {
        match headroom {
            h if h < exhausted => Self::Exhausted,
            h if h < tight => Self::Tight,
            _ => Self::Ample,
        }
    }

    fn memory(self) -> Memory {
        match self {
            Self::Exhausted => Memory::Exhausted,
            Self::Tight => Memory::Tight,
            Self::Ample => Memory::Ample,
        }
    }
}

/// A change of the fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: Memory,
    /// What it is now.
    pub to: Memory,
    /// Why, in words.
    pub cause: String,
}

/// The fact and what it was concluded from. Servers without a source have none, and are [`Memory::NotMonitored`].
#[derive(Clone, Debug)]
pub struct Tracker {
    settings: Settings,
    memory: Memory,
    since: Time,
    /// What it was when last known: hysteresis outlives a silence.
    level: Option<Level>,
    /// Since when all samples were better than `level`, and the worst that they meant.
    calm: Option<(u64, Level)>,
    recent: VecDeque<f64>,
    last: Option<(Time, Sample)>,
    /// Why the last sample was none.
    error: Option<String>,
    /// When it becomes unknown without another good sample, or is told to be still, CLOCK_BOOTTIME ms; `None`: it is.
    silent_at_ms: Option<u64>,
}

impl Tracker {
    /// A server before its first sample.
    pub fn new(settings: Settings, now: Time) -> Self {
        Self {
            settings,
            memory: Memory::Unknown { since: now, why: "no sample has come yet".to_owned() },
            since: now,
            level: None,
            calm: None,
            recent: VecDeque::new(),
            last: None,
            error: None,
            silent_at_ms: Some((now + settings.interval * settings.silent_after.max(1)).boot_ms),
        }
    }

    /// Other settings hold from the next sample on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Takes a sample, or why there is none. One that cannot be true is taken as none.
    pub fn record(&mut self, result: Result<Sample, String>, now: Time) -> Option<Change> {
        match result.and_then(plausible) {
            Ok(sample) => self.take(sample, now),
            Err(why) => {
                if let Memory::Unknown { why: last, .. } = &mut self.memory {
                    why.clone_into(last);
                }
                self.error = Some(why);
                self.tick(now)
            }
        }
    }

    /// Time passed: the source may have been silent for too long.
    pub fn tick(&mut self, now: Time) -> Option<Change> {
        if self.silent_at_ms.is_none_or(|at| now.boot_ms < at) {
            return None;
        }
        self.silent_at_ms = None;
        self.recent.clear();
        self.calm = None;
        let why = self.error.clone().unwrap_or_else(|| "no answer".to_owned());
        let last = self.last.map_or(self.since, |(last, _)| last);
        let seconds = now.boot_ms.saturating_sub(last.boot_ms) / 1000;
        let cause = format!("no good sample for {seconds} s: {why}");
        if matches!(self.memory, Memory::Unknown { .. }) {
            // Never was known: since when stays what it is, but people are told.
            return Some(Change { from: self.memory.clone(), to: self.memory.clone(), cause });
        }
        self.enter(Memory::Unknown { since: now, why }, cause, now)
    }

    /// When to call [`Tracker::tick`] if no sample comes before, CLOCK_BOOTTIME ms; `None`: no need.
    pub fn next_ms(&self) -> Option<u64> {
        self.silent_at_ms
    }

    /// The fact.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Since when the fact holds.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Thresholds in force.
    pub fn thresholds(&self) -> Thresholds {
        self.settings.thresholds
    }

    /// The median of the last three samples' headroom, 0 to 1; `None` while unknown.
    pub fn headroom(&self) -> Option<f64> {
        self.silent_at_ms?;
        median(self.recent.iter().copied().collect())
    }

    /// The last good sample and when it came, however long ago.
    pub fn last(&self) -> Option<&(Time, Sample)> {
        self.last.as_ref()
    }

    fn take(&mut self, sample: Sample, now: Time) -> Option<Change> {
        self.last = Some((now, sample));
        self.error = None;
        let silent_after = self.settings.interval * self.settings.silent_after.max(1);
        self.silent_at_ms = Some((now + silent_after).boot_ms);
        self.recent.push_back(sample.headroom());
        if self.recent.len() > SMOOTHED {
            self.recent.pop_front();
        }
        let headroom = self.headroom()?;
        let level = self.judge(headroom, now.boot_ms);
        self.level = Some(level);
        let thresholds = self.settings.thresholds;
        let (than, share) = match level {
            Level::Exhausted => ("below", thresholds.exhausted()),
            Level::Tight if headroom < thresholds.tight() => ("below", thresholds.tight()),
            Level::Tight => ("not yet above", thresholds.ample_again()),
            Level::Ample => ("not below", thresholds.tight()),
        };
        let cause = format!("headroom is {:.1} %, {than} {:.1} %", headroom * 100.0, share * 100.0);
        self.enter(level.memory(), cause, now)
    }

    fn judge(&mut self, headroom: f64, now_ms: u64) -> Level {
        let thresholds = self.settings.thresholds;
        let falling = Level::falling(headroom, thresholds);
        let Some(level) = self.level.filter(|&level| level <= falling) else {
            self.calm = None;
            return falling;
        };
        let rising = Level::rising(headroom, thresholds);
        if rising <= level {
            self.calm = None;
            return level;
        }
        let (since, worst) = self.calm.map_or((now_ms, rising), |(since, worst)| (since, worst.min(rising)));
        self.calm = Some((since, worst));
        if u128::from(now_ms.saturating_sub(since)) < CALM.as_millis() {
            return level;
        }
        self.calm = None;
        worst
    }

    fn enter(&mut self, to: Memory, cause: String, now: Time) -> Option<Change> {
        if self.memory == to {
            return None;
        }
        self.since = now;
        let from = std::mem::replace(&mut self.memory, to.clone());
        Some(Change { from, to, cause })
    }
}

/// Headroom must be a share: no division by nothing, and nothing above the whole.
fn plausible(sample: Sample) -> Result<Sample, String> {
    if sample.total_bytes == 0 || sample.available_bytes > sample.total_bytes {
        let Sample { total_bytes, available_bytes, .. } = sample;
        return Err(format!("{available_bytes} bytes available of {total_bytes} cannot be true"));
    }
    Ok(sample)
}

#[cfg(test)]
mod tests;
