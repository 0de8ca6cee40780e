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

/// A small file system under the daemon's state, unmounted with its guard.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&path).expect("the folder is writable");
        nix::mount::mount(Some("tmpfs"), &path, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=4m"))
            .expect("this needs root");
        Self(path)
    }

    /// Leaves no byte free.
    fn fill(&self) {
        use std::io::Write;
        let mut filler = std::fs::File::create(self.0.join("filler")).expect("the folder is writable");
        while filler.write_all(&[0; 4096]).is_ok() {}
        while filler.write_all(&[0]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn full_disk_refuses_edits_whole_lets_reloads_run_and_the_daemon_start() {
    let mut stage = Stage::before_start();
    let disk = SmallDisk::mount(stage.bed.scratch.path("state"));
    stage.start();
    disk.fill();
    let text = stage.file_text();
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "3"]);
    assert!(edited.code == 71 && edited.stderr.contains("space"), "{edited:?}");
    assert_eq!(stage.file_text(), text);

    stage.rollcall.write_text(&text.replace("weight = 1", "weight = 5"));
    let reload = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    let warnings = stage.rollcall.status(&stage.bed)["warnings"].to_string();
    assert!(warnings.contains("could not be recorded"), "{warnings}");
    stage.wait_for_service();

    stage.rollcall.terminate();
    stage.start();
    let warnings = stage.rollcall.status(&stage.bed)["warnings"].to_string();
    assert!(warnings.contains("could not be recorded"), "{warnings}");
    stage.wait_for_service();
    disk.empty();
    stage.rollcall.wait_for(&stage.bed, START, "no warning", |status| status["warnings"] == serde_json::json!([]));
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "3"]);
    assert_eq!(edited.code, 0, "{edited:?}");
    stage.rollcall.terminate();
}
