//! Tiers, the last resort and slow start on the real daemon, with servers that really die.

use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::member;
use serde_json::Value;

use crate::stage::{START, Stage, ask};

/// The usual file, in which `web4` has `b1`, `b2` as a backup, and panics.
#[track_caller]
fn stage() -> Stage {
    let mut stage = Stage::before_start();
    let text = stage.configuration.text(&stage.bed.scratch.path(""));
    let at = text.find("name = \"web4\"").expect("the usual services");
    let (before, web4) = text.split_at(at);
    let web4 = web4.replacen("protocol = \"tcp\"", "protocol = \"tcp\"\npanic = \"all\"\nslow_start = \"5s\"", 1);
    let web4 = web4.replacen("backend = \"b2\"", "backend = \"b2\"\ntier = \"backup\"", 1);
    stage.rollcall.write_text(&format!("{before}{web4}"));
    stage.rollcall.run(&stage.bed);
    wait(&mut stage, "b2 stands by", |s| (is_in(s, "b1"), is_in(s, "b2"), stands_by(s)) == (true, false, true));
    stage
}

fn web4(status: &Value) -> &Value {
    let services = status["services"].as_array().expect("a list");
    services.iter().find(|s| s["name"] == "web4").expect("it is configured")
}

fn is_in(status: &Value, backend: &str) -> bool {
    member(status, "web4", backend)["in_rotation"] == true
}

fn stands_by(status: &Value) -> bool {
    member(status, "web4", "b2")["standby"] == true
}

#[track_caller]
fn wait(stage: &mut Stage, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    stage.rollcall.wait_for(&stage.bed, START, what, wanted)
}

/// Who answers a new connection.
#[track_caller]
fn served_by(stage: &Stage) -> String {
    poll::until(START, "an answer from the VIP", || {
        stage.connect().and_then(|mut stream| ask(&mut stream)).map_err(|e| e.to_string())
    })
}

#[test]
fn backup_serves_real_requests_while_the_primary_is_dead_and_stands_by_again() {
    let mut stage = stage();
    assert_eq!(served_by(&stage), "b1");
    let shown = stage.rollcall.cli(&stage.bed, &["status"]).stdout;
    assert!(shown.starts_with("all 2 backends in rotation"), "{shown}");
    assert!(shown.contains("standby"), "{shown}");

    stage.nginx[0].kill();
    let status = wait(&mut stage, "the backup", |s| !is_in(s, "b1") && is_in(s, "b2"));
    assert!(web4(&status)["backup_in_use_since"].is_string(), "{:#}", web4(&status));
    assert_eq!(served_by(&stage), "b2");
    let shown = stage.rollcall.cli(&stage.bed, &["status"]).stdout;
    assert!(shown.starts_with("BACKUP IN USE for ") && shown.contains(" in web4; "), "{shown}");

    stage.nginx[0].restart(&stage.bed);
    let status = wait(&mut stage, "the primary", |s| is_in(s, "b1"));
    assert!(is_in(&status, "b2"), "the backup stays for a while: {:#}", web4(&status));
    let status = wait(&mut stage, "the backup's end", stands_by);
    assert!(is_in(&status, "b1") && web4(&status)["backup_in_use_since"].is_null(), "{:#}", web4(&status));
    let b1 = member(&status, "web4", "b1");
    assert_eq!((&b1["weight_effective"], &b1["share"]), (&Value::from(1.0), &Value::from(1.0)));
    for _ in 0..8 {
        assert_eq!(served_by(&stage), "b1");
    }
    let history = stage.rollcall.json(&stage.bed, &["events"]);
    let events = history["events"].as_array().expect("a list");
    let kinds: Vec<&str> = events.iter().filter_map(|e| e["kind"].as_str()).collect();
    for kind in ["backup_in_use", "backup_standby", "ramping", "ramped"] {
        assert!(kinds.contains(&kind), "no {kind}: {kinds:?}");
    }
}

#[test]
fn panic_sends_new_flows_to_all_until_the_first_is_up() {
    let mut stage = stage();
    stage.nginx[1].kill();
    wait(&mut stage, "the backup is missed", |s| !stands_by(s) && is_in(s, "b1"));
    stage.nginx[0].kill();
    let status = wait(&mut stage, "panic", |s| is_in(s, "b1") && is_in(s, "b2"));
    assert!(web4(&status)["panic_since"].is_string(), "{:#}", web4(&status));
    for backend in ["b1", "b2"] {
        let member = member(&status, "web4", backend);
        assert_eq!((&member["health"], &member["weight_effective"]), (&"down".into(), &1.0.into()), "{member:#}");
    }
    let check = stage.rollcall.cli(&stage.bed, &["check"]);
    assert_eq!(check.code, 2, "{check:?}");

    stage.nginx[1].restart(&stage.bed);
    let status = wait(&mut stage, "the end of panic", |s| !is_in(s, "b1") && is_in(s, "b2"));
    assert!(web4(&status)["panic_since"].is_null(), "{:#}", web4(&status));
    assert!(web4(&status)["backup_in_use_since"].is_string(), "{:#}", web4(&status));
    assert_eq!(served_by(&stage), "b2");
}
