//! What is done again and again: collecting old flows, reading the maps back, giving up members without flows, looking
//! whether the file changed.
//!
//! Long reads run beside the actor on a second, read-only opening of the maps, and report to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{Clock, EXAMINED_PER_RUN, direct_buckets};
use tokio::sync::mpsc;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::actor::{Actor, Flow};
use super::audit::Auditor;
use super::picture::Topic;
use super::samples::{self, Sampler};
use super::{clock, crash, file, notify};
use crate::core::api::{Event, Input};
use crate::core::kernel::KernelState;
use crate::io::bpf::types::Counters;
use crate::io::bpf::{DataPlane, ProgramLog};

/// Seconds between two looks at the file and at leaving members.
const LOOK_EVERY: u64 = 5;
/// Seconds between two records of the time: after a reboot, leases are counted from the last.
const MARK_EVERY: u64 = 60;
/// Seconds between two comparisons of the maps with what was decided.
const VERIFY_EVERY: u64 = 10;
/// Seconds between two counts of the flows for the core.
const LOAD_EVERY: u64 = 10;
/// Seconds between two samples of the counters for the journal; a multiple of [`LOAD_EVERY`].
const SAMPLE_EVERY: u64 = 60;
/// How long a found and repaired difference stays a warning.
const DRIFT_SHOWN: Duration = Duration::from_secs(600);
/// Every record and every half-open bucket is examined within so many seconds.
const COLLECT_WITHIN: u64 = 10;

/// What work beside the actor came to.
pub enum Report {
    /// The maps as they were read, and the number of writes when the reading began.
    Verified { writes: u64, state: Result<Box<KernelState>, String> },
    /// A heartbeat was sent, or it was not yet time for the first.
    Heartbeat(Result<(), String>),
    /// A collection.
    Collected(Result<(), String>),
    /// Counters were read for the core and, each minute, for the journal.
    Counted { counters: Box<Counters>, for_journal: bool },
    /// Counters of leaving members were read: these have no flow.
    Drained(Vec<u32>),
    /// All flows were read, `writes` as above: these leaving source addresses have none.
    Unused { writes: u64, addresses: Vec<IpAddr> },
    /// An alert fired, was delivered or is over.
    Alert(Event),
    /// What is wrong with alerting itself, if anything.
    AlertTrouble(Option<String>),
}

/// The means for it.
pub struct Upkeep {
    reader: Arc<DataPlane>,
    reports: mpsc::Sender<Report>,
    seconds: u64,
    verifying: bool,
    seeking: bool,
    pub(super) drift: Option<Instant>,
    pub(super) auditor: Auditor,
    sampler: Sampler,
}

impl Upkeep {
    /// Reads through `reader`, reports to `reports`; `adopted`: of a data plane that was found.
    pub fn new(reader: Arc<DataPlane>, reports: mpsc::Sender<Report>, adopted: bool) -> Self {
        let sampler = Sampler::new(adopted);
        Self {
            reader,
            reports,
            seconds: 0,
            verifying: false,
            seeking: false,
            drift: None,
            auditor: Auditor::default(),
            sampler,
        }
    }

    /// Reads beside the actor; a read that panics is reported as `failed` has it.
    fn beside(
        &self,
        read: impl FnOnce(&DataPlane) -> Option<Report> + Send + 'static,
        failed: impl FnOnce(String) -> Option<Report> + Send + 'static,
    ) {
        let (reader, reports) = (self.reader.clone(), self.reports.clone());
        tokio::spawn(async move {
            let read = spawn_blocking(move || read(&reader)).await;
            if let Some(report) = read.unwrap_or_else(|e| failed(e.to_string())) {
                // Refused only when the daemon is stopping.
                let _ = reports.send(report).await;
            }
        });
    }
}

impl Actor {
    /// Called each second.
    pub(super) async fn every_second(&mut self) -> Flow {
        self.upkeep.seconds += 1;
        assert!(!crash::fails("panic"), "told to panic");
        notify::send(notify::WATCHDOG);
        self.look_if_blind();
        self.picture.look_at_journal();
        if self.upkeep.seconds % LOAD_EVERY == 1 {
            // What cannot be read now is read the next time.
            let for_journal = self.upkeep.seconds % SAMPLE_EVERY == 1;
            let read = move |plane: &DataPlane| {
                Some(Report::Counted { counters: Box::new(plane.counters().ok()?), for_journal })
            };
            self.upkeep.beside(read, |_| None);
        }
        self.watch_again().await;
        if self.upkeep.seconds % MARK_EVERY == 1 {
            self.mark();
        }
        if self.upkeep.seconds.is_multiple_of(LOOK_EVERY) {
            self.look_at_file();
            self.look_for_drained();
            self.look_for_unused();
            self.record_again();
        }
        if self.upkeep.seconds.is_multiple_of(VERIFY_EVERY) {
            self.check_core();
            self.verify();
        }
        if self.upkeep.drift.is_some_and(|at| at.elapsed() > DRIFT_SHOWN) {
            self.upkeep.drift = None;
            self.picture.clear(Topic::Drift);
            self.picture.clear(Topic::Detached);
        }
        self.input(Input::Tick)
    }

