//! What the daemon records about itself: where it cannot, it goes on, says so, and does it later.

use crate::stage::{START, Stage};

#[test]
fn revision_that_cannot_be_recorded_runs_all_the_same_and_is_recorded_later() {
    let mut stage = Stage::before_start();
    let (_daemon, faults) = stage.start_fallible();
    std::fs::write(&faults, "record\n").expect("the folder is writable");
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "3"]);
    assert_eq!(edited.code, 0, "{edited:?}");
    let warnings = stage.rollcall.status(&stage.bed)["warnings"].to_string();
    assert!(warnings.contains("could not be recorded, which is tried again"), "{warnings}");
    std::fs::write(&faults, "").expect("the folder is writable");
    stage.rollcall.wait_for(&stage.bed, START, "no warning", |status| status["warnings"] == serde_json::json!([]));
    stage.rollcall.write_text(&format!("# A remark.\n{}", stage.file_text()));
    let reload = stage.rollcall.cli(&stage.bed, &["reload", "--output", "json"]);
    let revision: serde_json::Value = serde_json::from_str(&reload.stdout).expect("JSON");
    assert_eq!(revision["revision"].as_i64(), Some(3), "after the start's and the edit's: {revision}");
}

#[test]
fn start_with_a_damaged_history_puts_it_aside_and_serves() {
    let mut stage = Stage::new();
    stage.rollcall.terminate();
    let state = stage.bed.scratch.path("state");
    std::fs::write(state.join("state.db"), "no database at all").expect("it is ours");
    stage.start();
    let status = stage.rollcall.status(&stage.bed);
    assert!(status["warnings"].to_string().contains("state.db.damaged-"), "{}", status["warnings"]);
    stage.wait_for_service();
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "3"]);
    assert_eq!(edited.code, 0, "{edited:?}");
}

#[test]
fn broken_invariant_is_an_error_a_metric_and_a_warning_and_no_panic() {
    let mut stage = Stage::before_start();
    let (mut daemon, faults) = stage.start_fallible();
    let violations = |stage: &Stage| {
        let socket = stage.rollcall.socket();
        let socket = socket.to_str().expect("the testbed's folder has a plain name");
        let text = stage.bed.edge.run("curl", &["-s", "--unix-socket", socket, "http://localhost/metrics"]);
        let line = text.lines().find_map(|l| l.strip_prefix("rollcall_invariant_violations_total "));
        line.and_then(|n| n.parse::<u64>().ok()).expect("the metric is there")
    };
    assert_eq!(violations(&stage), 0);
    std::fs::write(&faults, "invariant\n").expect("the folder is writable");
    stage.rollcall.wait_for(&stage.bed, START, "the warning", |status| {
        status["warnings"].to_string().contains("an invariant is broken: told to fail")
    });
    assert!(violations(&stage) >= 1);
    assert!(daemon.is_running() && daemon.tail().contains("ERROR"), "{}", daemon.tail());
    std::fs::write(&faults, "").expect("the folder is writable");
    stage.rollcall.wait_for(&stage.bed, START, "no warning", |status| status["warnings"] == serde_json::json!([]));
    stage.wait_for_service();
}
