//! What the daemon shows of itself: warnings, the newest events, and the [`View`] that readers get without waiting.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::boot::Running;
use super::chronicle::Pen;
use super::clock;
pub use crate::control::daemon::Topic;
use crate::control::daemon::{View, Warning};
use crate::core::api::{Event, EventKind, RollCall, Time};
use crate::io::bpf::types::Attached;

/// Newest events kept.
const EVENTS: usize = 256;
/// Between two journalled texts of a warning that stands and changes, ms.
const RETOLD_MS: u64 = 60_000;

/// Warnings, events and what never changes in a run.
pub struct Picture {
    warnings: BTreeMap<Topic, String>,
    /// When the journal was last told of each, CLOCK_BOOTTIME ms.
    told: BTreeMap<Topic, u64>,
    events: VecDeque<Event>,
    pen: Pen,
    path: PathBuf,
    started: Time,
    adopted: bool,
    created_boot_ms: u64,
    /// Where the program is.
    pub attached: Vec<Attached>,
    /// Whether the file differs from what runs.
    pub file_differs: bool,
    /// How many checks of the core found it contradicting itself.
    violations: u64,
}

impl Picture {
    /// Of a daemon that started at `started`.
    pub fn new(path: PathBuf, started: Time, adopted: bool, created_boot_ms: u64, pen: Pen) -> Self {
        Self {
            warnings: BTreeMap::new(),
            told: BTreeMap::new(),
            events: VecDeque::new(),
            pen,
            path,
            started,
            adopted,
            created_boot_ms,
            attached: Vec::new(),
            file_differs: false,
            violations: 0,
        }
    }

    /// Raises a warning, or replaces it; logged when it is new.
    pub fn warn(&mut self, topic: Topic, text: String) {
        if self.warnings.get(&topic) != Some(&text) {
            tracing::warn!("{text}");
            self.raise(topic, text);
        }
    }

    fn raise(&mut self, topic: Topic, text: String) {
        let now = clock::now();
        let stands = self.warnings.contains_key(&topic);
        let told = self.told.get(&topic).is_some_and(|told| now.boot_ms.saturating_sub(*told) < RETOLD_MS);
        if !stands || !told {
            self.told.insert(topic, now.boot_ms);
            self.pen.event(of_daemon(now, EventKind::WarningRaised, None, text.clone()));
        }
        self.warnings.insert(topic, text);
    }

    /// Takes the outcome of a check of the core: a broken invariant is an error of this program, and counted each time.
    pub fn checked(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.clear(Topic::Invariant),
            Err(why) => {
                self.violations += 1;
                tracing::error!("an invariant is broken: {why}");
                let text = format!(
                    "an invariant is broken: {why}. This is an error of rollcall; please report it with the log. Restart the \
                     daemon: it takes the running tables over and decides anew"
                );
                self.raise(Topic::Invariant, text);
            }
        }
    }

    /// Ends a warning.
    pub fn clear(&mut self, topic: Topic) {
        if let Some(text) = self.warnings.remove(&topic) {
            tracing::info!("no longer: {text}");
            self.pen.event(of_daemon(clock::now(), EventKind::WarningCleared, None, text));
        }
    }

    /// Shows what the journal says of itself.
    pub fn look_at_journal(&mut self) {
        match self.pen.trouble() {
            Some(text) => self.warn(Topic::Journal, text),
            None => self.clear(Topic::Journal),
        }
    }

    /// Where counters are left for the journal.
    pub fn pen(&self) -> &Pen {
        &self.pen
    }

    /// Logs and keeps what the daemon itself does, or what is done to it; `by` a person, if one did it.
    pub fn happened(&mut self, kind: EventKind, by: Option<&str>, cause: String) {
        self.record(of_daemon(clock::now(), kind, by, cause));
    }

    /// Logs, keeps and journals an event.
    pub fn record(&mut self, event: Event) {
        let (backend, service) = (event.backend.as_ref(), event.service.as_ref());
        let (backend, service) = (backend.map(tracing::field::display), service.map(tracing::field::display));
        let (kind, cause) = (event.kind, event.cause.as_str());
        match kind {
            EventKind::Down
            | EventKind::OutOfRotation
            | EventKind::BackupInUse
            | EventKind::Panic
            | EventKind::AtLimit
            | EventKind::ServiceAtLimit
            | EventKind::EdgeSuspected
            | EventKind::ApplyFailed
            | EventKind::TooFew
            | EventKind::Outgrown
            | EventKind::GuardOverridden
            | EventKind::NMinusOneUnmet
            | EventKind::ReturnFailed
            | EventKind::Removed
            | EventKind::LeaseEnding
            | EventKind::LeaseIdle
            | EventKind::Renamed
            | EventKind::Overdue
            | EventKind::DriftFound
            | EventKind::DriftLeft
            | EventKind::MemoryShort
            | EventKind::MemoryEnds
            | EventKind::SheddingStuck
            | EventKind::DistributionOff
            | EventKind::AlertFired
            | EventKind::AlertAckEnded => tracing::warn!(backend, service, "{kind:?}: {cause}"),
            _ => tracing::info!(backend, service, "{kind:?}: {cause}"),
        }
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        self.pen.event(event);
    }

    /// The whole picture.
    pub fn view(&self, roll_call: RollCall, running: &Running) -> View {
        let now = roll_call.time;
        let event = |e: &Event| Event { time: e.time.seen_at(now), ..e.clone() };
        View {
            roll_call,
            config: running.config.clone(),
            config_text: running.text.clone(),
            config_path: self.path.clone(),
            file_differs: self.file_differs,
            attached: self.attached.clone(),
            started: self.started.seen_at(now),
            adopted: self.adopted,
            created_boot_ms: self.created_boot_ms,
            warnings: self.warnings.iter().map(|(&topic, text)| Warning { topic, text: text.clone() }).collect(),
            events: self.events.iter().map(event).collect(),
            violations: self.violations,
            frozen: None,
            events_lost: self.pen.lost(),
        }
    }
}

