//! Foreign hands: what others change in kernel and network is found and put right.

use std::time::Duration;

use lb_tests::testbed::bed::Family;
use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::member;

use crate::journal;
use crate::stage::{START, Stage};

/// The daemon compares every ten seconds; generous, for a busy machine.
const FOUND: Duration = Duration::from_secs(40);

/// `bpftool` on the daemon's `MEMBERS`, whose lowest id is given first.
fn members_map(stage: &Stage, verb: &str, more: &[&str]) -> String {
    let pin = stage.bed.scratch.bpf().join("rollcall/v1/MEMBERS");
    let pin = pin.to_str().expect("the testbed's folder has a plain name");
    stage.bed.edge.run("bpftool", &[&["map", verb, "pinned", pin, "key", "0", "0", "0", "0"], more].concat())
}

fn clear_first_member(stage: &Stage) {
    members_map(stage, "update", &[&["value"], &["0"; 64][..]].concat());
}

/// Kinds and causes of the events of `b1`, oldest first.
fn drifts(stage: &Stage) -> Vec<(String, String)> {
    let shown = stage.rollcall.json(&stage.bed, &["backend", "show", "b1"]);
    let events = shown["backends"][0]["events"].as_array().expect("a list").clone();
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    events.iter().map(|e| (text(e, "kind"), text(e, "cause"))).filter(|(kind, _)| kind.starts_with("drift")).collect()
}

#[test]
fn maps_changed_by_others_are_repaired_three_times_and_then_only_told() {
    let mut stage = Stage::new();
    let look = || members_map(&stage, "lookup", &[]);
    let before = look();
    let cleared = ("drift_found".to_owned(), "its entry in MEMBERS was cleared".to_owned());
    let repaired = ("drift_repaired".to_owned(), cleared.1.clone());
    let mut expected = Vec::new();
    for _ in 0..3 {
        clear_first_member(&stage);
        poll::until(FOUND, "the member as it was", || if look() == before { Ok(()) } else { Err(look()) });
        expected.extend([cleared.clone(), repaired.clone()]);
        poll::until(Duration::from_secs(5), "events and a warning", || {
            let (events, status) = (drifts(&stage), stage.rollcall.status(&stage.bed));
            let warned = status["warnings"].to_string().contains("something else changed the maps: ");
            let calm = status["critical"].as_array().is_some_and(Vec::is_empty);
            if warned && calm && events == expected { Ok(()) } else { Err(format!("{events:?} {status:#}")) }
        });
    }
    clear_first_member(&stage);
    let changed = look();
    let status = stage.rollcall.wait_for(&stage.bed, FOUND, "the alarm", |status| {
        status["critical"].to_string().contains("repaired 3 times within ten minutes, so they are left: ")
    });
    assert!(status["critical"].to_string().contains("/b1: its entry in MEMBERS was cleared"), "{status:#}");
    assert_eq!(members_map(&stage, "lookup", &[]), changed, "left as it was found");
    assert_eq!(stage.rollcall.cli(&stage.bed, &["check"]).code, 2);

    let audit = stage.rollcall.cli(&stage.bed, &["audit", "--output", "json"]);
    assert_eq!(audit.code, 1, "{audit:?}");
    let report: serde_json::Value = serde_json::from_str(&audit.stdout).expect("audit prints JSON");
    let failed: Vec<_> = report["checks"].as_array().into_iter().flatten().filter(|c| c["result"] == "fail").collect();
    assert_eq!((failed.len(), &failed[0]["name"]), (1, &serde_json::json!("maps")), "{report:#}");
    assert_eq!(members_map(&stage, "lookup", &[]), changed, "an audit changes nothing");
    let repair = stage.rollcall.cli(&stage.bed, &["audit", "--repair"]);
    assert_eq!(repair.code, 0, "{repair:?}");
    assert!(repair.stdout.starts_with("repaired  "), "{repair:?}");
    assert_eq!(members_map(&stage, "lookup", &[]), before);
    assert_eq!(stage.rollcall.status(&stage.bed)["critical"], serde_json::json!([]));
    let kinds: Vec<_> = drifts(&stage).into_iter().skip(expected.len()).map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["drift_found", "drift_left", "drift_repaired"]);
    journal::wait_for(&stage, "finding and repair in the journal", |all| {
        ["drift_found", "drift_repaired"].iter().all(|kind| all.iter().any(|e| e["kind"] == *kind))
    });
}