    /// Whether the file is what runs, and can be read at all.
    fn look_at_file(&mut self) {
        let path = self.journal.path();
        let digest = block_in_place(|| file::digest(path));
        self.picture.file_differs = digest.as_deref() != Some(self.running.sha256.as_str());
        if digest.is_some() {
            return self.picture.clear(Topic::NoFile);
        }
        let text = format!(
            "{} is gone or cannot be read; what it said last runs on. `rollcall config show` prints that: put it back before \
             the next reload or restart",
            path.display()
        );
        self.picture.warn(Topic::NoFile, text);
    }

    /// Takes what work beside the actor came to.
    pub(super) async fn report(&mut self, report: Report) -> Flow {
        match report {
            Report::Verified { writes, state } => {
                self.upkeep.verifying = false;
                self.verified(writes, state).await
            }
            Report::Collected(Ok(())) => self.picture.clear(Topic::Collect),
            Report::Collected(Err(why)) => {
                self.picture.warn(Topic::Collect, format!("old flows are not collected: {why}"));
            }
            Report::Heartbeat(Ok(())) => self.picture.clear(Topic::Heartbeat),
            Report::Heartbeat(Err(why)) => self.picture.warn(Topic::Heartbeat, why),
            Report::Counted { counters, for_journal } => {
                let call = self.core.roll_call(clock::now());
                if for_journal {
                    self.picture.pen().samples(self.upkeep.sampler.take(&call, &counters));
                }
                return self.input(Input::Load(samples::loads(&call, &counters)));
            }
            Report::Alert(event) => self.picture.record(event),
            Report::AlertTrouble(Some(why)) => self.picture.warn(Topic::Alerts, why),
            Report::AlertTrouble(None) => self.picture.clear(Topic::Alerts),
            Report::Drained(members) => {
                self.input(Input::Drained(members));
            }
            Report::Unused { writes, addresses } => {
                self.upkeep.seeking = false;
                if writes == self.writes && !addresses.is_empty() {
                    self.input(Input::Unused(addresses));
                    self.place_again().await;
                }
            }
        }
        Flow::Run
    }

    fn look_for_drained(&self) {
        let leaving: Vec<u32> = self.core.leaving().keys().copied().collect();
        if leaving.is_empty() {
            return;
        }
        let read = move |plane: &DataPlane| {
            let counters = plane.counters().ok()?;
            let idle = |id: &u32| counters.members.get(id).is_none_or(|m| m.active() == 0);
            Some(Report::Drained(leaving.into_iter().filter(idle).collect()))
        };
        self.upkeep.beside(read, |_| None);
    }

    fn look_for_unused(&mut self) {
        let leaving = self.core.leaving_addresses().clone();
        if leaving.is_empty() || self.upkeep.seeking {
            return;
        }
        self.upkeep.seeking = true;
        let writes = self.writes;
        let read = move |plane: &DataPlane| {
            // What cannot be read counts as used; the next look may do better.
            let used = plane.sources_in_use(&leaving).unwrap_or_else(|_| leaving.clone());
            Some(Report::Unused { writes, addresses: leaving.difference(&used).copied().collect() })
        };
        self.upkeep.beside(read, move |_| Some(Report::Unused { writes, addresses: Vec::new() }));
    }

    fn verify(&mut self) {
        if self.upkeep.verifying {
            return;
        }
        self.upkeep.verifying = true;
        let writes = self.writes;
        let report = move |state| Some(Report::Verified { writes, state });
        let read = move |plane: &DataPlane| report(plane.read_state().map(Box::new).map_err(|e| e.to_string()));
        self.upkeep.beside(read, move |why| report(Err(why)));
    }
}

/// Collects old flows, each second as many as are needed to examine all within [`COLLECT_WITHIN`] seconds, and passes on
/// what the program logs meanwhile.
pub async fn collect(plane: Arc<DataPlane>, mut log: Option<ProgramLog>, reports: mpsc::Sender<Report>) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let meta = plane.meta();
    let buckets = u64::from(meta.half_open_buckets.max(direct_buckets(meta.max_flows)));
    let mut rounds = rounds(buckets, None);
    loop {
        second.tick().await;
        let plane = plane.clone();
        let mut lines = log.take();
        let run = spawn_blocking(move || {
            let result = plane.collect(rounds);
            if let Some(lines) = &mut lines {
                lines.flush();
            }
            (result, lines)
        });
        let result = match run.await {
            Ok((result, lines)) => {
                log = lines;
                result.map(|clock| rounds = self::rounds(buckets, Some(&clock))).map_err(|e| e.to_string())
            }
            // Collection goes on with the next second; what is logged is lost from here on.
            Err(e) => Err(e.to_string()),
        };
        if reports.send(Report::Collected(result)).await.is_err() {
            return;
        }
    }
}

/// Runs of `collect` for one second.
fn rounds(buckets: u64, clock: Option<&Clock>) -> u32 {
    let records = clock.map_or(0, |c| c.kept.iter().copied().max().unwrap_or(0));
    let most = buckets.max(records);
    u32::try_from(most.div_ceil(u64::from(EXAMINED_PER_RUN) * COLLECT_WITHIN)).unwrap_or(u32::MAX)
}
