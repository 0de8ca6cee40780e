//! The capacity guard on the real daemon, with connections that really are open: what the others cannot carry is refused,
//! and a drain that they can no longer carry is ended. N-1, and that a risk is accepted for longer than a daemon lives.

use std::net::TcpStream;
use std::time::Duration;

use lb_tests::testbed::rollcall::{Answer, member};
use serde_json::Value;

use crate::stage::{START, Stage, ask};

/// Flows are counted every ten seconds.
const COUNTED: Duration = Duration::from_secs(40);
/// What each of the two servers carries.
const MOST: usize = 20;

fn cli(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.rollcall.cli(&stage.bed, arguments)
}

/// Two servers that carry [`MOST`] flows each, and the daemon with every member in rotation.
fn stage() -> Stage {
    let mut stage = Stage::before_start();
    let limited = format!("[[backend]]\nmax_flows = {MOST}\n");
    // In turn, so that no server reaches its limit by chance.
    let text = stage.file_text().replace("[[backend]]\n", &limited).replace("\"maglev\"", "\"round-robin\"");
    stage.rollcall.write_text(&text);
    stage.start();
    stage
}

/// Connections that stay open, each of which has been answered.
#[track_caller]
fn open(stage: &Stage, count: usize) -> Vec<TcpStream> {
    let one = |_| {
        let mut stream = stage.connect().expect("the service answers");
        ask(&mut stream).expect("an answer");
        stream
    };
    (0..count).map(one).collect()
}

fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["services"].as_array().expect("a list").iter().find(|s| s["name"] == name).expect("it is configured")
}

/// Waits until N-1 of the web service is so.
#[track_caller]
fn wait_for(stage: &mut Stage, verdict: &str) -> Value {
    let is = |status: &Value| service(status, "web4")["n_minus_1"]["verdict"] == verdict;
    stage.rollcall.wait_for(&stage.bed, COUNTED, &format!("N-1: {verdict}"), is)
}

#[test]
fn server_whose_load_the_other_cannot_carry_stays_in_and_is_called_back() {
    let mut stage = stage();
    let drain = ["backend", "drain", "b1", "--for", "5m", "--reason", "kernel test", "--owner", "ada", "--yes"];
    let held = open(&stage, MOST + 10);
    let status = wait_for(&mut stage, "does_not_fit");
    let evidence = service(&status, "web4")["n_minus_1"]["evidence"].as_str().expect("words").to_owned();
    assert!(evidence.contains("would have 30 active flows instead of") && evidence.contains("its max_flows is 20"));
    let shown = cli(&stage, &["status"]).stdout;
    assert!(shown.contains("N-1 NOT met for"), "{shown}");
    for refused in [&drain[..], &["backend", "remove", "b1", "--yes"]] {
        let answer = cli(&stage, refused);
        assert_eq!(answer.code, 75, "{answer:?}");
        assert!(answer.stderr.contains("b2 would have 30 active flows instead of"), "{answer:?}");
        assert!(answer.stderr.contains("--override-guard"), "{answer:?}");
    }
    let status = stage.rollcall.status(&stage.bed);
    assert_eq!(
        (status["leases"].as_array().map(Vec::len), &member(&status, "web4", "b1")["in_rotation"]),
        (Some(0), &true.into())
    );

    drop(held);
    wait_for(&mut stage, "fits");
    let granted = cli(&stage, &drain);
    assert_eq!(granted.code, 0, "{granted:?}");
    let _held = open(&stage, MOST + 10);
    let back = |status: &Value| status["leases"].as_array().is_some_and(Vec::is_empty);
    stage.rollcall.wait_for(&stage.bed, COUNTED, "the end of the drain", back);
    let events = stage.rollcall.json(&stage.bed, &["events", "--backend", "b1"]);
    let recalled = events["events"].as_array().expect("a list").iter().find(|e| e["kind"] == "recalled");
    let cause = recalled.and_then(|e| e["cause"].as_str()).expect("it was called back");
    assert!(cause.contains("b2 would have") && cause.contains("its max_flows is 20"), "{cause}");

    // What people know better is done, and told.
    let mut overridden = drain.to_vec();
    overridden.extend(["--override-guard", "it burns"]);
    // The other one, which has more than it may, gets nothing new meanwhile.
    let serves = |status: &Value| member(status, "web4", "b1")["in_rotation"] == true;
    stage.rollcall.wait_for(&stage.bed, START, "b1 in rotation", serves);
    let granted = cli(&stage, &overridden);
    assert_eq!(granted.code, 0, "{granted:?}");
    let events = stage.rollcall.json(&stage.bed, &["events", "--backend", "b1"]);
    let told = events["events"].as_array().expect("a list").iter().find(|e| e["kind"] == "guard_overridden");
    let cause = told.and_then(|e| e["cause"].as_str()).expect("it was overridden");
    assert!(cause.starts_with("by ada (claimed): it burns; against it: service web4: b2 would have"), "{cause}");
}

#[test]
fn accepted_risk_is_shown_survives_the_daemon_and_can_be_withdrawn() {
    let mut stage = stage();
    let reason = ["--reason", "second server ordered", "--owner", "ada"];
    let accept = |time| [&["risk", "accept", "n-1", "--service", "web4", "--for", time][..], &reason].concat();
    assert_eq!(cli(&stage, &accept("91d")).code, 64);
    let accepted = cli(&stage, &accept("30d"));
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.stdout.contains("service web4 may be without N-1, accepted by ada (claimed)"), "{accepted:?}");
    stage.rollcall.terminate();
    stage.start();
    let risks = stage.rollcall.json(&stage.bed, &["risk", "list"]);
    let of = |risks: &Value| {
        risks["risks"].as_array().expect("a list").iter().map(|r| r["service"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(&risks), ["web4"]);
    let status = wait_for(&mut stage, "fits");
    assert_eq!(service(&status, "web4")["n_minus_1"]["accepted"]["owner"], "ada");
    assert_eq!(service(&status, "web6")["n_minus_1"]["accepted"], Value::Null);
    let withdraw = ["risk", "withdraw", "n-1", "--service", "web4", "--owner", "grace"];
    assert_eq!(cli(&stage, &withdraw).code, 0);
    assert_eq!(cli(&stage, &withdraw).code, 66);
    assert_eq!(of(&stage.rollcall.json(&stage.bed, &["risk", "list"])), [] as [&str; 0]);
}
