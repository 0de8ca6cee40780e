//! The journal of the real daemon: it outlives crashes, can be followed and read without a daemon, and neither a full
//! disk nor a damaged file holds anything up.

use std::path::PathBuf;
use std::time::Duration;

use lb_tests::testbed::poll;
use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::{Answer, binary};
use serde_json::Value;

use crate::stage::{START, Stage};

/// An event is on the disk a moment after it happened, and a follower looks each second.
const SOON: Duration = Duration::from_secs(15);

fn events(stage: &Stage, more: &[&str]) -> Vec<Value> {
    let found = stage.rollcall.json(&stage.bed, &[&["events", "--limit", "1000"], more].concat());
    assert_eq!(found["schema"], "rollcall.events/v1");
    found["events"].as_array().expect("a list").clone()
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|e| e["kind"] == kind).collect()
}

/// Waits until the journal has what is wanted; all its events.
#[track_caller]
pub fn wait_for(stage: &Stage, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    poll::until(SOON, what, || {
        let all = events(stage, &[]);
        if wanted(&all) { Ok(all) } else { Err(format!("{all:#?}")) }
    })
}

fn drain(stage: &Stage) -> Answer {
    let take = ["backend", "drain", "b1", "--for", "1h", "--reason", "kernel test", "--owner", "ada", "--yes"];
    stage.rollcall.cli(&stage.bed, &take)
}

fn journal(stage: &Stage) -> PathBuf {
    stage.bed.scratch.path("state").join("journal.db")
}

