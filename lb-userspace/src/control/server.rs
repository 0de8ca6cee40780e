//! Serving: the control socket with all paths, and the read-only metrics listener, until told to stop.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::connections;
use super::daemon::Daemon;
use super::listen::Listeners;
use super::peer::Peer;
use super::routes;

/// How long requests under way may take after `stop`; a peer that sends half a request must not hold up the daemon.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection knows of its peer. An error is answered to each of its requests.
#[derive(Clone, Debug)]
pub(super) struct Connection(pub(super) Arc<Result<Peer, String>>);

impl Connection {
    fn of(socket: &impl AsFd) -> Self {
        Self(Arc::new(Peer::of(socket.as_fd()).map_err(|e| e.to_string())))
    }
}

impl Listeners {
    /// Answers until `stop`; requests under way are finished (for at most five seconds), then the socket's file is removed.
    pub async fn serve<D: Daemon>(self, daemon: D, stop: CancellationToken) {
        let Self { control, metrics, policy, limits, file } = self;
        let over_socket = connections::serve(
            control,
            routes::control(daemon.clone(), policy),
            limits.control,
            Connection::of,
            stop.clone(),
        );
        let over_tcp = async {
            if let Some(listener) = metrics {
                let router = routes::metrics_only(daemon);
                connections::serve(listener, router, limits.metrics, |_| (), stop.clone()).await;
            }
        };
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(over_socket, over_tcp) } => {}
            () = patience => {}
        }
        drop(file);
    }
}
