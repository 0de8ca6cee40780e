//! The connections of one listener: how many there may be at once, and how long a peer may keep one without using it.
//! Knows HTTP, but neither paths nor permissions.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the peers of one listener may use up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once. One more ends the one that has been silent for longest; while none is silent it waits.
    pub(super) connections: usize,
    /// How long a connection may be silent before a request's head is complete: at the beginning, and between requests.
    pub(super) head: Duration,
    /// How long a request's body may take to arrive; for handlers that read one.
    pub(super) body: Duration,
    /// How long an answer may take, and then its reader.
    pub(super) exchange: Duration,
}

impl Limits {
    /// For the control socket. An exchange may take longer than the CLI waits, so that its message and not a broken
    /// connection tells what happened.
    pub(super) const CONTROL: Self = Self {
        connections: 128,
        head: Duration::from_secs(10),
        body: Duration::from_secs(10),
        exchange: Duration::from_secs(60),
    };
    /// For metrics over TCP, which everyone who reaches the port may use: few, since each answer reads all counters.
    pub(super) const METRICS: Self = Self { connections: 32, ..Self::CONTROL };
}

/// Serves `router` until `stop`, then until the requests under way are answered. What `peer` finds out about each new
/// connection is its requests' [`ConnectInfo`]; the limits are in their extensions, too.
pub(super) async fn serve<L: Listener, P: Clone + Send + Sync + 'static>(
    mut listener: L,
    router: Router,
    limits: Limits,
    peer: impl Fn(&L::Io) -> P,
    stop: CancellationToken,
) {
    let mut open = Open::default();
    // Any connection's change of use; what it is, is read from the connection's own.
    let (changed, mut changes) = watch::channel(());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            (io, _) = listener.accept(), if open.has_room(limits.connections) => {
                open.make_room(limits.connections);
                let (usage, used) = watch::channel(Use { busy: false, since: Instant::now() });
                let usage = Usage { of_one: usage, of_any: changed.clone() };
                let peer = peer(&io);
                let task = open.tasks.spawn(connection(io, router.clone(), limits, peer, usage, stop.clone()));
                open.known.insert(task.id(), (task, used));
            }
            Some(ended) = open.tasks.join_next_with_id() => {
                open.known.remove(&ended.map_or_else(|e| e.id(), |(id, ())| id));
            }
            Ok(()) = changes.changed() => {}
        }
    }
    drop(listener);
    while open.tasks.join_next().await.is_some() {}
}

/// What a connection is used for.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Whether a request is being answered.
    busy: bool,
    /// Since when.
    since: Instant,
}

struct Usage {
    of_one: watch::Sender<Use>,
    of_any: watch::Sender<()>,
}

impl Usage {
    fn set(&self, busy: bool) {
        self.of_one.send_replace(Use { busy, since: Instant::now() });
        self.of_any.send_replace(());
    }
}

#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    known: HashMap<Id, (AbortHandle, watch::Receiver<Use>)>,
}

impl Open {
    fn has_room(&self, limit: usize) -> bool {
        self.known.len() < limit || self.known.values().any(|(_, used)| !used.borrow().busy)
    }

    /// Ends the connection that has been silent for longest, if there are as many as there may be.
    fn make_room(&mut self, limit: usize) {
        if self.known.len() < limit {
            return;
        }
        let silent = self.known.iter().filter(|(_, (_, used))| !used.borrow().busy);
        if let Some(id) = silent.min_by_key(|(_, (_, used))| used.borrow().since).map(|(id, _)| *id)
            && let Some((task, _)) = self.known.remove(&id)
        {
            task.abort();
        }
    }
}

async fn connection<P: Clone + Send + Sync + 'static>(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: Limits,
    peer: P,
    usage: Usage,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let mut used = usage.of_one.subscribe();
    let usage = std::sync::Arc::new(usage);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        request.extensions_mut().insert(limits);
        usage.set(true);
        let answer = router.call(request.map(Body::new));
        let usage = usage.clone();
        async move {
            let answer: Response = answer.await.unwrap_or_else(|never| match never {});
            usage.set(false);
            Ok::<_, Infallible>(answer)
        }
    });
    // The time for a head runs between requests, too, and so ends connections that are kept alive for nothing.
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .serve_connection(TokioIo::new(io), service)
    );
    let mut stopping = false;
    loop {
        let until = used.borrow_and_update().since + limits.exchange;
        tokio::select! {
            // An error is the peer's: it hung up, it was too slow, or what it sent is no HTTP.
            _ = connection.as_mut() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            Ok(()) = used.changed() => {}
            () = tokio::time::sleep_until(until) => return,
        }
    }
}