#[test]
fn events_survive_a_kill_and_are_read_with_and_without_a_daemon() {
    let mut stage = Stage::new();
    assert_eq!(drain(&stage).code, 0);
    let before = wait_for(&stage, "the drain in the journal", |all| of_kind(all, "out_of_rotation").len() == 4);
    stage.rollcall.kill();
    let dead = events(&stage, &[]);
    assert_eq!(dead, before, "read from the file");
    let started = of_kind(&dead, "daemon_started");
    assert!(started.len() == 1 && started[0]["cause"].to_string().contains("created the data plane"), "{started:?}");
    let drained = of_kind(&dead, "drained");
    assert_eq!(
        (&drained[0]["backend"], &drained[0]["by"]),
        (&Value::from("b1"), &Value::from("ada (claimed)")),
        "{drained:?}"
    );

    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for(&stage.bed, START, "the new daemon", |status| status["settled"] == true);
    let after = wait_for(&stage, "the new start", |all| of_kind(all, "daemon_started").len() == 2);
    assert_eq!(after[..before.len()], before, "what was there stays, in order");
    let ids: Vec<i64> = after.iter().filter_map(|e| e["id"].as_i64()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let own = events(&stage, &["--backend", "b1"]);
    assert!(!own.is_empty() && own.iter().all(|e| e["backend"] == "b1"), "{own:?}");
    let shown = stage.rollcall.json(&stage.bed, &["backend", "show", "b1"]);
    let history = shown["backends"][0]["events"].as_array().expect("a list");
    assert!(history.iter().any(|e| e["kind"] == "drained"), "from before the restart: {history:?}");

    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b2", "--weight", "3"]);
    assert_eq!(edited.code, 0, "{edited:?}");
    stage.rollcall.terminate();
    let all = events(&stage, &[]);
    let applied = of_kind(&all, "revision_applied");
    assert!(applied.iter().any(|e| e["cause"].to_string().contains("backend set b2")), "{applied:?}");
    assert_eq!(all.last().map(|e| &e["kind"]), Some(&Value::from("daemon_stopped")), "the last word is written");

    let report = stage.rollcall.cli(&stage.bed, &["report", "--since", "1h"]);
    assert_eq!(report.code, 0, "{report:?}");
    for part in [
        "# Post-mortem: ",
        "**still out**",
        "drained by ada (claimed) for 60 min 0 s: kernel test",
        "| web4 | b2 | ",
        "## Lessons",
    ] {
        assert!(report.stdout.contains(part), "{part}: {}", report.stdout);
    }
}

#[test]
fn follower_sees_a_drain_as_it_happens() {
    let stage = Stage::new();
    let log = stage.bed.scratch.path("followed.jsonl");
    let mut command = stage.bed.edge.command(binary());
    command.arg("--config").arg(stage.rollcall.file()).arg("--socket").arg(stage.rollcall.socket());
    let mut follower = Process::spawn(
        "events --follow",
        command.args(["events", "--follow", "--output", "json", "--backend", "b1"]),
        &log,
    );
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    };
    // It prints what was before first.
    poll::until(SOON, "the first events", || if lines().is_empty() { Err(String::new()) } else { Ok(()) });
    assert_eq!(drain(&stage).code, 0);
    let seen = poll::until(SOON, "the drain, and who is out by it", || {
        let all = lines();
        let (drained, out) = (of_kind(&all, "drained").len(), of_kind(&all, "out_of_rotation").len());
        if (drained, out) == (1, 4) { Ok(all) } else { Err(format!("{all:#?}")) }
    });
    assert!(follower.is_running());
    assert!(seen.iter().all(|e| e["schema"] == "rollcall.event/v1" && e["backend"] == "b1"), "{seen:#?}");
    // One look later it goes on where it was.
    assert_eq!(stage.rollcall.cli(&stage.bed, &["backend", "restore", "b1", "--owner", "ada"]).code, 0);
    let seen = poll::until(SOON, "the return", || {
        let all = lines();
        if of_kind(&all, "restored").is_empty() { Err(format!("{all:#?}")) } else { Ok(all) }
    });
    let ids: Vec<i64> = seen.iter().filter_map(|e| e["id"].as_i64()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order: {ids:?}");
}

#[test]
fn journal_that_cannot_be_written_holds_nothing_up_and_is_made_good_later() {
    let mut stage = Stage::before_start();
    let (_daemon, faults) = stage.start_fallible();
    std::fs::write(&faults, "journal\n").expect("the folder is writable");
    // Something to write, so that it is noticed.
    assert_eq!(drain(&stage).code, 0);
    stage.rollcall.wait_for(&stage.bed, START, "the warning", |status| {
        status["warnings"].to_string().contains("events cannot be journalled, which is tried again: told to fail")
    });
    stage.wait_for_service();
    assert!(of_kind(&events(&stage, &[]), "drained").is_empty());
    std::fs::write(&faults, "").expect("the folder is writable");
    stage.rollcall.wait_for(&stage.bed, START, "no warning", |status| status["warnings"] == serde_json::json!([]));
    let all = wait_for(&stage, "the end of the warning", |all| of_kind(all, "warning_cleared").len() == 1);
    assert_eq!(of_kind(&all, "drained").len(), 1, "nothing was lost: {all:#?}");
    assert_eq!(of_kind(&all, "warning_raised").len(), 1, "{all:#?}");
}

#[test]
fn damaged_journal_is_put_aside_and_the_daemon_serves() {
    let mut stage = Stage::new();
    stage.rollcall.terminate();
    std::fs::write(journal(&stage), "no database at all, and certainly no journal").expect("it is ours");
    let unread = stage.rollcall.cli(&stage.bed, &["events"]);
    assert_eq!(unread.code, 71, "{unread:?}");
    assert!(unread.stderr.contains("journal.db") && unread.stderr.contains("disk's health"), "{unread:?}");
    stage.start();
    let status = stage.rollcall.wait_for(&stage.bed, START, "the warning", |status| {
        status["warnings"].to_string().contains("journal.db.damaged-")
    });
    assert_eq!(status["warnings"].as_array().map(Vec::len), Some(1), "{status:#}");
    stage.wait_for_service();
    wait_for(&stage, "a new beginning", |all| of_kind(all, "daemon_started").len() == 1);
}

#[test]
fn events_without_daemon_and_journal_are_refused_as_unavailable() {
    let stage = Stage::before_start();
    let refused = stage.rollcall.cli(&stage.bed, &["events"]);
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(refused.stderr.contains("the daemon is not running"), "{refused:?}");
}