fn of_daemon(time: Time, kind: EventKind, by: Option<&str>, cause: String) -> Event {
    Event { time, backend: None, service: None, kind, by: by.map(str::to_owned), cause }
}

/// Where views are published.
pub type Publisher = watch::Sender<Arc<View>>;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::daemon::chronicle::{self, Entry};

    fn event(n: u64) -> Event {
        let time = Time { boot_ms: n, wall_ms: 0 };
        of_daemon(time, EventKind::Configured, None, "test".into())
    }

    fn picture() -> Picture {
        journalled().0
    }

    /// With what goes into the journal.
    fn journalled() -> (Picture, Receiver<Entry>) {
        let (pen, entries) = chronicle::pen(1000);
        let start = Time { boot_ms: 0, wall_ms: 0 };
        (Picture::new("/etc/rollcall/rollcall.toml".into(), start, false, 0, pen), entries)
    }

    fn kinds(entries: &Receiver<Entry>) -> Vec<EventKind> {
        let kind = |entry| if let Entry::Event(event) = entry { Some(event.kind) } else { None };
        entries.try_iter().filter_map(kind).collect()
    }

    #[test]
    fn journal_gets_events_and_warnings_as_they_come_and_go() {
        let (mut picture, entries) = journalled();
        picture.record(event(1));
        picture.warn(Topic::Drift, "1 operation".into());
        picture.warn(Topic::Drift, "2 operations".into());
        picture.clear(Topic::Drift);
        picture.clear(Topic::Drift);
        picture.warn(Topic::Drift, "3 operations".into());
        use EventKind::{Configured, WarningCleared, WarningRaised};
        assert_eq!(kinds(&entries), [Configured, WarningRaised, WarningCleared, WarningRaised]);
    }

    #[test]
    fn events_beyond_the_limit_push_out_the_oldest() {
        let mut picture = picture();
        (0..300).for_each(|n| picture.record(event(n)));
        assert_eq!(picture.events.len(), EVENTS);
        assert_eq!((picture.events[0].time.boot_ms, picture.events[255].time.boot_ms), (44, 299));
    }

    #[test]
    fn broken_invariant_is_counted_each_time_and_warned_of_while_it_lasts() {
        let mut picture = picture();
        picture.checked(Err("one".into()));
        picture.checked(Err("one".into()));
        assert!(picture.warnings[&Topic::Invariant].contains("broken: one."));
        picture.checked(Ok(()));
        assert_eq!((picture.violations, picture.warnings.len()), (2, 0));
    }

    #[test]
    fn warnings_are_listed_worst_first_and_one_of_each() {
        let mut picture = picture();
        picture.warn(Topic::Mode, "generic".into());
        picture.warn(Topic::Apply, "refused".into());
        picture.warn(Topic::BadFile, "bad".into());
        picture.warn(Topic::Apply, "refused again".into());
        assert_eq!(picture.warnings.values().collect::<Vec<_>>(), ["bad", "refused again", "generic"]);
        picture.clear(Topic::Apply);
        assert_eq!(picture.warnings.values().collect::<Vec<_>>(), ["bad", "generic"]);
    }
}
