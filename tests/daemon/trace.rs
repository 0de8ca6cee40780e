//! `rollcall trace`: the same answer as the packet itself would get, and nothing of the live maps touched.

use std::net::SocketAddr;

use lb_tests::testbed::bed::{FAMILIES, Family};
use lb_tests::testbed::rollcall::WEB;
use serde_json::Value;

use crate::stage::{Stage, ask};

#[track_caller]
fn trace(stage: &Stage, from: SocketAddr, to: SocketAddr, more: &[&str]) -> Value {
    let (from, to) = (from.to_string(), to.to_string());
    stage.rollcall.json(&stage.bed, &[&["trace", "--from", &from, "--to", &to], more].concat())
}

/// What a step found.
fn found<'a>(trace: &'a Value, step: &str) -> &'a str {
    let steps = trace["steps"].as_array().expect("a list");
    steps.iter().find(|s| s["step"] == step).and_then(|s| s["found"].as_str()).unwrap_or("(no such step)")
}

fn opened(stage: &Stage) -> u64 {
    let stats = stage.rollcall.json(&stage.bed, &["stats"]);
    let services = stats["services"].as_array().expect("a list");
    let backends = services.iter().flat_map(|s| s["backends"].as_array().expect("a list"));
    backends.map(|b| b["flows_opened"].as_u64().expect("a number")).sum()
}

#[test]
fn trace_of_a_new_flow_names_slot_backend_and_packet_and_opens_nothing() {
    let stage = Stage::new();
    let before = opened(&stage);
    for family in FAMILIES {
        let web = SocketAddr::new(stage.bed.vip(family), WEB);
        let client = SocketAddr::new(stage.bed.client_addresses(family, 0)[0], 40_000);
        let seen = trace(&stage, client, web, &[]);
        assert_eq!((&seen["verdict"], &seen["reason"]), (&Value::from("tx"), &Value::Null), "{seen:#}");
        let backend = seen["backend"].as_str().expect("it goes to one");
        assert!(found(&seen, "table").contains(" of 10007: b"), "{seen:#}");
        assert!(found(&seen, "table").ends_with(backend), "{seen:#}");
        let number: u8 = backend[1..].parse().expect("b1 or b2");
        let to: SocketAddr = seen["packet_out"]["to_address"].as_str().expect("sent").parse().expect("an address");
        assert_eq!(to.ip(), stage.bed.backend_address(family, number - 1));
        assert_eq!(seen["packet_out"]["ttl"], 59);
        // The hash decides, so that it decides alike each time.
        assert_eq!(trace(&stage, client, web, &[])["backend"], backend);
    }
    assert_eq!(opened(&stage), before, "a trace opened a flow");
    let pins = std::fs::read_dir(stage.bed.scratch.bpf().join("rollcall")).expect("it is pinned");
    let names: Vec<_> = pins.map(|entry| entry.expect("readable").file_name()).collect();
    assert_eq!(names, ["v1"], "copies are removed");
}

#[test]
fn trace_of_a_living_connection_knows_both_of_its_sides() {
    let stage = Stage::new();
    let mut stream = stage.connect().expect("it serves");
    let backend = ask(&mut stream).expect("it answers");
    let client = stream.local_addr().expect("it is connected");
    let web = SocketAddr::new(stage.bed.vip(Family::V4), WEB);
    let seen = trace(&stage, client, web, &["--flags", "ack"]);
    assert_eq!((&seen["verdict"], &seen["backend"]), (&Value::from("tx"), &Value::from(backend)), "{seen:#}");
    assert!(found(&seen, "flow").starts_with("known, established"), "{seen:#}");
    let (server, source) = (&seen["packet_out"]["to_address"], &seen["packet_out"]["from_address"]);
    let address = |of: &Value| of.as_str().expect("an address").parse::<SocketAddr>().expect("an address");
    let seen = trace(&stage, address(server), address(source), &["--flags", "ack"]);
    assert!(found(&seen, "flow").ends_with("a packet of the backend"), "{seen:#}");
    assert_eq!(seen["packet_out"]["to_address"], client.to_string());
    // An ACK of nobody is answered with a reset.
    let stranger = SocketAddr::new(client.ip(), if client.port() == 1025 { 1026 } else { 1025 });
    let seen = trace(&stage, stranger, web, &["--flags", "ack"]);
    assert_eq!((&seen["verdict"], &seen["reason"]), (&Value::from("tx"), &Value::from("tx_reset")), "{seen:#}");
}

#[test]
fn trace_says_why_a_packet_is_not_forwarded() {
    let mut stage = Stage::new();
    let client = SocketAddr::new(stage.bed.client_addresses(Family::V4, 0)[0], 40_000);
    let vip = stage.bed.vip(Family::V4);
    let seen = trace(&stage, client, SocketAddr::new(vip, 81), &[]);
    assert_eq!((&seen["verdict"], &seen["reason"]), (&Value::from("pass"), &Value::from("pass_no_service")));
    assert!(found(&seen, "destination").contains("no service on 81/tcp; there is web4 on 80/tcp"), "{seen:#}");
    let seen = trace(&stage, client, SocketAddr::new(client.ip(), 80), &[]);
    assert_eq!(seen["reason"], "pass_not_ours", "{seen:#}");

    let refused = stage.rollcall.cli(&stage.bed, &["trace", "--from", "[::1]:5", "--to", &format!("{vip}:80")]);
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.stderr.contains("two families"), "{refused:?}");

    // Without the daemon the program goes on, and so does the answer.
    stage.rollcall.terminate();
    let answer =
        stage.rollcall.cli(&stage.bed, &["trace", "--from", &client.to_string(), "--to", &format!("{vip}:80")]);
    assert_eq!(answer.code, 69, "{answer:?}");
    assert!(answer.stdout.contains("forwarded (b"), "{answer:?}");
}
