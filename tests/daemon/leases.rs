//! Leases and removals on the real daemon: who is out, until when, and that neither a crash nor a removal loses it.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;

use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::{Answer, member, members};
use serde_json::Value;

use crate::stage::{START, Stage};

const SERVICES: [&str; 4] = ["web4", "web6", "echo4", "echo6"];

fn cli(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.rollcall.cli(&stage.bed, arguments)
}

/// A drain of `b1`, confirmed, since one of two is left alone.
fn drain(stage: &Stage, time: &str) -> Answer {
    let take = ["backend", "drain", "b1", "--for", time, "--reason", "kernel test", "--owner", "ada", "--yes"];
    cli(stage, &take)
}

/// Kinds of the reasons that keep `b1` out of a service.
fn reasons(status: &Value, service: &str) -> Vec<String> {
    let reasons = member(status, service, "b1")["reasons"].as_array().expect("a list").clone();
    reasons.iter().map(|r| r["kind"].as_str().expect("a name").to_owned()).collect()
}

#[track_caller]
fn assert_out(stage: &Stage, point: &str) {
    let status = stage.rollcall.status(&stage.bed);
    assert_eq!(status["leases"][0]["reason"], "kernel test", "{point}: {:#}", status["leases"]);
    for service in SERVICES {
        assert_eq!(member(&status, service, "b1")["share"], 0.0, "{point}: {service}");
        assert_eq!(reasons(&status, service), ["drained"], "{point}: {service}");
        assert_eq!(member(&status, service, "b2")["share"], 1.0, "{point}: {service}");
    }
    assert_eq!(status["settled"], true, "{point}");
    stage.rollcall.assert_kernel_agrees(&stage.bed, &stage.configuration);
}

#[test]
fn drained_server_is_out_for_its_time_and_comes_back_by_itself() {
    let mut stage = Stage::new();
    let held = drain(&stage, "3s");
    assert_eq!(held.code, 0, "{held:?}");
    assert!(held.stdout.contains("b1 drained by ada (claimed), 2 s left: kernel test"), "{held:?}");
    assert_out(&stage, "at once");
    let shown = cli(&stage, &["status"]);
    assert!(shown.stdout.starts_with("1 of 2 in rotation: b1 drained by ada (claimed), "), "{shown:?}");
    let status = stage.rollcall.wait_for_all(&stage.bed, START);
    assert_eq!(status["leases"].as_array().map(Vec::len), Some(0));
    let history = stage.rollcall.json(&stage.bed, &["backend", "show", "b1"]);
    let events = history["backends"][0]["events"].as_array().expect("a list");
    let kinds: Vec<&str> = events.iter().filter_map(|e| e["kind"].as_str()).collect();
    let place = |kind| kinds.iter().position(|k| *k == kind).unwrap_or_else(|| panic!("no {kind}: {kinds:?}"));
    assert!(place("drained") < place("lease_ending") && place("lease_ending") < place("lease_ended"), "{kinds:?}");
}

#[test]
fn drained_server_keeps_its_flows() {
    let stage = Stage::new();
    let mut flows: Vec<_> = (0..16).map(|_| stage.connect().expect("the service answers")).collect();
    let before: Vec<String> = flows.iter_mut().map(|f| crate::stage::ask(f).expect("an answer")).collect();
    assert!(before.iter().any(|b| b == "b1") && before.iter().any(|b| b == "b2"), "{before:?}");
    assert_eq!(drain(&stage, "1m").code, 0);
    let after: Vec<String> = flows.iter_mut().map(|f| crate::stage::ask(f).expect("an answer")).collect();
    assert_eq!(before, after);
    for _ in 0..16 {
        let mut new = stage.connect().expect("the service answers");
        assert_eq!(crate::stage::ask(&mut new).expect("an answer"), "b2");
    }
    assert_eq!(cli(&stage, &["backend", "restore", "b1", "--owner", "grace"]).code, 0);
}

