//! The handle that the control socket holds: reads go past the actor, changes go to it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::error::{stopping, system};
use crate::alert::Board;
use crate::config::model::RouteName;
use crate::control::daemon::{
    Actor, ControlError, Daemon, Duty, DutyOutcome, Edit, ErrorCode, FlowQuery, Outcome, RouteTest, View,
};
use crate::io::bpf::DataPlane;
use crate::io::bpf::types::{Counters, FlowRecord};

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
    /// Take the data plane down and stop.
    Down(Actor, Reply<()>),
}

/// See [`Daemon`].
#[derive(Clone)]
pub struct Handle {
    view: watch::Receiver<Arc<View>>,
    board: watch::Receiver<Arc<Board>>,
    requests: mpsc::Sender<Request>,
    /// A second, read-only opening of the pinned maps: reading them needs no word with the actor.
    plane: Arc<DataPlane>,
}

impl Handle {
    /// Reads from `view` and `plane`, sends changes to `requests`.
    pub fn new(
        view: watch::Receiver<Arc<View>>,
        board: watch::Receiver<Arc<Board>>,
        requests: mpsc::Sender<Request>,
        plane: Arc<DataPlane>,
    ) -> Self {
        Self { view, board, requests, plane }
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
        let read = tokio::task::spawn_blocking(move || read(&plane));
        read.await.map_err(|e| system(format!("the read did not end: {e}")))?
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

    async fn reload(&self, actor: Actor) -> Result<Outcome, ControlError> {
        self.ask(|reply| Request::Reload(actor, reply)).await
    }

    async fn edit(&self, edit: Edit, actor: Actor) -> Result<Outcome, ControlError> {
        self.ask(|reply| Request::Edit(edit, actor, reply)).await
    }

    async fn duty(&self, duty: Duty, actor: Actor) -> Result<DutyOutcome, ControlError> {
        self.ask(|reply| Request::Duty(duty, actor, reply)).await
    }

    async fn alerts(&self) -> Result<Arc<Board>, ControlError> {
        Ok(self.board.borrow().clone())
    }

    async fn test_alert(&self, route: Option<RouteName>, actor: Actor) -> Result<Vec<RouteTest>, ControlError> {
        super::alerts::test(&self.view().await?.config.alert_routes, route.as_ref(), &actor).await
    }

    async fn down(&self, actor: Actor) -> Result<(), ControlError> {
        self.ask(|reply| Request::Down(actor, reply)).await
    }
}

fn unreadable(e: crate::io::bpf::BpfError) -> ControlError {
    ControlError::new(ErrorCode::System, format!("the kernel's maps cannot be read: {e}"))
}
