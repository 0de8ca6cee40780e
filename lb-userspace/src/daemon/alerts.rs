//! Alerting beside the actor: reads the published view each second, asks [`crate::alert`] what fires, what is over and who
//! is due, and hands messages to one worker for each route. Nothing here can hold up the actor, and no route another.
//!
//! What was told to whom, and who works on it, is kept in `alerts.json` in the state directory: a restart repeats nothing and forgets nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::abi::MemberStats;
use nix::unistd::{Uid, User, gethostname};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, block_in_place, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::error::system;
use super::handle::AckRequest;
use super::upkeep::Report;
use super::{clock, crash, who};
use crate::alert::{
    AckAsked, AckRefusal, Board, Condition, Counted, Delivery, Firing, Load, Message, Outcome, Signals, Tracker,
    conditions,
};
use crate::config::model::{AlertRoute, RouteName};
use crate::control::daemon::{Actor, AlertAck, ControlError, ErrorCode, RouteTest, View};
use crate::io::bpf::DataPlane;
use crate::io::notify;

/// Messages that may wait for a route, and outcomes for this task.
const QUEUE: usize = 32;
/// Looks between two readings of what is in use.
const LOAD_EVERY: u64 = 10;
/// After a start, how long what fired before is taken to stand: probes need time to say.
const GRACE: Duration = Duration::from_secs(30);
const FILE: &str = "alerts.json";

/// See the module.
pub struct Alerts {
    view: watch::Receiver<Arc<View>>,
    reader: Arc<DataPlane>,
    reports: mpsc::Sender<Report>,
    board: watch::Sender<Arc<Board>>,
    file: PathBuf,
    boot_id: String,
    tracker: Tracker,
    workers: BTreeMap<RouteName, Worker>,
    outcomes: (mpsc::Sender<Outcome>, mpsc::Receiver<Outcome>),
    load: Load,
    signals: Signals,
    looks: u64,
    /// Why `alerts.json` cannot be written, if so.
    unsaved: Option<String>,
    /// What the actor was last told of alerting's own troubles.
    trouble: Option<String>,
}

/// Sends by one route, one message after the other. Ends when it is dropped.
struct Worker {
    route: AlertRoute,
    queue: mpsc::Sender<Delivery>,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Alerts {
    /// Goes on with what an earlier daemon left in `state_dir`.
    pub fn new(
        view: watch::Receiver<Arc<View>>,
        reader: Arc<DataPlane>,
        reports: mpsc::Sender<Report>,
        board: watch::Sender<Arc<Board>>,
        state_dir: &Path,
    ) -> Result<Self, ControlError> {
        let (file, boot_id) = (state_dir.join(FILE), clock::boot_id()?);
        let mut tracker = Tracker::new(instance());
        match fs::read(&file).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(saved)) => tracker.resume(saved, &boot_id, clock::now(), GRACE),
            Ok(Err(e)) => tracing::warn!("{}: {e}; alerts that fired before are sent again", file.display()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => tracing::warn!("{}: {e}; alerts that fired before are sent again", file.display()),
        }
        Ok(Self {
            view,
            reader,
            reports,
            board,
            file,
            boot_id,
            tracker,
            workers: BTreeMap::new(),
            outcomes: mpsc::channel(QUEUE),
            load: Load::default(),
            signals: Signals::default(),
            looks: 0,
            unsaved: None,
            trouble: None,
        })
    }

