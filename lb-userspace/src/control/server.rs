//! Serving: the control socket with all paths, and the read-only metrics listener, until told to stop.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::daemon::{ControlError, Daemon, ErrorCode};
use super::listen::{self, Listeners};
use super::peer::Peer;
use super::routes;

/// How long requests under way may take after `stop`; a peer that sends half a request must not hold up the daemon.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a connection knows of its peer. An error is answered to each of its requests.
#[derive(Clone, Debug)]
pub(super) struct Connection(pub(super) Arc<Result<Peer, String>>);

impl Connected<IncomingStream<'_, UnixListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(Arc::new(Peer::of(stream.io().as_fd()).map_err(|e| e.to_string())))
    }
}

impl Listeners {
    /// Answers until `stop`; requests under way are finished (for at most five seconds), then the socket's file is removed.
    pub async fn serve<D: Daemon>(self, daemon: D, stop: CancellationToken) -> Result<(), ControlError> {
        let Self { control, metrics, policy, file } = self;
        let router = routes::control(daemon.clone(), policy).into_make_service_with_connect_info::<Connection>();
        let control = axum::serve(control, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let over_tcp = async {
            match metrics {
                None => Ok(()),
                Some(listener) => {
                    let router = routes::metrics_only(daemon);
                    axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned()).await
                }
            }
        };
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(PATIENCE).await;
        };
        let result = tokio::select! {
            result = async { tokio::try_join!(control.into_future(), over_tcp).map(|_| ()) } => result,
            () = patience => Ok(()),
        };
        drop(file);
        result.map_err(|e| ControlError::new(ErrorCode::System, format!("the control socket failed: {e}")))
    }
}

/// [`listen::bind`], then [`Listeners::serve`]: for callers that need no moment between the two.
pub async fn serve<D: Daemon>(
    daemon: D,
    socket: &std::path::Path,
    metrics: Option<SocketAddr>,
    stop: CancellationToken,
) -> Result<(), ControlError> {
    listen::bind(socket, metrics).await?.serve(daemon, stop).await
}
