//! Edits: file and running state change together, whenever the daemon dies.

use std::os::unix::process::ExitStatusExt;

use lb_tests::testbed::rollcall::{member, members};
use serde_json::Value;

use crate::stage::{START, Stage};

/// Every point at which a debug build can be told to die, and whether the edit has happened then.
const POINTS: [(&str, bool); 6] = [
    ("before_intent", false),
    ("after_intent", false),
    ("after_temp", false),
    ("after_rename", true),
    ("after_apply", true),
    ("after_revision", true),
];

#[test]
fn edit_killed_at_any_point_leaves_file_and_running_state_equal() {
    let mut stage = Stage::new();
    stage.rollcall.terminate();
    let old_file = stage.file_text();
    for (point, happened) in POINTS {
        let mut daemon = stage.spawn(&[("ROLLCALL_CRASH_AT", point)]);
        stage.rollcall.wait_for_all(&stage.bed, START);
        let answer = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "7"]);
        assert_eq!(answer.code, 69, "{point}: the daemon died without an answer: {answer:?}");
        assert_eq!(daemon.wait(START).signal(), Some(libc::SIGKILL), "{point}: {}", daemon.tail());

        stage.start();
        let weight = if happened { 7 } else { 1 };
        let status = stage.rollcall.status(&stage.bed);
        for service in ["web4", "web6", "echo4", "echo6"] {
            assert_eq!(member(&status, service, "b1")["weight_configured"], weight, "{point}: {service} runs");
        }
        let file = stage.file_text();
        assert_eq!(file == old_file, !happened, "{point}: the file");
        assert_eq!(status["daemon"]["file_differs"], false, "{point}: {:#}", status["daemon"]);

        // The journal is clean: the next edit goes through, back to where the next point begins.
        let back = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "1"]);
        assert_eq!(back.code, 0, "{point}: {back:?}");
        stage.rollcall.terminate();
        stage.rollcall.write_text(&old_file);
    }
}

/// The rename cannot be taken back for certain either, so the edit stands, and says what may become of it.
#[test]
fn edit_whose_directory_cannot_be_synced_is_in_force_and_says_what_a_power_failure_may_do() {
    let mut stage = Stage::before_start();
    let (_daemon, faults) = stage.start_fallible();
    std::fs::write(&faults, "sync_dir\n").expect("the folder is writable");
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "7"]);
    assert_eq!(edited.code, 0, "{edited:?}");
    assert!(edited.stdout.contains("power failure"), "{edited:?}");
    let status = stage.rollcall.status(&stage.bed);
    assert_eq!(member(&status, "web4", "b1")["weight_configured"], 7);
    assert_eq!(status["daemon"]["file_differs"], false, "{:#}", status["daemon"]);
    assert!(stage.file_text().contains("weight = 7"), "{}", stage.file_text());

    std::fs::remove_file(&faults).expect("it was just written");
    let again = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "6"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(!again.stdout.contains("power failure"), "{again:?}");
}

#[test]
fn edit_of_a_file_changed_meanwhile_is_refused_until_reload() {
    let stage = Stage::new();
    let mut changed = stage.configuration.clone();
    changed.fall = 4;
    stage.rollcall.write(&changed);
    let refused = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "7"]);
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(refused.stderr.contains("rollcall.toml") && refused.stderr.contains("reload"), "{refused:?}");
    assert_eq!(stage.rollcall.cli(&stage.bed, &["reload"]).code, 0);
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "7"]);
    assert_eq!(edited.code, 0, "{edited:?}");
    assert_eq!(member(&stage.rollcall.status(&stage.bed), "web4", "b1")["weight_configured"], 7);
}

#[test]
fn edit_of_a_file_that_others_own_is_refused_and_names_it() {
    let stage = Stage::new();
    let mut external = stage.configuration.clone();
    external.owner = "external";
    stage.rollcall.reload(&stage.bed, &external);
    let before = stage.file_text();
    let refused = stage.rollcall.cli(&stage.bed, &["backend", "remove", "b1"]);
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(refused.stderr.contains("rollcall.toml"), "{refused:?}");
    assert_eq!(stage.file_text(), before);
    assert_eq!(members(&stage.rollcall.status(&stage.bed)).count(), 8);
}

#[test]
fn reload_of_a_bad_file_reports_every_line_and_changes_nothing() {
    let stage = Stage::new();
    let before = stage.rollcall.status(&stage.bed);
    let text = stage.file_text();
    let bad = text.replace("weight = 1", "weight = 0");
    stage.rollcall.write_text(&bad);
    let refused = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert_eq!(refused.stderr.matches("weight = 0").count(), 8, "one line for each: {refused:?}");
    let weights = |status: &Value| members(status).map(|m| m["weight_configured"].as_u64()).collect::<Vec<_>>();
    assert_eq!(weights(&stage.rollcall.status(&stage.bed)), weights(&before));
    assert_eq!(weights(&before), [Some(1); 8]);
}
