//! Keeping events and samples in `journal.db`, on a thread of its own behind a bounded queue: a slow or full disk never
//! holds the actor. What cannot be written is tried again; what no longer fits into the queue is lost, counted, and the
//! loss itself is journalled as soon as that is possible.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{clock, crash};
use crate::core::api::{Event, EventKind};
use crate::io::journal::{Bounds, Journal, Sample};

/// Entries that may wait for the disk: every member of the largest pool may change at once.
const QUEUE: usize = 16_384;
/// Entries of one transaction, at most.
const BATCH: usize = 256;
/// Between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be kept.
#[derive(Debug)]
pub enum Entry {
    /// Something happened.
    Event(Event),
    /// Counters were read.
    Samples(Vec<Sample>),
    /// Nothing more will come.
    End,
}

/// What the thread says of itself.
#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    stop: AtomicBool,
    /// Why it cannot write now.
    trouble: Mutex<Option<String>>,
    /// What was lost before it began.
    notice: Mutex<Option<String>>,
}

/// Where events are left; never waits.
#[derive(Clone, Debug)]
pub struct Pen {
    queue: SyncSender<Entry>,
    shared: Arc<Shared>,
}

/// The thread, to be waited for at the end.
pub struct Chronicle {
    pen: Pen,
    ended: Receiver<()>,
}

/// Starts the thread, which opens `journal.db` in `dir`.
pub fn start(dir: PathBuf) -> std::io::Result<(Pen, Chronicle)> {
    let (pen, queue) = pen(QUEUE);
    let (end, ended) = mpsc::channel();
    let shared = pen.shared.clone();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        Keeper { dir, queue, shared, journal: None, events: Vec::new(), samples: Vec::new(), told: 0 }.run();
        // Nobody listens if the daemon did not wait.
        let _ = end.send(());
    })?;
    Ok((pen.clone(), Chronicle { pen, ended }))
}

/// A pen, and what is left with it.
pub(super) fn pen(queue: usize) -> (Pen, Receiver<Entry>) {
    let (queue, entries) = mpsc::sync_channel(queue);
    (Pen { queue, shared: Arc::default() }, entries)
}

impl Pen {
    /// Has an event kept.
    pub fn event(&self, event: Event) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Entry::Event(event)) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has samples kept. Those that do not fit are no loss: the next ones count from the last that did.
    pub fn samples(&self, samples: Vec<Sample>) {
        let _ = self.queue.try_send(Entry::Samples(samples));
    }

    /// Events that were lost since the daemon started.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// What people should know of the journal, if anything.
    pub fn trouble(&self) -> Option<String> {
        let read = |text: &Mutex<Option<String>>| text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read(&self.shared.trouble).or_else(|| read(&self.shared.notice))
    }
}

impl Chronicle {
    /// Waits until all that was left is written, at most `limit`.
    pub fn finish(self, limit: Duration) {
        self.pen.shared.stop.store(true, Ordering::Relaxed);
        // A full queue needs no last word: the flag is seen once it is empty.
        let _ = self.pen.queue.try_send(Entry::End);
        if self.ended.recv_timeout(limit).is_err() {
            tracing::warn!(
                "the last events may be missing from the journal: the disk did not take them within {limit:?}"
            );
        }
    }
}

struct Keeper {
    dir: PathBuf,
    queue: Receiver<Entry>,
    shared: Arc<Shared>,
    /// None before the first write, and after one that failed for another reason than a full disk.
    journal: Option<Journal>,
    /// Of the batch under way.
    events: Vec<Event>,
    samples: Vec<Sample>,
    /// Of the lost events, how many the journal knows of.
    told: u64,
}

impl Keeper {
    fn run(mut self) {
        while self.gather() {
            while !self.write() {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(RETRY);
            }
        }
    }

    /// Waits for entries and takes as many as there are; whether there will be more.
    fn gather(&mut self) -> bool {
        let mut next = match self.queue.try_recv() {
            Err(TryRecvError::Empty) if !self.shared.stop.load(Ordering::Relaxed) => self.queue.recv().ok(),
            tried => tried.ok(),
        };
        let mut taken = 0;
        while let Some(entry) = next {
            match entry {
                Entry::Event(event) => self.events.push(event),
                Entry::Samples(samples) => self.samples.extend(samples),
                Entry::End => break,
            }
            taken += 1;
            next = if taken < BATCH { self.queue.try_recv().ok() } else { None };
        }
        taken > 0
    }

    /// Writes the batch; whether that is done with.
    fn write(&mut self) -> bool {
        let trouble = match self.try_write() {
            Ok(trouble) => {
                self.events.clear();
                self.samples.clear();
                trouble
            }
            Err(why) => {
                self.say(Some(format!(
                    "events cannot be journalled, which is tried again: {why}; look at the disk's space and health (events \
                     are in the log, too)"
                )));
                return false;
            }
        };
        self.say(trouble);
        true
    }