    /// Runs until it is aborted.
    pub async fn run(mut self, mut acks: mpsc::Receiver<AckRequest>) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = second.tick() => self.look().await,
                Some(outcome) = self.outcomes.1.recv() => {
                    if let Err(why) = &outcome.result {
                        tracing::debug!(route = %outcome.delivery.route, "an alert was not delivered: {why}");
                    }
                    let news = self.tracker.settle(outcome, clock::now());
                    self.tell(news.map(Report::Alert));
                }
                Some(AckRequest { ack, actor, reply }) = acks.recv() => {
                    // The peer may have hung up; what was done is done.
                    let _ = reply.send(self.acknowledge(ack, &actor));
                }
            }
            self.after();
        }
    }

    /// One look at the newest view.
    async fn look(&mut self) {
        if self.looks.is_multiple_of(LOAD_EVERY) {
            self.read_load().await;
        }
        self.looks += 1;
        let view = self.view.borrow().clone();
        let routes = &view.config.alert_routes;
        self.follow(routes);
        let now = clock::now();
        let mut found = conditions(&view, &self.load, now);
        found.extend(self.unsaved.as_deref().map(Condition::unsaved));
        self.signals.look(&view);
        let mut found = conditions(&view, &self.load, now);
        found.extend(self.signals.conditions(&view));
        let changes = self.tracker.observe(found, routes, now);
        self.tell(changes.into_iter().map(Report::Alert));
        for delivery in self.tracker.due(routes, now) {
            let Some(worker) = self.workers.get(&delivery.route) else { continue };
            if let Err(mpsc::error::TrySendError::Full(delivery) | mpsc::error::TrySendError::Closed(delivery)) =
                worker.queue.try_send(delivery)
            {
                let result = Err("too many messages wait for it".to_owned());
                self.tracker.settle(Outcome { delivery, result }, now);
            }
        }
    }

    /// Stored before it is in force: after a restart, nobody may be called whom somebody spared.
    fn acknowledge(&mut self, ack: AlertAck, actor: &Actor) -> Result<Firing, ControlError> {
        let AlertAck { alert, for_ms, note, owner } = ack;
        let (now, by) = (clock::now(), who::owner(actor, owner.as_deref())?);
        let asked = AckAsked { alert, by, length: Duration::from_millis(for_ms), note };
        let granted = self.tracker.check_ack(asked, now).map_err(refused)?;
        let saved = self.tracker.saved_with(&granted, &self.boot_id);
        block_in_place(|| save(&self.file, &saved)).map_err(|e| {
            let file = self.file.display();
            system(format!("{file}: {e}; the acknowledgement cannot be kept, so it is not in force"))
                .with_hint("mend the file system, a full disk perhaps; then repeat")
        })?;
        let key = granted.key().to_owned();
        let news = self.tracker.acknowledge(granted, now);
        self.tell(news.map(Report::Alert));
        let board = self.tracker.board(&[], now);
        let acknowledged = board.firing.into_iter().find(|firing| firing.condition.key() == key);
        acknowledged.ok_or_else(|| system(format!("the alert {key} is over")))
    }

    /// Shows and keeps what changed.
    fn after(&mut self) {
        let routes = self.view.borrow().config.clone();
        let board = self.tracker.board(&routes.alert_routes, clock::now());
        if let Some(saved) = self.tracker.to_save(&self.boot_id) {
            let written = block_in_place(|| save(&self.file, &saved));
            if written.is_err() {
                self.tracker.save_again();
            }
            self.unsaved = written.err().map(|e| {
                format!(
                    "{}: {e}; a restart would send alerts again, or not send that they are over",
                    self.file.display()
                )
            });
        }
        let failing = board.routes.iter().filter_map(|r| {
            let (_, why) = r.failing.as_ref()?;
            Some(format!("the alert route {} ({}) does not work: {why}", r.name, r.kind))
        });
        let trouble: Vec<String> = failing.chain(self.unsaved.clone()).collect();
        let trouble = (!trouble.is_empty()).then(|| trouble.join("; "));
        self.board.send_replace(Arc::new(board));
        // Sent again until the actor has taken it.
        if trouble != self.trouble && self.reports.try_send(Report::AlertTrouble(trouble.clone())).is_ok() {
            self.trouble = trouble;
        }
    }

    /// Tells the actor what goes into log and journal. It is not waited for: it may be stuck, which is an alert itself.
    fn tell(&self, reports: impl IntoIterator<Item = Report>) {
        for report in reports {
            if self.reports.try_send(report).is_err() {
                tracing::warn!("the daemon's main task is too busy to record an alert");
            }
        }
    }

    /// Has a worker for each route as it is configured now.
    fn follow(&mut self, routes: &[AlertRoute]) {
        let stays = |worker: &Worker| routes.contains(&worker.route) && !worker.task.is_finished();
        for name in self.workers.iter().filter(|(_, w)| !stays(w)).map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.workers.remove(&name);
            self.tracker.renew(&name);
        }
        for route in routes {
            let outcomes = &self.outcomes.0;
            self.workers.entry(route.name.clone()).or_insert_with(|| Worker::start(route.clone(), outcomes.clone()));
        }
    }

    async fn read_load(&mut self) {
        let reader = self.reader.clone();
        let read = spawn_blocking(move || {
            let counters = reader.counters()?;
            let active = counters.members.iter().map(|(id, member)| (*id, member.active())).collect();
            let counted = counters.members.iter().map(|(id, member)| (*id, self::counted(&member.stats))).collect();
            let load = Load { kept: reader.kept()?, active };
            Ok::<(_, BTreeMap<u32, Counted>), crate::io::bpf::BpfError>((load, counted))
        });
        match read.await {
            Ok(Ok((load, counted))) => {
                self.load = load;
                let view = self.view.borrow().clone();
                self.signals.count(&view, &counted, clock::now());
            }
            Ok(Err(e)) => tracing::debug!("what is in use cannot be read: {e}"),
            Err(e) => tracing::debug!("what is in use was not read: {e}"),
        }
    }
}

