//! Foreign hands: what others change in kernel and network is found and put right.

use std::time::Duration;

use lb_tests::testbed::bed::Family;
use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::member;

use crate::journal;
use crate::stage::{START, Stage};

/// The daemon compares every ten seconds; generous, for a busy machine.
const FOUND: Duration = Duration::from_secs(40);

#[test]
fn maps_changed_by_others_are_repaired_and_reported() {
    let stage = Stage::new();
    let pin = stage.bed.scratch.bpf().join("rollcall/v1/MEMBERS");
    let pin = pin.to_str().expect("the testbed's folder has a plain name");
    // The lowest id is given first.
    let key = ["0"; 4];
    let look = || stage.bed.edge.run("bpftool", &[&["map", "lookup", "pinned", pin, "key"], &key[..]].concat());
    let before = look();
    let zeros = ["0"; 64];
    stage
        .bed
        .edge
        .run("bpftool", &[&["map", "update", "pinned", pin, "key"], &key[..], &["value"], &zeros[..]].concat());
    assert_ne!(look(), before);
    poll::until(FOUND, "the member as it was", || if look() == before { Ok(()) } else { Err(look()) });
    poll::until(Duration::from_secs(5), "a warning", || {
        let warnings = stage.rollcall.status(&stage.bed)["warnings"].to_string();
        if warnings.contains("something else changed the maps") { Ok(()) } else { Err(warnings) }
    });
    journal::wait_for(&stage, "finding and repair in the journal", |all| {
        ["drift_found", "drift_repaired"].iter().all(|kind| all.iter().any(|e| e["kind"] == *kind))
    });
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
fn program_detached_by_others_returns_and_is_reported_after_its_return() {
    let mut stage = Stage::new();
    let pin = stage.bed.scratch.bpf().join("rollcall/v1/link-front");
    let pin = pin.to_str().expect("the testbed's folder has a plain name");
    let id = || {
        let shown = stage.bed.edge.run("bpftool", &["--json", "link", "show", "pinned", pin]);
        serde_json::from_str::<serde_json::Value>(&shown).expect("bpftool prints JSON")["id"].to_string()
    };
    stage.bed.edge.run("bpftool", &["link", "detach", "id", &id()]);
    stage.rollcall.wait_for(&stage.bed, FOUND, "a warning", |status| {
        status["warnings"].to_string().contains("something took the program off front")
    });
    let links = stage.bed.edge.run("ip", &["link", "show", "front"]);
    assert!(links.contains("xdp"), "warned, but not put back: {links}");
    journal::wait_for(&stage, "the loss and the return in the journal", |all| {
        let places = |kind| all.iter().position(|e| e["kind"] == kind).zip(all.iter().rposition(|e| e["kind"] == kind));
        let (lost, attached) = (places("program_lost"), places("program_attached"));
        lost.zip(attached).is_some_and(|((lost, _), (first, last))| first < lost && lost < last)
    });
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