#[test]
fn lease_survives_the_daemons_death_wherever_it_dies() {
    let mut stage = Stage::new();
    stage.rollcall.terminate();
    for (point, granted) in [("before_lease", false), ("after_lease", true)] {
        let mut daemon = stage.spawn(&[("ROLLCALL_CRASH_AT", point)]);
        stage.rollcall.wait_for_all(&stage.bed, START);
        assert_eq!(drain(&stage, "1h").code, 69, "{point}: it died without an answer");
        assert_eq!(daemon.wait(START).signal(), Some(libc::SIGKILL), "{point}: {}", daemon.tail());
        if granted {
            stage.rollcall.run(&stage.bed);
            stage.rollcall.wait_for(&stage.bed, START, "the lease", |s| s["settled"] == true);
            assert_out(&stage, point);
        } else {
            stage.start();
            assert_eq!(stage.rollcall.status(&stage.bed)["leases"].as_array().map(Vec::len), Some(0), "{point}");
        }
        stage.rollcall.terminate();
    }
    // Killed before the end of the lease is stored: it is in force again, and can be ended again.
    let mut daemon = stage.spawn(&[("ROLLCALL_CRASH_AT", "before_store")]);
    stage.rollcall.wait_for(&stage.bed, START, "the lease", |s| s["settled"] == true);
    assert_eq!(cli(&stage, &["backend", "restore", "b1", "--owner", "ada"]).code, 69);
    assert_eq!(daemon.wait(START).signal(), Some(libc::SIGKILL), "{}", daemon.tail());
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for(&stage.bed, START, "the lease", |s| s["settled"] == true);
    assert_out(&stage, "before_store");
    assert_eq!(cli(&stage, &["backend", "restore", "b1", "--owner", "ada"]).code, 0);
    stage.rollcall.wait_for_all(&stage.bed, START);
}

#[test]
fn removed_server_is_missed_wherever_the_daemon_dies_until_it_is_forgotten() {
    let mut stage = Stage::new();
    stage.rollcall.terminate();
    let file = stage.file_text();
    for point in ["after_rename", "before_store", "after_apply", "after_revision"] {
        let mut daemon = stage.spawn(&[("ROLLCALL_CRASH_AT", point)]);
        stage.rollcall.wait_for_all(&stage.bed, START);
        assert_eq!(cli(&stage, &["backend", "remove", "b1", "--yes"]).code, 69, "{point}: it died without an answer");
        assert_eq!(daemon.wait(START).signal(), Some(libc::SIGKILL), "{point}: {}", daemon.tail());
        stage.start();
        let status = stage.rollcall.status(&stage.bed);
        assert!(members(&status).all(|m| m["backend"] == "b2"), "{point}: the removal is in force");
        let missed: Vec<&str> = (status["removed"].as_array().expect("a list").iter())
            .map(|r| r["service"].as_str().expect("these services go on"))
            .collect();
        assert_eq!(missed, ["echo4", "echo6", "web4", "web6"], "{point}");
        stage.rollcall.terminate();
        // Back while no daemon runs: nobody is missed any more.
        stage.rollcall.write_text(&file);
        stage.start();
        let status = stage.rollcall.status(&stage.bed);
        assert_eq!(status["removed"].as_array().map(Vec::len), Some(0), "{point}: {:#}", status["removed"]);
        stage.rollcall.terminate();
    }
    stage.start();
    assert_eq!(cli(&stage, &["backend", "remove", "b1", "--yes"]).code, 0);
    let shown = cli(&stage, &["status"]);
    assert!(shown.stdout.starts_with("1 of 2 in rotation: b1 REMOVED from echo4, echo6, web4, web6"), "{shown:?}");
    let forgotten = cli(&stage, &["backend", "forget", "b1", "--owner", "ada"]);
    assert_eq!(forgotten.code, 0, "{forgotten:?}");
    assert_eq!(cli(&stage, &["backend", "forget", "b1", "--owner", "ada"]).code, 66);
    assert!(cli(&stage, &["status"]).stdout.starts_with("the only backend is in rotation"));
}

