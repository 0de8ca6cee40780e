//! Change under steady load: reloads, a killed daemon, a killed backend. Nobody who is not concerned may notice.

use std::time::{Duration, SystemTime};

use lb_tests::testbed::bed::Shape;
use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::{member, members};

use crate::stage::{Stage, Steady, assert_no_failures};

#[test]
fn a_hundred_reloads_lose_no_request() {
    let mut stage = Stage::new(Shape::TwoArm, 3, "round-robin");
    let load = Steady::start(&stage);
    for round in 1..=100_u16 {
        for (index, service) in (0..).zip(&mut stage.configuration.services) {
            service.members.rotate_left(1);
            service.members[0].1 = 1 + (round + index) % 7;
        }
        stage.rollcall.reload(&stage.bed, &stage.configuration);
    }
    load.wait_for(200);
    assert_no_failures(&load.stop());
    let status = stage.settled();
    for service in &stage.configuration.services {
        let total: u16 = service.members.iter().map(|m| m.1).sum();
        for (backend, weight) in &service.members {
            let member = member(&status, &service.name, backend);
            assert_eq!(member["weight_configured"], *weight, "{member:#}");
            let (share, wanted) = (member["share"].as_f64().expect("a number"), f64::from(*weight) / f64::from(total));
            assert!((share - wanted).abs() <= 0.001, "{}/{backend}: {share}, not {wanted}", service.name);
        }
    }
}

#[test]
fn a_killed_daemon_and_its_restart_lose_no_request() {
    let mut stage = Stage::new(Shape::TwoArm, 3, "round-robin");
    let load = Steady::start(&stage);
    let before = stage.settled();
    stage.rollcall.kill();
    load.wait_for(500);
    let absent = stage.rollcall.cli(&stage.bed, &["backend", "list"]);
    assert_eq!(absent.code, 69, "without a daemon: {absent:?}");
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for_all(&stage.bed, Duration::from_secs(30));
    let after = stage.settled();
    load.wait_for(500);
    assert_no_failures(&load.stop());
    assert_eq!(after["daemon"]["adopted"], true, "{after:#}");
    // Kept by CLOCK_BOOTTIME and shown by the wall clock: the same to within a reading of both.
    let created = |status: &serde_json::Value| {
        let text = status["daemon"]["data_plane_created"].as_str().expect("a time");
        text.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
    };
    assert!((created(&before) - created(&after)).abs() < 100, "{} and {}", created(&before), created(&after));
    assert_ne!(before["daemon"]["pid"], after["daemon"]["pid"]);
}

#[test]
fn a_terminated_daemon_leaves_the_data_plane_and_down_removes_it() {
    let mut stage = Stage::new(Shape::TwoArm, 2, "maglev");
    let load = Steady::start(&stage);
    stage.rollcall.terminate();
    load.wait_for(300);
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for_all(&stage.bed, Duration::from_secs(30));
    stage.settled();
    assert_no_failures(&load.stop());

    let down = stage.rollcall.cli(&stage.bed, &["down", "--yes"]);
    assert_eq!(down.code, 0, "{down:?}");
    let links = stage.bed.edge.run("ip", &["-details", "link", "show"]);
    assert!(!links.contains("xdp"), "a program is still attached: {links}");
    assert!(!stage.bed.scratch.bpf().join("rollcall").exists(), "pins are left");
}

#[test]
fn a_killed_backend_leaves_in_time_and_disturbs_no_other() {
    let mut stage = Stage::new(Shape::TwoArm, 3, "round-robin");
    let load = Steady::start(&stage);
    let killed_at = SystemTime::now();
    stage.nginx[1].kill();
    let out =
        |status: &serde_json::Value| members(status).all(|m| (m["backend"] == "b2") != (m["in_rotation"] == true));
    let status = stage.rollcall.wait_for(&stage.bed, Duration::from_secs(10), "b2 out of rotation", out);

    let limit = stage.configuration.interval * (stage.configuration.fall + 1);
    for service in ["web4", "web6"] {
        let since: jiff::Timestamp =
            member(&status, service, "b2")["since"].as_str().and_then(|s| s.parse().ok()).expect("a time in RFC 3339");
        let took = SystemTime::from(since).duration_since(killed_at).expect("it went out after the kill");
        assert!(took <= limit, "{service}: out after {took:?}, allowed are {limit:?}");
        let reasons = &member(&status, service, "b2")["reasons"];
        assert_eq!(reasons[0]["kind"], "probe_failed", "{reasons:#}");
    }

    // What was opened to b2 before it left fails; what is opened from now on must not.
    let settled = std::time::Instant::now();
    stage.settled();
    load.wait_for(500);
    let tally = load.so_far();
    let others: Vec<_> = tally.failures.iter().filter(|f| f.backend.as_deref().is_some_and(|b| b != "b2")).collect();
    assert!(others.is_empty(), "flows to healthy backends failed: {others:#?}");
    let late: Vec<_> = tally.failures.iter().filter(|f| f.backend.is_none() && f.at > settled).collect();
    assert!(late.is_empty(), "new connections failed after b2 was out: {late:#?}");

    let (before, failures) = (tally.backends["b2"], tally.failures.len());
    stage.nginx[1].restart(&stage.bed);
    stage.rollcall.wait_for_all(&stage.bed, Duration::from_secs(10));
    poll::until(Duration::from_secs(10), "b2 serves again", || {
        let now = load.so_far().backends["b2"];
        if now > before { Ok(()) } else { Err(format!("{now} answers")) }
    });
    assert_eq!(load.stop().failures.len(), failures, "its return disturbed somebody");
    stage.settled();
}
