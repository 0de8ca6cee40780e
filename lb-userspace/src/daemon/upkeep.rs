//! What is done again and again: collecting old flows, reading the maps back, giving up members without flows, looking
//! whether the file changed.
//!
//! Long reads run beside the actor on a second, read-only opening of the maps, and report to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{Clock, EXAMINED_PER_RUN};
use tokio::sync::mpsc;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::actor::{Actor, Flow};
use super::picture::Topic;
use super::{clock, crash, file, notify, placing};
use crate::core::api::{Event, Input};
use crate::core::diff::diff;
use crate::core::kernel::KernelState;
use crate::io::bpf::DataPlane;

/// Seconds between two looks at the file and at leaving members.
const LOOK_EVERY: u64 = 5;
/// Seconds between two records of the time: after a reboot, leases are counted from the last.
const MARK_EVERY: u64 = 60;
/// Seconds between two comparisons of the maps with what was decided.
const VERIFY_EVERY: u64 = 10;
/// How long a found and repaired difference stays a warning.
const DRIFT_SHOWN: Duration = Duration::from_secs(600);
/// Every record and every half-open bucket is examined within so many seconds.
const COLLECT_WITHIN: u64 = 10;

/// What work beside the actor came to.
pub enum Report {
    /// The maps as they were read, and the number of writes when the reading began.
    Verified { writes: u64, state: Result<Box<KernelState>, String> },
    /// A collection.
    Collected(Result<(), String>),
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
    drift: Option<Instant>,
}

impl Upkeep {
    /// Reads through `reader`, reports to `reports`.
    pub fn new(reader: Arc<DataPlane>, reports: mpsc::Sender<Report>) -> Self {
        Self { reader, reports, seconds: 0, verifying: false, seeking: false, drift: None }
    }

    /// Reads beside the actor.
    fn beside(&self, read: impl FnOnce(&DataPlane) -> Option<Report> + Send + 'static) {
        let (reader, reports) = (self.reader.clone(), self.reports.clone());
        spawn_blocking(move || {
            if let Some(report) = read(&reader) {
                // Refused only when the daemon is stopping.
                let _ = reports.blocking_send(report);
            }
        });
    }
}

impl Actor {
    /// Called each second.
    pub(super) fn every_second(&mut self) -> Flow {
        self.upkeep.seconds += 1;
        assert!(!crash::fails("panic"), "told to panic");
        notify::send(notify::WATCHDOG);
        self.look_if_blind();
        if self.upkeep.seconds % MARK_EVERY == 1
            && let Err(e) = block_in_place(|| self.journal.set_mark(clock::now()))
        {
            self.picture.warn(Topic::Record, e.message);
        }
        if self.upkeep.seconds.is_multiple_of(LOOK_EVERY) {
            let digest = block_in_place(|| file::digest(self.journal.path()));
            self.picture.file_differs = digest.as_deref() != Some(self.running.sha256.as_str());
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
        self.upkeep.beside(move |plane| {
            let counters = plane.counters().ok()?;
            let idle = |id: &u32| counters.members.get(id).is_none_or(|m| m.active() == 0);
            Some(Report::Drained(leaving.into_iter().filter(idle).collect()))
        });
    }

    fn look_for_unused(&mut self) {
        let leaving = self.core.leaving_addresses().clone();
        if leaving.is_empty() || self.upkeep.seeking {
            return;
        }
        self.upkeep.seeking = true;
        let writes = self.writes;
        self.upkeep.beside(move |plane| {
            // What cannot be read counts as used; the next look may do better.
            let used = plane.sources_in_use(&leaving).unwrap_or_else(|_| leaving.clone());
            Some(Report::Unused { writes, addresses: leaving.difference(&used).copied().collect() })
        });
    }

    fn verify(&mut self) {
        if self.upkeep.verifying {
            return;
        }
        self.upkeep.verifying = true;
        let writes = self.writes;
        self.upkeep.beside(move |plane| {
            Some(Report::Verified { writes, state: plane.read_state().map(Box::new).map_err(|e| e.to_string()) })
        });
    }

    /// Compares what the kernel holds with what was decided, and repairs.
    async fn verified(&mut self, writes: u64, state: Result<Box<KernelState>, String>) {
        let state = match state {
            Ok(state) => state,
            Err(why) => {
                self.picture.warn(Topic::Drift, format!("the maps cannot be read back: {why}"));
                self.upkeep.drift = Some(Instant::now());
                return;
            }
        };
        let meanwhile = writes != self.writes || !self.core.roll_call(clock::now()).settled;
        if !meanwhile {
            let differences = diff(&state, self.core.desired()).len();
            if differences > 0 {
                self.upkeep.drift = Some(Instant::now());
                self.picture.warn(
                    Topic::Drift,
                    format!("something else changed the maps: {differences} operations were needed to repair them"),
                );
                self.input(Input::Maps { meta: self.plane.meta(), state, adopted: true });
            }
        }
        self.verify_pins();
        self.verify_program().await;
    }

    /// Pins cannot be put back without losing what they name; but that they are gone must be known before the restart.
    fn verify_pins(&mut self) {
        let missing = block_in_place(|| self.plane.missing_pins()).join(", ");
        if missing.is_empty() {
            return self.picture.clear(Topic::Pins);
        }
        let dir = self.running.config.control.pin_dir.display();
        let text = format!(
            "someone removed pins below {dir}: {missing}; traffic goes on, but the next start cannot take it over: plan \
             `rollcall down` and a start, which ends every connection"
        );
        self.picture.warn(Topic::Pins, text);
    }

    async fn verify_program(&mut self) {
        let found = match block_in_place(|| self.plane.attached()) {
            Ok(found) => found,
            Err(e) => return self.picture.warn(Topic::Attach, format!("cannot see where the program is: {e}")),
        };
        if !self.placing.is_placed() {
            return;
        }
        // By the configuration and not by what was attached: putting it back may have failed before.
        let missing =
            |name: &&String| device_index(name).is_some_and(|index| !found.iter().any(|f| f.ifindex == index));
        let lost: Vec<&String> = placing::interfaces(&self.running.config).iter().filter(missing).collect();
        if !lost.is_empty() {
            let taken = |name: &&&String| self.picture.attached.iter().any(|a| a.interface == ***name);
            let taken = lost.iter().filter(taken).map(|name| name.as_str()).collect::<Vec<_>>().join(" and ");
            if !taken.is_empty() {
                // Stays to be read when the program is long back: who did it may do it again.
                self.upkeep.drift = Some(Instant::now());
                let text = format!("something took the program off {taken}; it was put back");
                self.picture.warn(Topic::Detached, text);
            }
            self.place_again().await;
        }
    }
}

fn device_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Collects old flows, each second as many as are needed to examine all within [`COLLECT_WITHIN`] seconds.
pub async fn collect(plane: Arc<DataPlane>, reports: mpsc::Sender<Report>) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let buckets = u64::from(plane.meta().half_open_buckets);
    let mut rounds = rounds(buckets, None);
    loop {
        second.tick().await;
        let plane = plane.clone();
        let result = match spawn_blocking(move || plane.collect(rounds)).await {
            Ok(Ok(clock)) => {
                rounds = self::rounds(buckets, Some(&clock));
                Ok(())
            }
            Ok(Err(e)) => Err(e.to_string()),
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
