//! The handle that the control socket holds: reads go past the actor, changes go to it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::clock;
use super::error::{stopping, system};
use crate::alert::{Board, Firing};
use crate::config::model::RouteName;
use crate::control::daemon::{
    Actor, AlertAck, ControlError, Daemon, Duty, DutyOutcome, Edit, ErrorCode, FlowQuery, Outcome, RouteTest,
    TraceQuery, View,
};
use crate::control::history::{self, Window};
use crate::control::schema::{AuditReport, Events, Report, Trace};
use crate::io::bpf::DataPlane;
use crate::io::bpf::types::{Counters, FlowRecord};
use crate::io::journal::EventQuery;

/// Where the answer to a request goes.
pub type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// What only the actor can do.
pub enum Request {
    /// Read the file again and apply it.
    Reload(Actor, Reply<Outcome>),
    /// Change file and running state together.
    Edit(Edit, Actor, Reply<Outcome>),
    /// Leases and removals.
    Duty(Duty, Actor, Reply<DutyOutcome>),
    /// Compare kernel and host with what was decided; with an actor, repair.
    Audit(Option<Actor>, Reply<AuditReport>),
    /// Take the data plane down and stop.
    Down(Actor, Reply<()>),
}

/// What only the alerting can do; not by the actor, which may be what the alert is about.
pub struct AckRequest {
    /// What is asked for.
    pub ack: AlertAck,
    /// Who asks.
    pub actor: Actor,
    /// Where the alert, as it is then, goes.
    pub reply: Reply<Firing>,
}

/// See [`Daemon`].
#[derive(Clone)]
pub struct Handle {
    view: watch::Receiver<Arc<View>>,
    board: watch::Receiver<Arc<Board>>,
    acks: mpsc::Sender<AckRequest>,
    requests: mpsc::Sender<Request>,
    /// A second, read-only opening of the pinned maps: reading them needs no word with the actor.
    plane: Arc<DataPlane>,
    /// Where the journal is.
    state_dir: PathBuf,
}

impl Handle {
    /// Reads from `view`, `board`, `plane` and the journal in `state_dir`, sends changes to `requests` and `acks`.
    pub fn new(
        view: watch::Receiver<Arc<View>>,
        board: watch::Receiver<Arc<Board>>,
        acks: mpsc::Sender<AckRequest>,
        requests: mpsc::Sender<Request>,
        plane: Arc<DataPlane>,
        state_dir: PathBuf,
    ) -> Self {
        Self { view, board, acks, requests, plane, state_dir }
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&DataPlane) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let plane = self.plane.clone();
        blocking(move || read(&plane)).await
    }
}

impl Daemon for Handle {
    async fn view(&self) -> Result<Arc<View>, ControlError> {
        Ok(self.view.borrow().clone())
    }

    async fn counters(&self) -> Result<Counters, ControlError> {
        self.read(|plane| plane.counters().map_err(unreadable)).await
    }

    async fn flows(&self, query: FlowQuery) -> Result<(Vec<FlowRecord>, bool), ControlError> {
        let view = self.view().await?;
        let filter = super::flows::filter(&query, &view)?;
        self.read(move |plane| plane.flows(&filter).map_err(unreadable)).await
    }

    async fn trace(&self, query: TraceQuery) -> Result<Trace, ControlError> {
        let view = self.view().await?;
        self.read(move |plane| super::trace::run(plane, &view, &query)).await
    }

    async fn events(&self, query: EventQuery) -> Result<Events, ControlError> {
        let dir = self.state_dir.clone();
        blocking(move || history::events(&dir, &query, clock::now())).await
    }

    async fn report(&self, window: Window) -> Result<Report, ControlError> {
        let dir = self.state_dir.clone();
        blocking(move || history::report(&dir, window, clock::now())).await
    }

    async fn reload(&self, actor: Actor) -> Result<Outcome, ControlError> {
        self.ask(|reply| Request::Reload(actor, reply)).await
    }

    async fn edit(&self, edit: Edit, actor: Actor) -> Result<Outcome, ControlError> {
        self.ask(|reply| Request::Edit(edit, actor, reply)).await
    }

    async fn duty(&self, duty: Duty, actor: Actor) -> Result<DutyOutcome, ControlError> {
        self.ask(|reply| Request::Duty(duty, actor, reply)).await
    }

    async fn audit(&self, repair: Option<Actor>) -> Result<AuditReport, ControlError> {
        let report = self.ask(|reply| Request::Audit(repair, reply)).await?;
        let view = self.view().await?;
        let counts = self.read(move |plane| Ok(super::recount::check(plane, &view))).await?;
        Ok(report.with(counts))
    }

    async fn alerts(&self) -> Result<Arc<Board>, ControlError> {
        Ok(self.board.borrow().clone())
    }

    async fn test_alert(&self, route: Option<RouteName>, actor: Actor) -> Result<Vec<RouteTest>, ControlError> {
        super::alerts::test(&self.view().await?.config.alert_routes, route.as_ref(), &actor).await
    }

    async fn acknowledge(&self, ack: AlertAck, actor: Actor) -> Result<Firing, ControlError> {
        let (reply, answer) = oneshot::channel();
        let request = AckRequest { ack, actor, reply };
        self.acks.send(request).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    async fn down(&self, actor: Actor) -> Result<(), ControlError> {
        self.ask(|reply| Request::Down(actor, reply)).await
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    tokio::task::spawn_blocking(read).await.map_err(|e| system(format!("the read did not end: {e}")))?
}

fn unreadable(e: crate::io::bpf::BpfError) -> ControlError {
    ControlError::new(ErrorCode::System, format!("the kernel's maps cannot be read: {e}"))
}
