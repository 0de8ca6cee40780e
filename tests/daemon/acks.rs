//! Acknowledgements of the real daemon: who says so, who is then not called, over a SIGKILL, and who is called again.

use lb_tests::testbed::poll;
use lb_tests::testbed::receiver::Receiver;
use serde_json::Value;

use crate::alerts::{DOWN, alerts, webhook};
use crate::stage::{START, Stage};

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("no time: {value}"))
}

/// Times at which a receiver was told that the alert stands, by the record in the daemon.
fn told(stage: &Stage, route: &str) -> Option<(jiff::Timestamp, u64)> {
    let shown = alerts(stage);
    let alert = shown["firing"].as_array()?.iter().find(|a| a["key"] == DOWN)?.clone();
    let told = alert["told"].as_array()?.iter().find(|t| t["route"] == route)?.clone();
    told["delivered"].is_string().then(|| (time(&told["delivered"]), told["times"].as_u64().unwrap_or(0)))
}

#[test]
fn acknowledged_alert_calls_nobody_over_a_restart_and_again_when_its_time_is_over() {
    let mut stage = Stage::before_start();
    let (first, second) = (Receiver::start(&stage.bed), Receiver::start(&stage.bed));
    let routes = [webhook("first", &first, ""), webhook("second", &second, "after = \"5s\"")];
    stage.rollcall.write_text(&(stage.file_text() + &routes.concat()));
    let (mut daemon, faults) = stage.start_fallible();
    let ack = |stage: &Stage, more: &[&str]| stage.rollcall.cli(&stage.bed, &[&["alert", "ack"], more].concat());
    let none = ack(&stage, &[DOWN, "--owner", "ada"]);
    assert_eq!((none.code, none.stderr.contains("nor any other")), (66, true), "{none:?}");

    stage.nginx[0].kill();
    first.wait_for(START, "firing", DOWN);
    // What cannot be kept is not in force.
    std::fs::write(&faults, "save_alerts\n").expect("the folder is writable");
    let refused = ack(&stage, &[DOWN, "--owner", "ada"]);
    assert_eq!((refused.code, refused.stderr.contains("not in force")), (71, true), "{refused:?}");
    assert!(alerts(&stage)["firing"].as_array().is_some_and(|all| all.iter().all(|a| a["acknowledged"].is_null())));
    std::fs::write(&faults, "").expect("the folder is writable");

    let many = ack(&stage, &["backend_down", "--owner", "ada"]);
    assert_eq!((many.code, many.stderr.contains("say which")), (66, true), "{many:?}");
    assert_eq!(ack(&stage, &[DOWN, "--owner", "ada", "--for", "25h"]).code, 64);
    let done = ack(&stage, &[DOWN, "--owner", "ada", "--for", "10s", "--note", "new disk", "--output", "json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let done: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(done["alert"]["acknowledged"]["by"], "ada", "{done:#}");
    let until = time(&done["alert"]["acknowledged"]["until"]);
    let before = told(&stage, "second");
    let status = stage.rollcall.cli(&stage.bed, &["status"]);
    assert!(status.stdout.contains(&format!("acknowledged: {DOWN} by ada (claimed), ")), "{status:?}");
    daemon.kill();
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for(&stage.bed, START, "the next daemon", |status| status["settled"] == true);
    let shown = poll::until(START, "the acknowledgement after the restart", || {
        let shown = alerts(&stage);
        let found = shown["firing"].as_array().and_then(|all| all.iter().find(|a| a["key"] == DOWN)).cloned();
        found.ok_or_else(|| format!("{shown:#}"))
    });
    assert_eq!(shown["acknowledged"], done["alert"]["acknowledged"]);

    // A step that was due under the acknowledgement came after it.
    let again = poll::until(START, "the first step again", || match told(&stage, "first") {
        Some((at, times)) if at >= until => Ok((at, times)),
        other => Err(format!("{other:?}, the acknowledgement ends {until}")),
    });
    assert_eq!(again.1, 2, "once before and once after");
    let step = poll::until(START, "the second step", || match told(&stage, "second") {
        told if told != before => told.ok_or_else(|| "untold".to_owned()),
        other => Err(format!("{other:?}")),
    });
    assert!(step.0.as_millisecond() - until.as_millisecond() >= 5000, "{step:?}, {until}");
    let report = stage.rollcall.cli(&stage.bed, &["report", "--since", "1h"]);
    for words in ["acknowledged by ada (claimed) for 1 min: new disk", "so it escalates again"] {
        assert!(report.stdout.contains(words), "{words}: {}", report.stdout);
    }

    stage.nginx[0].restart(&stage.bed);
    first.wait_for(START, "resolved", DOWN);
    stage.nginx[0].kill();
    poll::until(START, "the next alert, which is nobody's", || {
        let shown = alerts(&stage);
        let found = shown["firing"].as_array().and_then(|all| all.iter().find(|a| a["key"] == DOWN)).cloned();
        found.filter(|alert| alert["acknowledged"].is_null()).map(drop).ok_or_else(|| format!("{shown:#}"))
    });
}
