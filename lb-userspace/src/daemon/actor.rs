//! The one task that owns the core and writes the maps. It turns what happens into inputs, and outputs into deeds; what
//! it decides itself is only when: to attach, to verify, to try again.
//!
//! Calls into the kernel and the file system are made in place (`block_in_place`): they are short, a grace period being
//! the longest, and probes, readers and the network watcher run on other threads meanwhile.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::boot::{Resume, Running};
use super::clock;
use super::error::system;
use super::handle::Request;
use super::picture::{Picture, Publisher, Topic};
use super::placing::{Net, Placing};
use super::probes::{Probed, Prober};
use super::record::Unrecorded;
use super::revise::Journal;
use super::signals::{Signal, Signals};
use super::upkeep::{Report, Upkeep};
use crate::control::daemon::ControlError;
use crate::core::Core;
use crate::core::api::{EventKind, Input, Time};
use crate::io::bpf::DataPlane;
use crate::io::net::NetEvent;

/// How often a view is published without a request, at most.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// How often to look whether the core has settled, where someone waits for it.
const SETTLE_STEP: Duration = Duration::from_millis(20);

/// Everything that is sent to the actor.
pub struct Inbox {
    /// From the control socket.
    pub requests: mpsc::Receiver<Request>,
    /// Work beside the actor that ended.
    pub reports: mpsc::Receiver<Report>,
    /// From the process's parent or its operator.
    pub signals: Signals,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Run,
    /// Stop the daemon.
    Stop,
}

/// See the module.
pub struct Actor {
    pub(super) core: Core,
    pub(super) plane: DataPlane,
    pub(super) running: Running,
    pub(super) journal: Journal,
    pub(super) net: Net,
    /// What the core last asked to resolve.
    pub(super) resolving: Vec<IpAddr>,
    pub(super) picture: Picture,
    pub(super) placing: Placing,
    pub(super) upkeep: Upkeep,
    /// Raised with each list of operations: a read-back that began before the last of them proves nothing.
    pub(super) writes: u64,
    pub(super) prober: Prober,
    /// Probes that ended.
    pub(super) probed: mpsc::Receiver<Probed>,
    /// When the core last got an input: its time never goes back.
    pub(super) told: Time,
    pub(super) publisher: Publisher,
    /// Whether a write failed and the maps have not been read since.
    pub(super) blind: bool,
    /// What `state.db` does not know yet.
    pub(super) unrecorded: Unrecorded,
    published: Instant,
    /// Whether something happened since.
    stale: bool,
}

/// What an [`Actor`] is made of.
pub struct Parts {
    /// The maps.
    pub plane: DataPlane,
    /// Whether they were found pinned.
    pub adopted: bool,
    /// What to run.
    pub running: Running,
    /// The file and its history.
    pub journal: Journal,
    /// The network watcher.
    pub net: Net,
    /// What to show.
    pub picture: Picture,
    /// Starts probes.
    pub prober: Prober,
    /// Probes that ended.
    pub probed: mpsc::Receiver<Probed>,
    /// Reads the maps back.
    pub upkeep: Upkeep,
    /// Where views go.
    pub publisher: Publisher,
    /// The core.
    pub core: Core,
}

impl Actor {
    /// Puts the parts together; nothing happens before [`Actor::run`].
    pub fn new(parts: Parts) -> Self {
        let Parts { plane, adopted, running, journal, net, picture, prober, probed, upkeep, publisher, core } = parts;
        let attached = plane.attached().is_ok_and(|attached| !attached.is_empty());
        Self {
            core,
            plane,
            running,
            journal,
            net,
            resolving: Vec::new(),
            picture,
            placing: Placing::new(adopted, attached, clock::now()),
            upkeep,
            writes: 0,
            prober,
            probed,
            told: clock::now(),
            publisher,
            blind: false,
            unrecorded: Unrecorded::default(),
            published: Instant::now(),
            stale: true,
        }
    }

