//! Starts that must fail cleanly, and those that must not fail.

use std::time::Duration;

use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::members;
use lb_tests::testbed::xdp_pass;

use crate::stage::{START, Stage};

#[test]
fn start_beside_a_running_daemon_is_refused_and_names_its_pid() {
    let stage = Stage::new();
    let (code, said) = stage.refused();
    assert_eq!(code, 75, "{said}");
    let pid = stage.rollcall.pid().expect("it runs").to_string();
    assert!(said.contains(&pid), "{said}");
    assert!(members(&stage.rollcall.status(&stage.bed)).all(|m| m["in_rotation"] == true));
}

#[test]
fn start_on_the_pins_of_a_running_daemon_is_refused_and_the_first_goes_on() {
    let mut stage = Stage::new();
    let text = stage.file_text();
    // Everything of its own but the pins.
    let other = stage.bed.scratch.path("other");
    let text = text.replace(stage.rollcall.socket().to_str().expect("plain"), &format!("{}.sock", other.display()));
    let text = text.replace("/state\"", "/state2\"");
    assert_eq!(text.matches("other.sock").count() + text.matches("/state2").count(), 2, "{text}");
    std::fs::write(other.with_extension("toml"), text).expect("the folder is writable");
    let mut command = stage.bed.edge.command(lb_tests::testbed::rollcall::binary());
    let answer =
        lb_tests::testbed::rollcall::answer(command.arg("run").arg("--config").arg(other.with_extension("toml")));
    assert_eq!(answer.code, 75, "{answer:?}");
    assert!(answer.stderr.contains("another rollcall daemon uses the data plane"), "{}", answer.stderr);
    stage.rollcall.wait_for_all(&stage.bed, START);
}

#[test]
fn start_with_a_bad_file_and_no_history_is_refused_and_leaves_nothing() {
    let stage = Stage::before_start();
    stage.rollcall.write_text("[edge]\ninterfaces = [\"front\"]\nbogus = 1\n");
    let (code, said) = stage.refused();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("rollcall.toml:3:1") && said.contains("bogus"), "{said}");
    assert!(!stage.is_pinned() && !stage.bed.scratch.path("state").exists());
}

#[test]
fn start_with_a_bad_file_runs_the_last_good_revision_and_says_so() {
    let mut stage = Stage::new();
    stage.rollcall.terminate();
    let good = stage.file_text();
    stage.rollcall.write_text(&good.replace("port = 80\n", "port = 0\n"));
    stage.start();
    let status = stage.rollcall.status(&stage.bed);
    assert_eq!(members(&status).count(), 8);
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("revision 1") && warnings.contains("port = 0"), "{warnings}");

    stage.rollcall.write_text(&good);
    let answer = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let warnings = stage.rollcall.status(&stage.bed)["warnings"].to_string();
    assert!(!warnings.contains("revision 1"), "{warnings}");
}

#[test]
fn start_on_an_occupied_interface_is_refused_and_leaves_nothing() {
    let stage = Stage::before_start();
    xdp_pass::attach(&stage.bed.edge, "front", &stage.bed.scratch.bpf().join("occupant"));
    let addresses = stage.bed.edge.run("ip", &["-brief", "address"]);
    let (code, said) = stage.refused();
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("front already has an XDP program"), "{said}");
    assert!(!stage.is_pinned(), "pins are left");
    assert_eq!(stage.bed.edge.run("ip", &["-brief", "address"]), addresses);
}

#[test]
fn start_on_a_missing_interface_is_refused_and_lists_those_there() {
    let mut stage = Stage::before_start();
    stage.configuration.interfaces = vec!["absent0".into()];
    stage.rollcall.write(&stage.configuration);
    let (code, said) = stage.refused();
    assert_eq!(code, 71, "{said}");
    assert!(said.contains("absent0") && said.contains("front"), "{said}");
    assert!(!stage.is_pinned());
}

#[test]
fn start_without_services_attaches_nothing_and_follows_a_reload() {
    let mut stage = Stage::before_start();
    let mut empty = stage.configuration.clone();
    empty.services.clear();
    stage.rollcall.write(&empty);
    stage.rollcall.run(&stage.bed);
    stage.rollcall.wait_for(&stage.bed, START, "an answer", |_| true);
    assert!(!stage.bed.edge.run("ip", &["link", "show", "front"]).contains("xdp"));

    stage.rollcall.reload(&stage.bed, &stage.configuration);
    stage.rollcall.wait_for_all(&stage.bed, START);
    assert!(stage.bed.edge.run("ip", &["link", "show", "front"]).contains("xdp"));
    let vip = stage.bed.vip(lb_tests::testbed::bed::Family::V4).to_string();
    assert!(stage.bed.edge.run("ip", &["address", "show", "front"]).contains(&vip));

    stage.rollcall.reload(&stage.bed, &empty);
    poll::until(Duration::from_secs(5), "the program gone", || {
        let link = stage.bed.edge.run("ip", &["link", "show", "front"]);
        if link.contains("xdp") { Err(link) } else { Ok(()) }
    });
    assert!(!stage.bed.edge.run("ip", &["address", "show", "front"]).contains(&vip));
}
