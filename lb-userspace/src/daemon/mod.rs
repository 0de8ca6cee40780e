//! The daemon: one task owns the core and the maps; everything else talks to it.
//!
//! [`run`] puts the parts together in an order in which a refusal changes nothing: privileges, configuration and lock,
//! interfaces, listeners; then the data plane, adopted or new; then the actor, and last the socket. Decisions about
//! backends are the core's, system calls `io`'s; here is only what connects them, and the order of things.

pub(crate) mod absence;
mod actor;
mod alerts;
mod audit;
mod boot;
mod bpf_error;
mod chronicle;
pub mod clock;
mod crash;
mod dialogue;
mod error;
mod file;
mod flows;
pub(crate) mod frozen;
mod handle;
mod heartbeat;
mod host;
mod leases;
pub(crate) mod lock;
mod notify;
mod picture;
mod placing;
mod probes;
mod record;
mod recount;
pub(crate) mod remains;
mod requests;
mod revise;
mod samples;
mod signals;
mod trace;
mod upkeep;
mod verify;
mod who;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::model::Config;
use crate::control::{self, Listeners, daemon::ControlError};
use crate::core::Core;
use crate::core::api::{Event, EventKind};
use crate::io::bpf::{DataPlane, OpenOptions};
use actor::{Actor, Inbox, Parts};
use alerts::Alerts;
use boot::Boot;
use error::system;
use handle::Handle;
use lock::PinLock;
use picture::{Picture, Topic};
use placing::Net;
use probes::Prober;
use signals::Signals;
use upkeep::Upkeep;

/// Messages of one kind that may wait for the actor.
const QUEUE: usize = 1024;
/// How long answers under way may take once the daemon stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// What `rollcall run` was told.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
}

/// Runs the daemon until it is told to stop. Needs a multi-threaded tokio runtime.
pub async fn run(options: RunOptions) -> Result<(), ControlError> {
    let signals = Signals::install()?;
    host::check_privileges()?;
    let path =
        std::path::absolute(&options.config).map_err(|e| system(format!("{}: {e}", options.config.display())))?;
    let boot = boot::boot(&path)?;
    let config = boot.running.config.clone();
    host::check_interfaces(&config, None)?;
    let listeners = control::bind(&config.control.socket, config.control.metrics).await?;
    let pins = PinLock::take(&config.control.pin_dir)?;
    let (plane, adopted) = DataPlane::open(&open_options(&config)).map_err(bpf_error::for_people)?;
    crash::point("after_open");
    let _pins = match pins {
        Some(pins) => Some(pins),
        None => PinLock::take(&config.control.pin_dir)?,
    };
    let result = serve(boot, plane, adopted, listeners, signals).await;
    // A cold start that failed leaves nothing behind; its own error is the one to tell. Once the program forwards, no
    // failure of the daemon takes it away from the flows.
    if result.is_err()
        && !adopted
        && !is_attached(&config)
        && let Err(e) = DataPlane::remove(&config.control.pin_dir)
    {
        tracing::warn!("cannot take down what was begun: {e}");
    }
    result
}

async fn serve(
    boot: Boot,
    mut plane: DataPlane,
    adopted: bool,
    listeners: Listeners,
    signals: Signals,
) -> Result<(), ControlError> {
    let Boot { running, state_dir, journal, lock, bad_file, lost_state, resume } = boot;
    let pin_dir = running.config.control.pin_dir.clone();
    let reader = Arc::new(DataPlane::open_readonly(&pin_dir).map_err(bpf_error::for_people)?);
    let (meta, log) = (plane.meta(), plane.take_log());
    let started = clock::now();
    let (pen, chronicle) = chronicle::start(state_dir.clone())
        .map_err(|e| system(format!("cannot start the thread that writes the journal: {e}")))?;
    let mut picture =
        Picture::new(journal.path().to_owned(), started, adopted, meta.created_boot_ns / 1_000_000, pen.clone());
    let how = if adopted { "adopted" } else { "created" };
    let cause = format!("version {}, {how} the data plane in {}", env!("CARGO_PKG_VERSION"), pin_dir.display());
    picture.happened(EventKind::DaemonStarted, None, cause);
    if let Some(why) = bad_file {
        picture.warn(Topic::BadFile, why);
        picture.file_differs = true;
    }
    if let Some(why) = lost_state {
        picture.warn(Topic::State, why);
    }
    let own = journal.addresses()?.into_iter().collect();
    let net = Net::watch(&running.config, own)?;
    let core = Core::new(rand::random());
    let (publisher, view) = watch::channel(Arc::new(picture.view(core.roll_call(started), &running)));
    let (request_sender, requests) = mpsc::channel(QUEUE);
    let (probe_sender, probed) = mpsc::channel(QUEUE);
    let (report_sender, reports) = mpsc::channel(QUEUE);
    let prober = Prober::new(probe_sender);
    let upkeep = Upkeep::new(reader.clone(), report_sender.clone(), adopted);
    let mut actor =
        Actor::new(Parts { plane, adopted, running, journal, net, picture, prober, probed, upkeep, publisher, core });
    actor.start(resume)?;

    let stop = CancellationToken::new();
    let heartbeat = tokio::spawn(heartbeat::beat(view.clone(), report_sender.clone()));
    let (board_sender, board) = watch::channel(Arc::default());
    let (ack_sender, acks) = mpsc::channel(QUEUE);
    let alerts = Alerts::new(view.clone(), reader.clone(), report_sender.clone(), board_sender, &state_dir)?;
    let alerts = tokio::spawn(alerts.run(acks));
    let handle = Handle::new(view, board, ack_sender, request_sender, reader.clone(), state_dir);
    let server = tokio::spawn(listeners.serve(handle, stop.clone()));
    let collector = tokio::spawn(upkeep::collect(reader, log, report_sender));
    let actor = tokio::spawn(actor.run(Inbox { requests, reports, signals }));
    // Also after a panic: the last events are then needed most.
    let result = actor.await.unwrap_or_else(|e| Err(system(format!("the daemon's main task failed: {e}"))));
    notify::send(notify::STOPPING);
    collector.abort();
    heartbeat.abort();
    alerts.abort();
    stop.cancel();
    if let Ok(Err(e)) = tokio::time::timeout(FAREWELL, server).await {
        tracing::warn!("the control socket's task failed: {e}");
    }
    if let Err(e) = &result {
        let (time, kind, cause) = (clock::now(), EventKind::DaemonStopped, format!("it could not go on: {e}"));
        pen.event(Event { time, backend: None, service: None, kind, by: None, cause });
    }
    // Under the lock: the next daemon writes the same file.
    chronicle.finish(FAREWELL);
    drop(lock);
    result
}

/// Whether the program is on any interface; what cannot be known counts as yes.
fn is_attached(config: &Config) -> bool {
    let attached = DataPlane::open_readonly(&config.control.pin_dir).and_then(|plane| plane.attached());
    attached.map_or(true, |attached| !attached.is_empty())
}

fn open_options(config: &Config) -> OpenOptions {
    OpenOptions {
        pin_dir: config.control.pin_dir.clone(),
        max_flows: config.conntrack.max_flows,
        max_half_open: config.conntrack.max_half_open,
        arena_slots: config.conntrack.arena_slots,
        seed: config.conntrack.seed,
    }
}