#[test]
fn audit_of_a_whole_system_finds_nothing_and_of_a_broken_one_says_what() {
    let stage = Stage::new();
    let mut flows: Vec<_> = (0..16).map(|_| stage.connect().expect("the service answers")).collect();
    flows.iter_mut().for_each(|flow| drop(crate::stage::ask(flow).expect("an answer")));
    let audit = || {
        let answer = stage.rollcall.cli(&stage.bed, &["audit", "--output", "json"]);
        let report: serde_json::Value = serde_json::from_str(&answer.stdout).expect("audit prints JSON");
        let failed = report["checks"].as_array().cloned().unwrap_or_default().into_iter();
        let failed: Vec<_> = failed.filter(|c| c["result"] != "ok").map(|c| c["name"].to_string()).collect();
        (answer.code, failed, report)
    };
    let (code, failed, report) = audit();
    assert_eq!((code, failed), (0, Vec::new()), "{report:#}");
    let names: Vec<_> = report["checks"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["maps", "tables", "pins", "program on front", "addresses", "flow counts"]);

    // Nobody but the programs writes counters, so only the recount can see it.
    let pin = stage.bed.scratch.bpf().join("rollcall/v1/MEMBER_STATS");
    let pin = pin.to_str().expect("the testbed's folder has a plain name");
    let zero = [&["map", "update", "pinned", pin, "key", "0", "0", "0", "0", "value"], &["0"; 128][..]].concat();
    stage.bed.edge.run("bpftool", &zero);
    std::fs::remove_file(stage.bed.scratch.bpf().join("rollcall/v1/SERVICES")).expect("it is pinned");
    let (code, failed, report) = audit();
    assert_eq!((code, failed), (1, vec!["\"pins\"".to_owned(), "\"flow counts\"".to_owned()]), "{report:#}");
    let counts = report["checks"][5]["evidence"].as_str().unwrap_or_default();
    assert!(counts.contains("/b1: ") && counts.contains(" open flows, but 0 opened and 0 closed"), "{report:#}");
}

#[test]
fn record_queued_by_others_is_logged_by_the_program_also_after_adoption() {
    let mut stage = Stage::new();
    let log = stage.bed.scratch.path("rollcall.log");
    let pin = stage.bed.scratch.bpf().join("rollcall/v1/AGES4");
    let pin = pin.to_str().expect("the testbed's folder has a plain name");
    for times in 1..=2 {
        let stray = ["7"; 16];
        stage.bed.edge.run("bpftool", &[&["map", "enqueue", "pinned", pin, "value"], &stray[..]].concat());
        poll::until(FOUND, "the program's line in the daemon's log", || {
            let text = std::fs::read_to_string(&log).map_err(|e| e.to_string())?;
            let said = |line: &&str| line.contains("WARN rollcall::ebpf: keys in the record queue without a flow");
            if text.lines().filter(said).count() == times { Ok(()) } else { Err(text) }
        });
        // The next daemon writes on in the same file.
        stage.rollcall.kill();
        stage.start();
    }
    stage.wait_for_service();
}

#[test]
fn vip_removed_by_others_returns() {
    let stage = Stage::new();
    let vip = stage.bed.vip(Family::V4).to_string();
    stage.bed.edge.ip(&format!("address del {vip}/32 dev front\n"));
    poll::until(FOUND, "the VIP on front", || {
        let addresses = stage.bed.edge.run("ip", &["address", "show", "front"]);
        if addresses.contains(&vip) { Ok(()) } else { Err(addresses) }
    });
}

#[test]
fn write_that_fails_is_reported_and_tried_until_it_succeeds() {
    let mut stage = Stage::before_start();
    let (_daemon, faults) = stage.start_fallible();
    std::fs::write(&faults, "apply\n").expect("the folder is writable");
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "3"]);
    assert_eq!(edited.code, 0, "{edited:?}");
    assert!(edited.stdout.contains("not yet in the kernel"), "{edited:?}");
    let status = stage.rollcall.status(&stage.bed);
    assert_eq!(status["settled"], false, "{status:#}");
    assert!(status["warnings"].to_string().contains("which is retried"), "{}", status["warnings"]);
    // What ran before serves on, and a busy daemon takes no silence for death.
    stage.wait_for_service();
    assert!(lb_tests::testbed::rollcall::members(&status).all(|m| m["health"] == "up"), "{status:#}");

    std::fs::write(&faults, "").expect("the folder is writable");
    let status = stage.rollcall.wait_for(&stage.bed, START, "three quarters", |status| {
        member(status, "web4", "b1")["share"].as_f64().is_some_and(|share| (share - 0.75).abs() < 0.01)
    });
    assert!(!status["warnings"].to_string().contains("retried"), "{}", status["warnings"]);
}

