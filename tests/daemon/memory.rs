//! Memory on the real daemon: real node_exporters tell of servers whose `/proc` the test writes, since this host's own
//! memory is not to be filled.

use std::path::PathBuf;
use std::process::Command;

use lb_tests::testbed::bed::Family;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::member;
use serde_json::Value;

use crate::stage::{START, Stage};

/// A server that tells how much of its memory is free.
struct Exporter {
    proc: PathBuf,
    _process: Process,
}

impl Exporter {
    #[track_caller]
    fn start(stage: &Stage, index: u8) -> Self {
        let proc = stage.bed.scratch.path(&format!("proc-{index}"));
        std::fs::create_dir_all(&proc).expect("the folder is writable");
        let at = std::net::SocketAddr::new(stage.bed.backend_address(Family::V4, index), 9100);
        let server = &stage.bed.backends[usize::from(index)];
        let mut command: Command = server.command("prometheus-node-exporter");
        command.arg(format!("--web.listen-address={at}")).arg(format!("--path.procfs={}", proc.display()));
        command.args(["--collector.disable-defaults", "--collector.meminfo"]);
        let log = stage.bed.scratch.path(&format!("exporter-{index}.log"));
        let exporter = Self { proc, _process: Process::spawn("node_exporter", &mut command, &log) };
        exporter.free(60);
        exporter
    }

    /// From now on so much is free, in percent.
    #[track_caller]
    fn free(&self, percent: u32) {
        let kb = 10_000_000 / 100 * percent;
        let text = format!("MemTotal: 10000000 kB\nMemFree: {kb} kB\nMemAvailable: {kb} kB\n");
        let (new, file) = (self.proc.join("new"), self.proc.join("meminfo"));
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &file)).expect("the folder is writable");
    }
}

/// The usual file, with a source of memory for each server.
fn write_monitored(stage: &Stage) {
    let text = stage.configuration.text(&stage.bed.scratch.path(""));
    let memory = "\n[backend.memory]\nsource = \"node-exporter\"\ninterval = \"1s\"\n";
    let mut monitored = String::new();
    for block in text.split_inclusive("\n\n") {
        monitored += block;
        if block.starts_with("[[backend]]") {
            monitored += memory;
            monitored.push('\n');
        }
    }
    stage.rollcall.write_text(&monitored);
}

fn state(status: &Value, backend: &str) -> String {
    member(status, "web4", backend)["memory"]["state"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn drained_server_is_called_back_when_the_memory_of_the_other_gets_short() {
    let mut stage = Stage::before_start();
    let (_b1, b2) = (Exporter::start(&stage, 0), Exporter::start(&stage, 1));
    write_monitored(&stage);
    stage.start();
    stage.rollcall.wait_for(&stage.bed, START, "both ample", |s| ["b1", "b2"].iter().all(|b| state(s, b) == "ample"));
    let take = ["backend", "drain", "b1", "--for", "1h", "--reason", "kernel test", "--owner", "ada", "--yes"];
    assert_eq!(stage.rollcall.cli(&stage.bed, &take).code, 0);
    let shown = stage.rollcall.cli(&stage.bed, &["status"]).stdout;
    assert!(shown.contains("60 % free"), "{shown}");

    b2.free(12);
    let status =
        stage.rollcall.wait_for(&stage.bed, START, "b1 back", |s| member(s, "web4", "b1")["in_rotation"] == true);
    assert_eq!(state(&status, "b2"), "tight");
    assert_eq!(status["leases"].as_array().map(Vec::len), Some(0));
    let history = stage.rollcall.json(&stage.bed, &["backend", "show", "b1"]);
    let events = history["backends"][0]["events"].as_array().expect("a list").clone();
    let recalled = events.iter().find(|e| e["kind"] == "recalled").expect("it is told");
    assert!(
        recalled["cause"].as_str().is_some_and(|c| c.contains("memory") && c.contains("kernel test")),
        "{recalled}"
    );
}

#[test]
fn server_whose_exporter_is_gone_is_unknown_and_keeps_its_weight() {
    let mut stage = Stage::before_start();
    let exporters = (Exporter::start(&stage, 0), Exporter::start(&stage, 1));
    write_monitored(&stage);
    stage.start();
    stage.rollcall.wait_for(&stage.bed, START, "both ample", |s| ["b1", "b2"].iter().all(|b| state(s, b) == "ample"));
    drop(exporters);
    let status = stage
        .rollcall
        .wait_for(&stage.bed, START, "both unknown", |s| ["b1", "b2"].iter().all(|b| state(s, b) == "unknown"));
    let b1 = member(&status, "web4", "b1");
    assert!(b1["memory"]["error"].as_str().is_some_and(|e| !e.is_empty()), "{b1:#}");
    assert_eq!((&b1["weight_effective"], &b1["in_rotation"]), (&Value::from(1.0), &Value::from(true)));
}
