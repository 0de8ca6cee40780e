//! The workers that send requests, on one thread.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Connections, Failure, Plan, Tally, lock};

/// What the workers share with their owner.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) tally: Arc<Mutex<Tally>>,
}

/// After a failed attempt, so that a dead target is not asked a million times.
const BREATH: Duration = Duration::from_millis(10);

/// Runs the plan to its end.
pub(super) fn run(plan: &Plan, shared: &Shared) {
    if let Some(cpu) = plan.cpu {
        let mut set = nix::sched::CpuSet::new();
        set.set(cpu).expect("the CPU exists");
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("a thread may choose its CPU");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let started = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let workers = (0..plan.workers as u32).map(|index| {
            let worker = Worker { plan: plan.clone(), shared: shared.clone(), started: Arc::clone(&started) };
            let delay = plan.every * index / plan.workers as u32;
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                worker.run().await;
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("a worker does not panic");
        }
    });
}

struct Worker {
    plan: Plan,
    shared: Shared,
    /// Requests begun by all workers.
    started: Arc<AtomicU64>,
}

/// An open connection and who answers on it.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    backend: Option<String>,
}

impl Worker {
    async fn run(self) {
        let mut connection = None;
        while let Some(number) = self.next() {
            let begun = Instant::now();
            let result = self.one(&mut connection, number).await;
            match result {
                Ok(backend) => {
                    let mut tally = lock(&self.shared.tally);
                    tally.answered += 1;
                    tally.slowest = tally.slowest.max(begun.elapsed());
                    *tally.backends.entry(backend).or_default() += 1;
                }
                Err(reason) => {
                    let backend = connection.take().and_then(|c: Connection| c.backend);
                    lock(&self.shared.tally).failures.push(Failure { at: Instant::now(), backend, reason });
                    tokio::time::sleep(BREATH).await;
                }
            }
            if self.plan.connections == Connections::Short {
                connection = None;
            }
            let pause = self.plan.pause.max(self.plan.every.saturating_sub(begun.elapsed()));
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The number of the next request, unless this is the end.
    fn next(&self) -> Option<u64> {
        if self.shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        self.plan.limit.is_none_or(|limit| number < limit).then_some(number)
    }

    /// One request; the connection stays in place, so that a failure knows whose it was.
    async fn one(&self, connection: &mut Option<Connection>, number: u64) -> Result<String, String> {
        let open = match connection {
            Some(open) => open,
            None => {
                let source = self.plan.sources[number as usize % self.plan.sources.len()];
                let opened = timeout(self.plan.timeout, open(source, self.plan.target)).await;
                let sender = opened.map_err(|_| format!("no connection from {source} in time"))??;
                lock(&self.shared.tally).connections += 1;
                connection.insert(Connection { sender, backend: None })
            }
        };
        let answer = timeout(self.plan.timeout, ask(&mut open.sender, self.plan.target)).await;
        let backend = answer.map_err(|_| "no answer in time".to_owned())??;
        if let Some(first) = &open.backend
            && *first != backend
        {
            return Err(format!("one connection, two servers: {first}, then {backend}"));
        }
        if open.backend.replace(backend.clone()).is_none() {
            *lock(&self.shared.tally).chosen.entry(backend.clone()).or_default() += 1;
        }
        Ok(backend)
    }
}

async fn open(source: IpAddr, target: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, String> {
    let stream = connect(source, target).await.map_err(|e| format!("cannot connect from {source}: {e}"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Ends with the sender. Its error is the request's, too, which reports it.
    tokio::spawn(connection);
    Ok(sender)
}

/// A TCP connection from `source`.
pub(crate) async fn connect(source: IpAddr, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    socket.bind((source, 0).into())?;
    socket.connect(target).await
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, target: SocketAddr) -> Result<String, String> {
    let request = Request::get("/").header("host", target.to_string()).body(Empty::new()).map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| describe(&e))?;
    let status = answer.status();
    let backend = answer.headers().get("x-backend").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = answer.into_body().collect().await.map_err(|e| describe(&e))?.to_bytes();
    match backend {
        Some(name) if status == StatusCode::OK && body == name.as_bytes() => Ok(name),
        _ => Err(format!("unexpected answer: {status}, from {backend:?}, {} bytes", body.len())),
    }
}

/// hyper's own words leave out the cause.
fn describe(error: &hyper::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
