//! Memory sources against the real programs: node_exporter, and `rollcall agent` as it is started on a backend.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use lb_tests::testbed::poll;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::binary;
use nix::sys::signal::Signal;
use rollcall::config::memory::{MemoryKind, MemorySource};
use rollcall::core::memory::sample::Sample;
use rollcall::io::memory::{self, MemoryError};

use crate::ns::{Namespace, PATIENCE, Pair};

fn read(ns: &Namespace, kind: MemoryKind, to: SocketAddr) -> Result<Sample, MemoryError> {
    ns.block_on(memory::read(&MemorySource { kind, to, interval: Duration::from_secs(5) }))
}

const AGENT: MemoryKind = MemoryKind::Agent { token_file: None };

/// `MemTotal` and `MemAvailable`, bytes.
fn meminfo() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    };
    (field("MemTotal:"), field("MemAvailable:"))
}

/// A server in a namespace of its own, with its log in a folder that goes with it.
struct Served {
    process: Process,
    files: tempfile::TempDir,
}

impl Served {
    fn start(ns: &Namespace, name: &str, command: &mut Command) -> Self {
        let files = tempfile::tempdir().unwrap();
        let log = files.path().join("log");
        Self { process: ns.run(|| Process::spawn(name, command, &log)), files }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.files.path().join("log")).unwrap()
    }
}

/// The first answer to come in time: the server may still be starting, and the machine may be busy.
fn first(ns: &Namespace, kind: MemoryKind, to: SocketAddr) -> Result<Sample, String> {
    poll::until(PATIENCE, &format!("an answer of {to}"), || {
        let result = read(ns, kind.clone(), to).map_err(|e| e.to_string());
        match result {
            Err(why) if why == "connection refused" || why.starts_with("timed out") => Err(why),
            result => Ok(result),
        }
    })
}

/// Other processes use memory meanwhile; a mistaken unit or field would be far off.
fn assert_system(sample: Sample) {
    let (total, available) = meminfo();
    assert_eq!(sample.total_bytes, total);
    assert!(sample.available_bytes.abs_diff(available) < total / 10, "{sample:?}, and the system has {available}");
}

#[test]
fn node_exporter_tells_the_systems_memory() {
    let ns = Namespace::new();
    let to: SocketAddr = "127.0.0.1:9100".parse().unwrap();
    let mut command = Command::new("prometheus-node-exporter");
    let _served = Served::start(&ns, "node_exporter", command.arg("--web.listen-address=127.0.0.1:9100"));
    assert_system(first(&ns, MemoryKind::NodeExporter, to).unwrap());
}

#[test]
fn node_exporter_without_the_collector_is_refused_with_its_status() {
    let ns = Namespace::new();
    let to: SocketAddr = "127.0.0.1:9100".parse().unwrap();
    let mut command = Command::new("prometheus-node-exporter");
    command.args(["--web.listen-address=127.0.0.1:9100", "--no-collector.meminfo"]);
    let _served = Served::start(&ns, "node_exporter", &mut command);
    assert_eq!(first(&ns, MemoryKind::NodeExporter, to).unwrap_err(), "status 400, expected 200");
}

/// Over a real link, as nobody, asked by whom it allows and by whom it does not.
#[test]
fn agent_of_an_unprivileged_user_answers_whom_it_allows() {
    let pair = Pair::new();
    let to: SocketAddr = "10.0.0.2:9465".parse().unwrap();
    let start = |allow: &str| {
        let mut command = Command::new(binary());
        command.args(["agent", "--listen", "10.0.0.2:9465", "--allow", allow]).uid(65534).gid(65534);
        Served::start(&pair.peer, "agent", &mut command)
    };
    let mut served = start("10.0.0.1");
    assert_system(first(&pair.edge, AGENT, to).unwrap());
    served.process.signal(Signal::SIGTERM);
    assert!(served.process.wait(PATIENCE).success(), "{}", served.log());
    assert!(served.log().contains("has no capabilities and can gain none"), "{}", served.log());

    let served = start("10.0.0.0/32");
    let error = first(&pair.edge, AGENT, to).unwrap_err();
    let either = ["connection reset by peer", "connection closed before", "connection ended, or spoke"];
    assert!(either.iter().any(|text| error.starts_with(text)), "{error}");
    assert!(served.log().contains("refused a connection of 10.0.0.1, which --allow does not name"), "{}", served.log());
}

#[test]
fn agent_started_as_root_keeps_no_capability_in_any_thread() {
    let ns = Namespace::new();
    let to: SocketAddr = "127.0.0.1:9465".parse().unwrap();
    let served = Served::start(&ns, "agent", Command::new(binary()).arg("agent"));
    first(&ns, AGENT, to).unwrap();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", served.process.pid())).unwrap();
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    }
    assert!(served.log().contains("running as root: dropped all "), "{}", served.log());
}
