//! Carrying out probes: one short-lived task each, as many at once as there are descriptors for. A probe that had to wait
//! for others that hang would make its healthy backend look dead, so the process takes all descriptors that it may have.
//! When and what to probe is the core's; what a probe does on the wire is `io::probe`'s.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use lb_common::abi::MAX_MEMBERS;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, mpsc};

use super::clock;
use crate::config::memory::{AgentCheck, MemorySource};
use crate::config::model::{BackendName, Probe};
use crate::core::api::{Input, MemberName, Time};
use crate::io::{memory, probe};

/// Descriptors that are left to all that is not a probe.
const OTHER_FILES: usize = 256;
/// However few descriptors there are, so many probes may be under way.
const FEWEST: usize = 64;

/// A probe or a reading that ended.
#[derive(Debug)]
pub struct Probed {
    /// How, for the core.
    pub input: Input,
    /// When.
    pub ended: Time,
}

/// Starts probes and sends back how they ended.
pub struct Prober {
    permits: Arc<Semaphore>,
    results: mpsc::Sender<Probed>,
}

impl Prober {
    /// Results go to `results`.
    pub fn new(results: mpsc::Sender<Probed>) -> Self {
        let files = usize::try_from(raise_file_limit()).unwrap_or(usize::MAX);
        let most = files.saturating_sub(OTHER_FILES).clamp(FEWEST, MAX_MEMBERS as usize);
        Self { permits: Arc::new(Semaphore::new(most)), results }
    }

    /// Starts one; returns at once.
    pub fn start(&self, member: MemberName, id: u64, address: IpAddr, port: u16, probe: Arc<Probe>) {
        let (permits, results) = (self.permits.clone(), self.results.clone());
        tokio::spawn(async move {
            let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            let started = Instant::now();
            let result = probe::check(&probe, address, port).await;
            let input = Input::Probe { member, id, result, took: started.elapsed() };
            // The receiver is gone only when the daemon is stopping.
            let _ = results.send(Probed { input, ended: clock::now() }).await;
        });
    }

    /// Asks a server's agent; returns at once.
    pub fn ask_agent(&self, backend: BackendName, id: u64, check: Arc<AgentCheck>) {
        let (permits, results) = (self.permits.clone(), self.results.clone());
        tokio::spawn(async move {
            let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            let result = memory::ask(&check).await.map_err(|e| e.to_string());
            let _ = results.send(Probed { input: Input::Advice { backend, id, result }, ended: clock::now() }).await;
        });
    }

    /// Starts a reading of a server's memory; returns at once.
    pub fn read_memory(&self, backend: BackendName, id: u64, source: Arc<MemorySource>) {
        let (permits, results) = (self.permits.clone(), self.results.clone());
        tokio::spawn(async move {
            let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            let result = memory::read(&source).await.map_err(|e| e.to_string());
            let _ = results.send(Probed { input: Input::Memory { backend, id, result }, ended: clock::now() }).await;
        });
    }
}

/// Raises the soft limit of open files to the hard one; the limit that then holds.
fn raise_file_limit() -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}
