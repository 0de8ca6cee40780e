//! How members enter at a start, and what is made of most of them failing at once.

use std::time::{Duration, Instant};

use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::{member, members};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::stage::{START, Stage, ask};

/// Stops or continues a server: stopped, it still takes connections but answers nothing.
fn signal(stage: &Stage, index: usize, signal: Signal) {
    killpg(Pid::from_raw(stage.nginx[index].pid().cast_signed()), signal).expect("it runs");
}

#[test]
fn cold_start_with_a_hanging_backend_serves_by_first_results() {
    let mut stage = Stage::before_start();
    signal(&stage, 1, Signal::SIGSTOP);
    stage.rollcall.run(&stage.bed);
    // Once it answers, the programs are verified, however long that took.
    poll::until(START, "an answer of the daemon", || {
        let answer = stage.rollcall.cli(&stage.bed, &["status"]);
        if answer.code == 0 { Ok(()) } else { Err(answer.stderr) }
    });
    let begin = Instant::now();
    let status = stage.rollcall.wait_for(&stage.bed, START, "the program attached", |status| {
        status["attached"].as_array().is_some_and(|a| a.len() == 1)
    });
    // The grace of those without a result is three seconds at least.
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(member(&status, "web4", "b1")["in_rotation"], true);
    // Its HTTP probe timed out, once: that decides. TCP still connects.
    assert_eq!(member(&status, "web4", "b2")["in_rotation"], false);
    assert_eq!(member(&status, "echo4", "b2")["in_rotation"], true);
    stage.wait_for_service();
    signal(&stage, 1, Signal::SIGCONT);
    stage.rollcall.wait_for_all(&stage.bed, START);
}

#[test]
fn start_on_maps_never_filled_waits_for_results_like_a_cold_one() {
    let mut stage = Stage::before_start();
    let slow = "interval = \"3s\"\ntimeout = \"3s\"";
    stage.rollcall.write_text(&stage.file_text().replace("interval = \"200ms\"\ntimeout = \"200ms\"", slow));
    let mut first = stage.spawn(&[("ROLLCALL_CRASH_AT", "after_open")]);
    assert!(!first.wait(START).success());
    assert!(stage.is_pinned() && !stage.bed.edge.run("ip", &["link", "show", "front"]).contains("xdp"));
    // The second finds the pins; its probes take three seconds to say anything.
    let hanging = [0, 1];
    hanging.iter().for_each(|&index| signal(&stage, index, Signal::SIGSTOP));
    stage.rollcall.run(&stage.bed);
    let status = stage.rollcall.wait_for(&stage.bed, START, "the program attached", |status| {
        status["attached"].as_array().is_some_and(|a| a.len() == 1)
    });
    assert!(members(&status).all(|m| m["health"] != "unknown"), "attached before anything was known: {status:#}");
    hanging.iter().for_each(|&index| signal(&stage, index, Signal::SIGCONT));
    stage.rollcall.wait_for_all(&stage.bed, START);
}

#[test]
fn restart_keeps_the_health_of_those_that_hang_until_results_say_otherwise() {
    let mut stage = Stage::new();
    stage.rollcall.terminate();
    signal(&stage, 1, Signal::SIGSTOP);
    stage.rollcall.run(&stage.bed);
    let status = stage.rollcall.wait_for(&stage.bed, START, "an answer", |_| true);
    assert_eq!(member(&status, "web4", "b2")["health"], "up", "adopted: {status:#}");
    stage.rollcall.wait_for(&stage.bed, START, "the hanging one out", |status| {
        member(status, "web4", "b2")["in_rotation"] == false
    });
    signal(&stage, 1, Signal::SIGCONT);
}

#[test]
fn most_backends_lost_at_once_holds_the_table_and_says_so_until_they_return() {
    let mut stage = Stage::with_backends(3);
    stage.start();
    let set = |stage: &Stage, plugged| [1, 2].iter().for_each(|&index| stage.bed.set_cable(index, plugged));
    set(&stage, false);
    let down = |status: &Value| members(status).filter(|m| m["health"] == "down").count();
    let status = stage
        .rollcall
        .wait_for(&stage.bed, START, "the suspicion", |status| status["edge_suspected"] == true && down(status) == 8);
    for service in status["services"].as_array().expect("services") {
        let held = service["backends"].as_array().into_iter().flatten().filter(|m| {
            m["health"] == "down" && m["in_rotation"] == true && m["reasons"].to_string().contains("edge itself")
        });
        // One may have left before the second failed, and there was something to suspect.
        assert!(held.count() >= 1, "{service:#}");
    }
    set(&stage, true);
    stage.rollcall.wait_for(&stage.bed, START, "the all-clear", |status| {
        status["edge_suspected"] == false && members(status).all(|m| m["health"] == "up" && m["in_rotation"] == true)
    });
    stage.wait_for_service();
}

#[test]
fn most_backends_dead_at_once_leave_once_another_has_answered_for_ten_seconds() {
    let mut stage = Stage::with_backends(3);
    stage.start();
    [1, 2].iter().for_each(|&index| signal(&stage, index, Signal::SIGSTOP));
    // Only what asks for an answer sees it.
    let web = |status: &Value, backend: &str| member(status, "web4", backend)["in_rotation"].clone();
    let suspected = stage.rollcall.wait_for(&stage.bed, START, "the suspicion", |status| {
        status["suspicions"].as_array().is_some_and(|all| all.iter().any(|s| s["service"] == "web4"))
    });
    assert_eq!(suspected["edge_suspected"], true);
    let said = stage.rollcall.cli(&stage.bed, &["status"]).stdout;
    assert!(said.starts_with("EDGE SUSPECTED for "), "{said}");
    stage.rollcall.wait_for(&stage.bed, START, "the dead out and no suspicion", |status| {
        status["edge_suspected"] == false && web(status, "b2") == false && web(status, "b3") == false
    });
    for _ in 0..20 {
        let answered = stage.connect().and_then(|mut stream| ask(&mut stream)).expect("the one that lives takes all");
        assert_eq!(answered, "b1");
    }
    [1, 2].iter().for_each(|&index| signal(&stage, index, Signal::SIGCONT));
    stage.rollcall.wait_for_all(&stage.bed, START);
}
