//! The demo's UDP part: servers as processes, and a client that asks from a new port each time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, FAMILIES};
use lb_tests::testbed::process::Process;
use lb_tests::testbed::{load, udp};

const PAUSE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Serves both families in this process, for ever.
pub fn serve(name: &str) -> ! {
    let addresses: [SocketAddr; 2] = [([0, 0, 0, 0], udp::PORT).into(), ([0; 16], udp::PORT).into()];
    let [v4, v6] = addresses
        .map(|address| udp::udp_socket(address).unwrap_or_else(|e| panic!("cannot serve UDP at {address}: {e}")));
    let other = name.to_owned();
    std::thread::spawn(move || udp::serve(&v4, &other, || false));
    udp::serve(&v6, name, || false);
    unreachable!("it serves until the process is killed")
}

/// Starts a server on each backend host.
pub fn start_servers(bed: &Bed) -> Vec<Process> {
    let own = std::env::current_exe().expect("Linux knows it");
    (bed.backends.iter().zip(1..))
        .map(|(host, n)| {
            let name = format!("b{n}");
            let log = bed.scratch.path(&format!("udp-{name}.log"));
            Process::spawn(&format!("UDP server {name}"), host.command(&own).args(["udp-echo", &name]), &log)
        })
        .collect()
}

/// A client that asks and counts until stopped.
pub struct Asking {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<load::Tally>>,
    thread: JoinHandle<()>,
}

impl Asking {
    /// Starts it on the first client host.
    pub fn start(bed: &Bed) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(load::Tally::default()));
        let routes: Vec<_> =
            (FAMILIES.iter()).map(|&f| (bed.client_addresses(f, 0), SocketAddr::new(bed.vip(f), udp::PORT))).collect();
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&tally));
        let work = move || {
            for round in 0.. {
                for (sources, target) in &routes {
                    let result = std::net::UdpSocket::bind((sources[round % sources.len()], 0))
                        .map_err(|e| e.to_string())
                        .and_then(|socket| udp::ask(&socket, *target, &["hello", "again"], TIMEOUT));
                    note(&count, result);
                }
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        };
        Self { stop, tally, thread: bed.clients[0].thread("datagrams", work) }
    }

    /// Ends it.
    pub fn stop(self) -> load::Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn note(tally: &Mutex<load::Tally>, result: Result<String, String>) {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        Ok(name) => {
            tally.answered += 1;
            *tally.backends.entry(name).or_default() += 1;
        }
        Err(reason) => {
            tally.failures.push(load::Failure { at: std::time::Instant::now(), backend: None, reason });
        }
    }
}