    /// Runs until told to stop. An error means that the data plane could not be brought up.
    pub async fn run(mut self, mut inbox: Inbox) -> Result<(), ControlError> {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.wake();
            let flow = tokio::select! {
                Some(request) = inbox.requests.recv() => self.request(request).await,
                Some(signal) = inbox.signals.recv() => self.signal(signal).await,
                Some(event) = self.net.events.recv() => self.net_event(event).await,
                Some(probed) = self.probed.recv() => {
                    self.tell_at(probed.ended, probed.input);
                    self.tell_probed();
                    self.obey()
                }
                Some(report) = inbox.reports.recv() => self.report(report).await,
                _ = second.tick() => self.every_second().await,
                () = sleep_until(wake) => self.input(Input::Tick),
                () = sleep_until(self.published + PUBLISH_EVERY), if self.stale => {
                    self.publish();
                    continue;
                }
            };
            if flow == Flow::Stop {
                return Ok(());
            }
            self.stale = true;
            self.place_if_ready().await?;
            if self.published.elapsed() >= PUBLISH_EVERY {
                self.publish();
            }
        }
    }

    /// First inputs: what the kernel holds, then what it should.
    pub fn start(&mut self, resume: Resume) -> Result<(), ControlError> {
        if !resume.warnings.is_empty() {
            self.picture.warn(Topic::Resume, resume.warnings.join("; "));
        }
        let how = resume.other_file.map_or_else(
            || "start".to_owned(),
            |file| format!("start with another file than before, {}", file.display()),
        );
        self.tell(resume.input);
        let state = block_in_place(|| self.plane.read_state())
            .map_err(|e| system(format!("the pinned maps cannot be read back: {e}")))?;
        self.tell(Input::Maps { meta: self.plane.meta(), state: Box::new(state), adopted: self.placing.adopted() });
        let change = self.running.change(&how);
        self.input(Input::Configure(self.running.config.clone(), change.author()));
        self.record_start(&how);
        self.publish();
        Ok(())
    }

    async fn signal(&mut self, signal: Signal) -> Flow {
        match signal {
            Signal::Stop => {
                let cause = "by a signal; the data plane stays up (`rollcall down` removes it)";
                self.picture.happened(EventKind::DaemonStopped, None, cause.to_owned());
                self.part();
                Flow::Stop
            }
            Signal::Reload => {
                match self.reload(None).await {
                    Ok(outcome) if outcome.changes.is_empty() => tracing::info!("reload: nothing changed"),
                    Ok(outcome) => tracing::info!("reload: {}", outcome.changes.join("; ")),
                    Err(e) => tracing::error!("reload refused, nothing was changed: {e}"),
                }
                self.publish();
                Flow::Run
            }
        }
    }

    /// Notes when the daemon was last there, and says whose leases nobody will end from now on.
    fn part(&mut self) {
        let now = clock::now();
        if let Err(e) = block_in_place(|| self.journal.set_mark(now)) {
            tracing::warn!("when the daemon stopped could not be recorded: {e}");
        }
        for lease in self.core.roll_call(now).leases {
            let (kind, scope, owner) = (lease.kind.name(), &lease.scope, &lease.owner.name);
            tracing::warn!("stopping with a lease: the {kind} of {scope} by {owner} does not end while no daemon runs");
        }
    }

    async fn net_event(&mut self, event: NetEvent) -> Flow {
        let mut next = Some(event);
        // All that are there at once: they come in bursts.
        while let Some(event) = next {
            match event {
                NetEvent::Links(macs) => self.tell(Input::Links(macs)),
                NetEvent::NextHop(address, hop) => self.tell(Input::NextHop(address, hop)),
                NetEvent::Addresses(managed) => drop(self.take_managed(managed)),
                NetEvent::LinkGone(name) => self.link_gone(&name),
                NetEvent::LinkBack(name) => {
                    tracing::info!("interface {name} is back");
                    self.place_again().await;
                }
            }
            next = self.net.events.try_recv().ok();
        }
        self.obey()
    }

    /// When time itself is the next input.
    fn wake(&self) -> Instant {
        let far = Duration::from_secs(3600);
        Instant::now() + self.core.poll_timeout().map_or(far, |then| clock::until(clock::now(), then))
    }

    /// Waits until the kernel holds all that was decided, at most `limit`; says whether it does.
    pub(super) async fn settle(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.core.roll_call(clock::now()).settled {
            if Instant::now() >= end {
                return false;
            }
            sleep_until(self.wake().min(Instant::now() + SETTLE_STEP)).await;
            self.input(Input::Tick);
        }
        true
    }

    /// Shows readers the newest picture.
    pub(super) fn publish(&mut self) {
        let roll_call = self.core.roll_call(clock::now());
        self.publisher.send_replace(Arc::new(self.picture.view(roll_call, &self.running)));
        self.published = Instant::now();
        self.stale = false;
    }
}
