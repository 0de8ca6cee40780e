//! The drill's own programs, as `cargo xtask drill` runs them: behind Rollcall nobody notices that a server was forgotten.

use std::process::Command;

use lb_tests::skip;
use lb_tests::testbed::cgroup;
use serde_json::Value;

/// Runs the quick drill to its end; its exit code and its page.
#[track_caller]
fn drill(story: &str) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall-drill"));
    let output = command.args(["--quick", "--output", "json", "--story", story]).output().expect("it was just built");
    let said = String::from_utf8_lossy(&output.stderr);
    // Shown if the test fails.
    eprintln!("{said}");
    let page = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}"));
    (output.status.code(), page)
}

#[test]
fn forgotten_server_is_called_back_before_the_memory_of_the_other_ends() {
    skip::require_root();
    if cgroup::hierarchy().is_none() {
        skip::record("netns drill::forgotten", "no cgroups limit memory on this host");
        return;
    }
    let (code, page) = drill("recall");
    let story = &page["stories"][0];
    assert_eq!((&story["faults"], code), (&serde_json::json!([]), Some(0)), "{story:#}");
    // Not by an accident of the load: web-01 really was short, and that is what called web-02 back.
    assert_eq!(story["back_by"], "recalled", "{story:#}");
    let least = story["least_headroom_ratio"].as_f64().expect("a number");
    assert!((0.05..0.20).contains(&least), "{least}");
    assert!(story["requests_answered"].as_u64().is_some_and(|n| n > 500), "{story:#}");
    assert!(story["warning"].as_str().is_some_and(|warning| warning.contains("web-01")), "{story:#}");
    assert!(story["report"].as_str().is_some_and(|report| report.contains("called back")), "{story:#}");
}