#[test]
fn reload_that_changes_only_words_writes_no_map() {
    let mut stage = Stage::before_start();
    let (_daemon, faults) = stage.start_fallible();
    // From now on any list of operations fails, and says so.
    std::fs::write(&faults, "apply\n").expect("the folder is writable");
    let text = stage.file_text();
    stage.rollcall.write_text(&format!("# A remark.\n{text}"));
    let answer = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(!answer.stdout.contains("not yet in the kernel"), "{answer:?}");
    let status = stage.rollcall.status(&stage.bed);
    assert_eq!((&status["settled"], &status["warnings"]), (&true.into(), &serde_json::json!([])));
}

#[test]
fn daemon_that_panics_leaves_the_data_plane_to_the_flows() {
    let mut stage = Stage::before_start();
    let (mut daemon, faults) = stage.start_fallible();
    std::fs::write(&faults, "panic\n").expect("the folder is writable");
    assert!(!daemon.wait(START).success());
    assert!(stage.is_pinned());
    stage.wait_for_service();
    std::fs::write(&faults, "").expect("the folder is writable");
    stage.start();
}

#[test]
fn program_detached_by_others_returns_three_times_and_is_then_only_told() {
    let mut stage = Stage::new();
    let pin = stage.bed.scratch.bpf().join("rollcall/v1/link-front");
    let pin = pin.to_str().expect("the testbed's folder has a plain name").to_owned();
    let detach = |stage: &Stage| {
        let shown = stage.bed.edge.run("bpftool", &["--json", "link", "show", "pinned", &pin]);
        let id = serde_json::from_str::<serde_json::Value>(&shown).expect("bpftool prints JSON")["id"].to_string();
        stage.bed.edge.run("bpftool", &["link", "detach", "id", &id]);
        assert!(!is_on(stage));
    };
    fn is_on(stage: &Stage) -> bool {
        stage.bed.edge.run("ip", &["link", "show", "front"]).contains("xdp")
    }
    for _ in 0..3 {
        detach(&stage);
        poll::until(FOUND, "the program on front", || if is_on(&stage) { Ok(()) } else { Err("it is off".to_owned()) });
        stage.rollcall.wait_for(&stage.bed, FOUND, "a warning", |status| {
            let calm = status["critical"].as_array().is_some_and(Vec::is_empty);
            calm && status["warnings"].to_string().contains("something took the program off front; it was put back")
        });
    }
    detach(&stage);
    let status = stage.rollcall.wait_for(&stage.bed, FOUND, "the alarm", |status| {
        status["critical"].to_string().contains("put back 3 times within ten minutes, so it is left")
    });
    assert_eq!(status["attached"].as_array().map(Vec::len), Some(0), "{status:#}");
    let audit = stage.rollcall.cli(&stage.bed, &["audit"]);
    assert!(audit.code == 1 && audit.stdout.contains("FAIL  program on front: not attached"), "{audit:?}");
    assert!(!is_on(&stage));
    let repair = stage.rollcall.cli(&stage.bed, &["audit", "--repair"]);
    assert!(repair.code == 0 && repair.stdout.contains("repaired  the program was off front"), "{repair:?}");
    assert!(is_on(&stage));
    stage.wait_for_service();
    let log = std::fs::read_to_string(stage.bed.scratch.path("rollcall.log")).expect("it has a log");
    let count = |event: &str| log.matches(&format!("{event}: the program was taken off front")).count();
    assert_eq!((count("DriftFound"), count("DriftRepaired"), count("DriftLeft")), (4, 4, 1), "{log}");
}

#[test]
fn down_of_a_killed_daemon_removes_pins_addresses_and_socket() {
    let mut stage = Stage::new();
    stage.rollcall.kill();
    let good = stage.file_text();
    stage.rollcall.write_text("[edge\n");
    let refused = stage.rollcall.cli(&stage.bed, &["down", "--yes"]);
    assert_eq!(refused.code, 78, "what to take down is not known: {refused:?}");
    assert!(stage.is_pinned());

    stage.rollcall.write_text(&good);
    let down = stage.rollcall.cli(&stage.bed, &["down", "--yes"]);
    assert_eq!((down.code, down.stderr.as_str()), (0, ""), "{down:?}");
    assert!(!stage.is_pinned() && !stage.rollcall.socket().exists());
    let front = stage.bed.edge.run("ip", &["address", "show", "front"]);
    assert!(!front.contains("xdp"), "{front}");
    for family in [Family::V4, Family::V6] {
        let vip = stage.bed.vip(family).to_string();
        assert!(!front.contains(&vip), "{vip} is left: {front}");
    }
    stage.start();
}