#[test]
fn server_removed_for_good_is_not_missed() {
    let stage = Stage::new();
    let nothing_said = cli(&stage, &["backend", "remove", "b1", "--decommission"]);
    assert_eq!(nothing_said.code, 64, "{nothing_said:?}");
    let gone = cli(&stage, &["backend", "remove", "b1", "--decommission", "--reason", "sold", "--yes"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(stage.rollcall.status(&stage.bed)["removed"].as_array().map(Vec::len), Some(0));
}

#[test]
fn lease_that_cannot_be_is_refused_with_its_code_and_changes_nothing() {
    let mut stage = Stage::before_start();
    let (_daemon, faults) = stage.start_fallible();
    let take = |name: &str, more: &[&str]| {
        let mut arguments = vec!["backend", "drain", name];
        arguments.extend(more);
        cli(&stage, &arguments)
    };
    let owned = ["--reason", "test", "--owner", "ada"];
    let with = |more: &[&'static str]| owned.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    for (answer, code, says) in [
        (take("b1", &owned), 75, "b2 alone is left in rotation: if it fails, so does the service"),
        (take("b9", &with(&["--yes"])), 66, "there are: b1, b2"),
        (take("b1", &with(&["--yes", "--service", "none"])), 66, "there is no service none"),
        (take("b1", &with(&["--yes", "--for", "73h"])), 64, "at most 72 h"),
        (take("b1", &with(&["--yes", "--for", "soon"])), 64, "1h30m"),
        (take("b1", &["--owner", "ada", "--yes"]), 64, "--reason"),
        (cli(&stage, &["backend", "restore", "b1", "--owner", "ada"]), 66, "no lease"),
        (cli(&stage, &["backend", "extend", "b1", "--for", "1m", "--owner", "ada"]), 66, "no lease"),
    ] {
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.stderr.contains(says), "{says}: {answer:?}");
    }
    // A lease that could not be kept would be lost with the daemon: it is not granted.
    std::fs::write(&faults, "record\n").expect("the folder is writable");
    let full = take("b1", &with(&["--yes"]));
    assert_eq!(full.code, 71, "{full:?}");
    assert!(members(&stage.rollcall.status(&stage.bed)).all(|m| m["in_rotation"] == true));
    std::fs::remove_file(&faults).expect("it was just written");
    // But what is in force can be ended.
    assert_eq!(take("b1", &with(&["--yes"])).code, 0);
    std::fs::write(&faults, "record\n").expect("the folder is writable");
    assert_eq!(cli(&stage, &["backend", "restore", "b1", "--owner", "ada"]).code, 0);
    let status =
        stage.rollcall.wait_for(&stage.bed, START, "everybody back", |s| members(s).all(|m| m["in_rotation"] == true));
    assert!(status["warnings"].to_string().contains("a restart would undo it"), "{:#}", status["warnings"]);
    std::fs::remove_file(&faults).expect("it was just written");
    stage.rollcall.wait_for(&stage.bed, START, "the record", |s| s["warnings"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn maintenance_ends_the_flows_of_its_server_and_no_others() {
    let stage = Stage::new();
    let mut flows: Vec<_> = (0..16).map(|_| stage.connect().expect("the service answers")).collect();
    let servers: Vec<String> = flows.iter_mut().map(|f| crate::stage::ask(f).expect("an answer")).collect();
    assert!(servers.iter().any(|b| b == "b1") && servers.iter().any(|b| b == "b2"), "{servers:?}");
    let take = ["backend", "maint", "b1", "--for", "1h", "--reason", "new disk", "--owner", "ada", "--yes"];
    assert_eq!(cli(&stage, &take).code, 0);
    for (flow, server) in flows.iter_mut().zip(&servers) {
        if server == "b2" {
            assert_eq!(crate::stage::ask(flow).expect("an answer"), "b2");
            continue;
        }
        poll::until(START, "the end of a flow to b1", || match crate::stage::ask(flow) {
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    assert_eq!(reasons(&stage.rollcall.status(&stage.bed), "web4"), ["maintenance"]);
    assert_eq!(cli(&stage, &["backend", "ready", "b1", "--owner", "ada"]).code, 0);
}
