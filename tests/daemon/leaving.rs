//! What leaves the configuration while flows still use it: members keep their ids, source addresses stay local, until
//! the last flow has ended.

use std::net::IpAddr;

use lb_tests::testbed::bed::Family;
use lb_tests::testbed::poll;

use crate::stage::{START, Stage, ask};

/// Flows end a second after their connection.
const SHORT: &str = "\n[conntrack]\nclosing_timeout = \"1s\"\nclosed_timeout = \"1s\"\ntime_wait_timeout = \"1s\"\n";

/// A stage whose flows end soon after their connection.
fn stage() -> Stage {
    let mut stage = Stage::before_start();
    write(&stage, &stage.configuration);
    stage.start();
    stage
}

fn write(stage: &Stage, configuration: &lb_tests::testbed::rollcall::Configuration) {
    let text = configuration.text(&stage.bed.scratch.path(""));
    stage.rollcall.write_text(&format!("{text}{SHORT}"));
}

/// Members in the kernel, from the map itself: entries with an address family.
fn members_in_kernel(stage: &Stage) -> usize {
    let pin = stage.bed.scratch.bpf().join("rollcall/v1/MEMBERS");
    let pin = pin.to_str().expect("the testbed's folder has a plain name");
    let dump = stage.bed.edge.run("bpftool", &["--json", "map", "dump", "pinned", pin]);
    let entries: serde_json::Value = serde_json::from_str(&dump).expect("bpftool prints JSON");
    let used = |e: &&serde_json::Value| e["value"].as_array().is_some_and(|bytes| bytes.iter().any(|b| b != "0x00"));
    entries.as_array().expect("an array map").iter().filter(used).count()
}

#[test]
fn member_removed_serves_its_flows_and_gives_up_its_id_when_they_end() {
    let stage = stage();
    assert_eq!(members_in_kernel(&stage), 8);
    let mut flow = stage.connect().expect("it serves");
    let backend = ask(&mut flow).expect("it serves");
    let removed = stage.rollcall.cli(&stage.bed, &["backend", "remove", &backend, "--yes"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    // Those without flows go; the one with the flow stays.
    poll::until(START, "the flowless members gone", || match members_in_kernel(&stage) {
        5 => Ok(()),
        n => Err(format!("{n} members")),
    });
    assert_eq!(ask(&mut flow).expect("the flow goes on"), backend);
    drop(flow);
    poll::until(START, "the last member gone", || match members_in_kernel(&stage) {
        4 => Ok(()),
        n => Err(format!("{n} members")),
    });
}

#[test]
fn source_address_removed_serves_its_flows_and_leaves_when_they_end() {
    let stage = stage();
    let old = stage.bed.pool(Family::V4).to_string();
    let on_front = || stage.bed.edge.run("ip", &["-4", "address", "show", "front"]).contains(&format!(" {old}/32"));
    assert!(on_front());
    let mut flow = stage.connect().expect("it serves");
    ask(&mut flow).expect("it serves");

    let mut moved = stage.configuration.clone();
    let new: IpAddr = "10.77.0.99".parse().expect("an address");
    moved.pool[0] = new;
    write(&stage, &moved);
    let answer = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.contains(&format!("source address {old}: stays")), "{answer:?}");
    let mut second = stage.connect().expect("it serves with the new address");
    ask(&mut second).expect("it serves with the new address");
    let flows = stage.rollcall.json(&stage.bed, &["flows"]).to_string();
    assert!(flows.contains("10.77.0.99") && flows.contains(&old), "{flows}");

    // Through two looks of the daemon.
    let sample = || stage.rollcall.status(&stage.bed)["time"].as_str().map(str::to_owned);
    let begin = std::time::Instant::now();
    poll::until(START, "eleven seconds of service", || {
        ask(&mut flow).expect("the flow goes on");
        assert!(on_front(), "the address left under its flow, at {:?}", sample());
        if begin.elapsed().as_secs() >= 11 { Ok(()) } else { Err("not yet".into()) }
    });
    drop(flow);
    poll::until(START, "the address gone", || if on_front() { Err("it is there".into()) } else { Ok(()) });
    ask(&mut second).expect("the other flow goes on");
}