fn counted(stats: &MemberStats) -> Counted {
    let MemberStats { opened, unanswered, resets_backend, answers, answer_ns, .. } = *stats;
    Counted { opened, unanswered, resets: resets_backend, answers, answer_ns }
}

impl Worker {
    fn start(route: AlertRoute, outcomes: mpsc::Sender<Outcome>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Delivery>(QUEUE);
        let by = route.clone();
        let task = tokio::spawn(async move {
            while let Some(delivery) = waiting.recv().await {
                let result = notify::send(&by, &delivery.message).await;
                if outcomes.send(Outcome { delivery, result }).await.is_err() {
                    return;
                }
            }
        });
        Self { route, queue, task }
    }
}

/// Sends a test by one route, or by all at once.
pub async fn test(routes: &[AlertRoute], only: Option<&RouteName>, by: &Actor) -> Result<Vec<RouteTest>, ControlError> {
    let chosen: Vec<&AlertRoute> = routes.iter().filter(|route| only.is_none_or(|name| route.name == *name)).collect();
    if chosen.is_empty() {
        return Err(match only {
            Some(name) => {
                ControlError::not_found("alert route", name.as_str(), routes.iter().map(|route| route.name.as_str()))
            }
            None => ControlError::new(ErrorCode::NotFound, "no alert route is configured")
                .with_hint("add an [[alert_route]] to the configuration, then `rollcall reload`"),
        });
    }
    let uid = by.loginuid.unwrap_or(by.uid);
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let who = known.map_or_else(|| format!("uid {uid}"), |user| user.name);
    let instance = instance();
    let each = chosen.into_iter().map(|route| {
        let message = Message::test(&instance, route, &who, clock::now());
        async move {
            let begun = Instant::now();
            let result = notify::send(route, &message).await;
            tracing::info!(route = %route.name, error = result.as_ref().err(), "{}", message.summary);
            RouteTest { route: route.name.clone(), kind: route.target.name(), result, took: begun.elapsed() }
        }
    });
    Ok(futures_util::future::join_all(each).await)
}

pub(super) fn refused(refusal: AckRefusal) -> ControlError {
    match refusal {
        AckRefusal::NotFound(what) => {
            ControlError::new(ErrorCode::NotFound, what).with_hint("`rollcall alert list` shows what fires")
        }
        AckRefusal::Bounds(what) => ControlError::new(ErrorCode::Usage, what),
    }
}

/// This host's name.
pub(super) fn instance() -> String {
    gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".to_owned())
}

/// Replaces the file: a crash leaves the old one or the new one.
pub(super) fn save(file: &Path, saved: &crate::alert::Saved) -> io::Result<()> {
    if crash::fails("save_alerts") {
        return Err(io::Error::other("told to fail"));
    }
    let new = file.with_extension("json.new");
    let mut out = File::create(&new)?;
    out.write_all(&serde_json::to_vec(saved)?)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    // Else a power cut may bring the old one back.
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