#[test]
fn pin_removed_by_others_is_reported_before_a_restart_needs_it() {
    let mut stage = Stage::new();
    std::fs::remove_file(stage.bed.scratch.bpf().join("rollcall/v1/SERVICES")).expect("it is pinned");
    stage.rollcall.wait_for(&stage.bed, FOUND, "a warning", |status| {
        let warnings = status["warnings"].to_string();
        warnings.contains("someone removed pins") && warnings.contains("SERVICES") && !warnings.contains("MEMBERS")
    });
}

#[test]
fn doctor_of_a_killed_daemon_knows_the_program_that_it_left() {
    let mut stage = Stage::new();
    stage.rollcall.kill();
    let answer = stage.rollcall.cli(&stage.bed, &["doctor", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&answer.stdout).expect("doctor prints JSON");
    let programs = report["checks"].as_array().into_iter().flatten();
    let programs: Vec<_> = programs.filter(|c| c["name"] == "interface front: other programs").collect();
    assert_eq!((programs.len(), &programs[0]["result"]), (1, &serde_json::json!("ok")), "{programs:?}");
    // Whoever is paged at night must be: without a route nobody is.
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let deaf = checks.find(|c| c["evidence"].as_str().is_some_and(|text| text.starts_with("no alert_route")));
    assert_eq!((answer.code, deaf.map(|c| &c["result"])), (1, Some(&serde_json::json!("fail"))), "{report:#}");
}

#[test]
fn doctor_without_a_daemon_looks_for_next_hops_itself() {
    let stage = Stage::before_start();
    let check = |name: &str| {
        let answer = stage.rollcall.cli(&stage.bed, &["doctor", "--output", "json"]);
        let report: serde_json::Value = serde_json::from_str(&answer.stdout).expect("doctor prints JSON");
        assert_eq!(report["daemon_running"], false);
        let mut checks = report["checks"].as_array().cloned().unwrap_or_default();
        checks.retain(|c| c["name"] == name);
        assert_eq!(checks.len(), 1, "{name}: {report:#}");
        checks.remove(0)
    };
    assert_eq!(check("next hops")["result"], "ok", "{:#}", check("next hops"));
    // The bed is a network namespace, where the sysctl is hidden.
    assert_eq!(check("bpf jit")["result"], "ok", "{:#}", check("bpf jit"));

    stage.bed.set_cable(0, false);
    stage.bed.edge.run("ip", &["neigh", "flush", "all"]);
    let lost = check("next hops");
    assert_eq!(lost["result"], "fail", "{lost:#}");
    let address = stage.bed.backend_address(Family::V4, 0).to_string();
    assert!(lost["evidence"].to_string().contains(&format!("{address}: no answer")), "{lost:#}");
}

#[test]
fn bpffs_unmounted_beneath_the_daemon_is_reported_and_traffic_goes_on() {
    let mut stage = Stage::new();
    stage.wait_for_service();
    let bpf = stage.bed.scratch.bpf();
    // The daemon's lock keeps it busy for a plain one.
    assert_eq!(nix::mount::umount2(&bpf, nix::mount::MntFlags::empty()), Err(nix::errno::Errno::EBUSY));
    nix::mount::umount2(&bpf, nix::mount::MntFlags::MNT_DETACH).expect("it is mounted");
    let status = stage
        .rollcall
        .wait_for(&stage.bed, FOUND, "a warning", |status| status["warnings"].to_string().contains("with all pins"));
    // By the kernel's word the program is where it was: nothing is put back, and nobody is told to take it off.
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("unmounted") && !warnings.contains("put back"), "{warnings}");
    assert_eq!(status["warnings"].as_array().map(Vec::len), Some(1), "{warnings}");
    stage.wait_for_service();
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "3"]);
    assert_eq!(edited.code, 0, "{edited:?}");
    stage.wait_for_service();
}

#[test]
fn configuration_file_that_vanishes_is_told_and_can_be_printed() {
    let mut stage = Stage::new();
    let text = stage.file_text();
    std::fs::remove_file(stage.rollcall.file()).expect("it is there");
    stage.rollcall.wait_for(&stage.bed, START, "a warning", |status| {
        status["warnings"].to_string().contains("is gone or cannot be read")
    });
    let shown = stage.rollcall.cli(&stage.bed, &["config", "show"]);
    assert!(shown.code == 0 && shown.stdout.contains(&text), "{shown:?}");
    stage.rollcall.write_text(&text);
    stage.rollcall.wait_for(&stage.bed, START, "no warning", |status| status["warnings"] == serde_json::json!([]));
}
