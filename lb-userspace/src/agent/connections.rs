//! The agent's connections: how many at once, and how long each may be kept. Knows neither paths nor permissions.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the peers may use up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once. Further ones wait in the kernel's queue until one ends.
    pub(super) connections: usize,
    /// How long a connection may be silent before a request's head is complete: at the beginning, and between requests.
    pub(super) head: Duration,
    /// How long a connection may last in all. Whoever asks often connects again.
    pub(super) life: Duration,
}

impl Limits {
    /// For a few balancers and a Prometheus, each of which asks every few seconds.
    pub(super) const AGENT: Self =
        Self { connections: 64, head: Duration::from_secs(5), life: Duration::from_secs(60) };
}

/// Longest head of a request, bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Serves `router` until `stop`. Requests under way are answered at once, so that stopping does not wait for any.
pub(super) async fn serve<L: Listener>(mut listener: L, router: Router, limits: Limits, stop: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            (io, _) = listener.accept(), if open.len() < limits.connections => {
                open.spawn(connection(io, router.clone(), limits));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

async fn connection(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, limits: Limits) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.call(request.map(Body::new));
        async move { Ok::<Response, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(io), service);
    // An error is the peer's: it hung up, it was too slow, or what it sent is no HTTP.
    let _ = tokio::time::timeout(limits.life, serving).await;
}
