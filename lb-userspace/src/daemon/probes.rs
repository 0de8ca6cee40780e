//! Carrying out probes: one short-lived task each, limited in number so that a large pool cannot use up descriptors.
//! When and what to probe is the core's; what a probe does on the wire is `io::probe`'s.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use crate::config::model::Probe;
use crate::core::api::MemberName;
use crate::io::probe;

/// Most probes on the wire at once; each holds one descriptor.
const MAX_UNDER_WAY: usize = 512;

/// How one probe ended.
#[derive(Debug)]
pub struct Probed {
    /// Whose.
    pub member: MemberName,
    /// The number that the core gave it.
    pub id: u64,
    /// Success, or why not.
    pub result: Result<(), String>,
    /// How long it was on the wire.
    pub took: Duration,
}

/// Starts probes and sends back how they ended.
pub struct Prober {
    permits: Arc<Semaphore>,
    results: mpsc::Sender<Probed>,
}

impl Prober {
    /// Results go to `results`.
    pub fn new(results: mpsc::Sender<Probed>) -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_UNDER_WAY)), results }
    }

    /// Starts one; returns at once.
    pub fn start(&self, member: MemberName, id: u64, address: IpAddr, port: u16, probe: Arc<Probe>) {
        let (permits, results) = (self.permits.clone(), self.results.clone());
        tokio::spawn(async move {
            let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            let started = Instant::now();
            let result = probe::check(&probe, address, port).await;
            // The receiver is gone only when the daemon is stopping.
            let _ = results.send(Probed { member, id, result, took: started.elapsed() }).await;
        });
    }
}
