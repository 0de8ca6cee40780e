//! HTTP load: what to send, and what came of it.

mod http;

pub(crate) use http::connect;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::testbed::limits;
use crate::testbed::netns::Namespace;

/// How long a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// For request after request, until it fails.
    KeepAlive,
    /// For one request.
    Short,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub target: SocketAddr,
    /// Source addresses, used in turn.
    pub sources: Vec<IpAddr>,
    /// Connections at a time.
    pub workers: usize,
    /// How long a connection is used.
    pub connections: Connections,
    /// Pause of a worker between two requests.
    pub pause: Duration,
    /// Least time between the beginnings of two requests of a worker, so that slow answers do not mean fewer requests.
    /// Workers begin spread over it.
    pub every: Duration,
    /// End after so many requests; `None`: when stopped.
    pub limit: Option<u64>,
    /// Time a connection attempt or a request may take.
    pub timeout: Duration,
    /// CPU to run on.
    pub cpu: Option<usize>,
}

impl Plan {
    /// Four workers, short connections, no pause, no end.
    pub fn new(target: SocketAddr, sources: Vec<IpAddr>) -> Self {
        Self {
            target,
            sources,
            workers: 4,
            connections: Connections::Short,
            pause: Duration::ZERO,
            every: Duration::ZERO,
            limit: None,
            timeout: Duration::from_secs(5),
            cpu: None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests answered as expected.
    pub answered: u64,
    /// Connections opened.
    pub connections: u64,
    /// Connections with at least one answer, by the backend that gave it.
    pub chosen: BTreeMap<String, u64>,
    /// Answers by the backend that gave them.
    pub backends: BTreeMap<String, u64>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Time the slowest answered request took, its connection included if it needed one.
    pub slowest: Duration,
}

/// A request that was not answered as expected.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// The backend that had answered on this connection before, if any.
    pub backend: Option<String>,
    /// What happened.
    pub reason: String,
}

impl Tally {
    /// Adds another's numbers.
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.connections += other.connections;
        for (sum, counts) in [(&mut self.backends, &other.backends), (&mut self.chosen, &other.chosen)] {
            for (name, n) in counts {
                *sum.entry(name.clone()).or_default() += n;
            }
        }
        self.failures.extend(other.failures.iter().cloned());
        self.slowest = self.slowest.max(other.slowest);
    }

    /// What it has more than `earlier`, an older state of the same load. Failures are not divided.
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |later: &BTreeMap<String, u64>, earlier: &BTreeMap<String, u64>| {
            let more = |(name, n): (&String, &u64)| (name.clone(), n - earlier.get(name).copied().unwrap_or(0));
            later.iter().map(more).collect()
        };
        Self {
            answered: self.answered - earlier.answered,
            connections: self.connections - earlier.connections,
            backends: minus(&self.backends, &earlier.backends),
            chosen: minus(&self.chosen, &earlier.chosen),
            ..Self::default()
        }
    }

    /// The share of `backend` in all connections, 0 to 1. Not in requests: a kept connection sends where it is.
    pub fn share(&self, backend: &str) -> f64 {
        let n = self.chosen.get(backend).copied().unwrap_or(0);
        let all: u64 = self.chosen.values().sum();
        if all == 0 { 0.0 } else { n as f64 / all as f64 }
    }
}

/// Running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts it in `host`.
    #[track_caller]
    pub fn start(host: &Namespace, plan: Plan) -> Self {
        limits::raise_open_files();
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let shared = http::Shared { stop: Arc::clone(&stop), tally: Arc::clone(&tally) };
        let thread = host.thread("load", move || http::run(&plan, &shared));
        Self { stop, tally, thread: Some(thread) }
    }

    /// What came of it so far.
    pub fn so_far(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Ends it: what is under way is finished first.
    #[track_caller]
    pub fn stop(self) -> Tally {
        self.begin_to_stop();
        self.wait()
    }

    /// Has it begin nothing new, without waiting for what is under way: for several loads that are to end together.
    pub fn begin_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until the plan's limit is reached.
    #[track_caller]
    pub fn wait(mut self) -> Tally {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.begin_to_stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