    fn say(&self, trouble: Option<String>) {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What went wrong after the batch was written is returned; an error means that it was not.
    fn try_write(&mut self) -> Result<Option<String>, String> {
        if crash::fails("journal") {
            return Err("told to fail".to_owned());
        }
        let now = clock::now();
        // Closed before another is opened: what SQLite keeps beside the file goes by its name.
        self.journal.take_if(|journal| !journal.is_in_place());
        let journal = match &mut self.journal {
            Some(journal) => journal,
            closed => {
                let opened = Journal::open_or_begin(&self.dir, Bounds::default(), now.wall_ms / 1000);
                let (journal, notice) = opened.map_err(|e| e.to_string())?;
                if notice.is_some() {
                    *self.shared.notice.lock().unwrap_or_else(PoisonError::into_inner) = notice;
                }
                closed.insert(journal)
            }
        };
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let mut events = self.events.clone();
        if lost > self.told {
            let cause = format!("{} events came while the journal could not be written", lost - self.told);
            let (backend, service, by) = (None, None, None);
            events.push(Event { time: now, backend, service, kind: EventKind::EventsLost, by, cause });
        }
        if let Err(e) = journal.append(&events, &self.samples) {
            // Opening it again checks all its pages, which may have been damaged or exchanged meanwhile.
            if !e.is_full() {
                self.journal = None;
            }
            return Err(e.to_string());
        }
        self.told = lost;
        let grows = |e| {
            format!(
                "old events cannot be removed from the journal, which grows meanwhile; it is tried again with the next: {e}; \
                 look at the disk's space and health"
            )
        };
        Ok(journal.prune(now.wall_ms).err().map(grows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::journal::{EventQuery, Reader};

    const LIMIT: Duration = Duration::from_secs(10);

    fn event(n: u64) -> Event {
        let (backend, service, by) = (None, None, None);
        Event { time: clock::now(), backend, service, kind: EventKind::Configured, by, cause: n.to_string() }
    }

    fn causes(dir: &std::path::Path) -> Vec<String> {
        let Some(reader) = Reader::open(dir).unwrap() else { return Vec::new() };
        let query = EventQuery { limit: 10_000, ..EventQuery::default() };
        reader.events(&query).unwrap().0.into_iter().map(|e| e.cause).collect()
    }

    fn keeper(dir: PathBuf, queue: Receiver<Entry>, pen: &Pen) -> Keeper {
        let shared = pen.shared.clone();
        Keeper { dir, queue, shared, journal: None, events: Vec::new(), samples: Vec::new(), told: 0 }
    }

    #[test]
    fn events_left_before_the_end_are_all_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (pen, chronicle) = start(dir.path().to_owned()).unwrap();
        (0..1000).for_each(|n| pen.event(event(n)));
        chronicle.finish(LIMIT);
        assert_eq!(causes(dir.path()), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!((pen.lost(), pen.trouble()), (0, None));
    }

    #[test]
    fn events_beyond_the_queue_are_counted_and_the_loss_is_journalled() {
        let dir = tempfile::tempdir().unwrap();
        let (pen, queue) = pen(3);
        (0..5).for_each(|n| pen.event(event(n)));
        assert_eq!(pen.lost(), 2);
        let mut keeper = keeper(dir.path().to_owned(), queue, &pen);
        assert!(keeper.gather() && keeper.write());
        let last = causes(dir.path());
        assert_eq!(last[..3], ["0", "1", "2"]);
        assert_eq!(last[3], "2 events came while the journal could not be written");
        // Told once.
        pen.event(event(5));
        assert!(keeper.gather() && keeper.write());
        assert_eq!(causes(dir.path()).len(), 5);
    }

    #[test]
    fn batch_that_cannot_be_written_is_trouble_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let (pen, queue) = pen(3);
        pen.event(event(0));
        let mut keeper = keeper(state.clone(), queue, &pen);
        assert!(keeper.gather() && !keeper.write(), "there is no such folder");
        assert!(pen.trouble().unwrap().contains("which is tried again"));
        std::fs::create_dir(&state).unwrap();
        assert!(keeper.write());
        assert_eq!((causes(&state), pen.trouble()), (vec!["0".to_owned()], None));
    }

    #[test]
    fn events_that_cannot_be_removed_are_not_told_as_events_that_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (pen, queue) = pen(3);
        let mut old = event(0);
        old.time.wall_ms -= 100 * 86_400_000;
        pen.event(old);
        let mut keeper = keeper(dir.path().to_owned(), queue, &pen);
        let refuse = "CREATE TRIGGER no BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'no room'); END";
        drop(Journal::open(dir.path(), Bounds::default()).unwrap());
        let db = rusqlite::Connection::open(dir.path().join("journal.db")).unwrap();
        db.execute_batch(refuse).unwrap();
        assert!(keeper.gather() && keeper.write());
        assert_eq!(causes(dir.path()), ["0"]);
        let trouble = pen.trouble().unwrap();
        assert!(trouble.starts_with("old events cannot be removed from the journal") && trouble.contains("no room"));
    }

    #[test]
    fn journal_removed_by_others_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (pen, queue) = pen(3);
        let mut keeper = keeper(dir.path().to_owned(), queue, &pen);
        for n in 0..2 {
            pen.event(event(n));
            assert!(keeper.gather() && keeper.write());
            assert_eq!(causes(dir.path()), [n.to_string()]);
            std::fs::remove_file(dir.path().join("journal.db")).unwrap();
        }
    }

    #[test]
    fn damaged_journal_is_put_aside_and_that_stays_known() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal.db"), "no database, but long enough for a look at it".repeat(50))
            .unwrap();
        let (pen, queue) = pen(3);
        pen.event(event(0));
        let mut keeper = keeper(dir.path().to_owned(), queue, &pen);
        assert!(keeper.gather() && keeper.write());
        assert_eq!(causes(dir.path()), ["0"]);
        assert!(pen.trouble().unwrap().contains("journal.db.damaged-"), "{:?}", pen.trouble());
    }
}
