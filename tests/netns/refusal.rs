//! Bad input from outside: one error that says what, where, why and the mend, a documented exit code, and nothing
//! changed.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use lb_tests::testbed::bed::{Bed, Family, Plan, Shape};
use lb_tests::testbed::nginx::Nginx;
use lb_tests::testbed::rollcall::{self, Answer, Configuration, Rollcall};
use lb_tests::testbed::xdp_pass;

use crate::stage::{Stage, Steady, assert_no_failures};

const SYSTEM: i32 = 71;
const CONFLICT: i32 = 75;
const PERMISSION: i32 = 77;
const CONFIGURATION: i32 = 78;

/// A user without rights.
const NOBODY: u32 = 65_534;

/// A mistake: what is replaced in a good file, by what, and the text in whose line the error must be reported.
struct Mistake {
    what: &'static str,
    edit: fn(&str) -> String,
    line_of: &'static str,
}

const MISTAKES: [Mistake; 6] = [
    Mistake {
        what: "an unknown key",
        edit: |good| good.replacen("[edge]\n", "[edge]\ninterface = \"front\"\n", 1),
        line_of: "interface = ",
    },
    Mistake {
        what: "two services of one name",
        edit: |good| good.replacen("name = \"web6\"", "name = \"web4\" # again", 1),
        line_of: "\"web4\" # again",
    },
    Mistake {
        what: "two backends of one name",
        edit: |good| good.replacen("name = \"b2\"", "name = \"b1\" # again", 1),
        line_of: "\"b1\" # again",
    },
    Mistake {
        what: "an address of the wrong family",
        edit: |good| good.replacen("ipv6 = [\"", "ipv6 = [\"10.1.2.3\", \"", 1),
        line_of: "10.1.2.3",
    },
    Mistake { what: "port 0", edit: |good| good.replacen("\nport = 80\n", "\nport = 0\n", 1), line_of: "port = 0" },
    Mistake {
        what: "a weight of 0",
        edit: |good| good.replacen("weight = 1\n", "weight = 0\n", 1),
        line_of: "weight = 0",
    },
];

#[track_caller]
fn assert_names_the_line(mistake: &Mistake, text: &str, answer: &Answer) {
    let before = text.split_once(mistake.line_of).unwrap_or_else(|| panic!("{}: the edit did nothing", mistake.what)).0;
    let place = format!("rollcall.toml:{}:", before.lines().count().max(1) + usize::from(before.ends_with('\n')));
    assert_eq!(answer.code, CONFIGURATION, "{}: {answer:?}", mistake.what);
    assert!(answer.stderr.contains(&place), "{}: no {place} in {}", mistake.what, answer.stderr);
}

#[test]
fn reload_of_a_bad_file_names_the_line_and_changes_nothing() {
    let mut stage = Stage::new(Shape::OneArm, 2, "round-robin");
    let load = Steady::start(&stage);
    let before = stage.settled();
    let good = std::fs::read_to_string(stage.rollcall.file()).expect("it was written");
    for mistake in &MISTAKES {
        let bad = (mistake.edit)(&good);
        stage.rollcall.write_text(&bad);
        assert_names_the_line(mistake, &bad, &stage.rollcall.cli(&stage.bed, &["reload"]));
    }
    let after = stage.settled();
    for member in ["web4", "web6"].iter().flat_map(|s| ["b1", "b2"].map(|b| (*s, b))) {
        let [before, after] = [&before, &after].map(|status| rollcall::member(status, member.0, member.1).clone());
        for key in ["weight_configured", "share", "in_rotation", "since"] {
            assert_eq!(before[key], after[key], "{member:?}: {key}");
        }
    }
    load.wait_for(100);
    assert_no_failures(&load.stop());
}

/// A bed, its servers, and a daemon that is to be refused.
fn refused(edit: impl FnOnce(&Bed, &mut Configuration)) -> (Bed, Vec<Nginx>, Rollcall) {
    let bed = Bed::build(Plan::test(Shape::OneArm, 2));
    let nginx = Nginx::start_all(&bed);
    let mut configuration = Configuration::usual(&bed, "maglev");
    edit(&bed, &mut configuration);
    let rollcall = Rollcall::absent(&bed);
    rollcall.write(&configuration);
    (bed, nginx, rollcall)
}

#[track_caller]
fn assert_nothing_is_there(bed: &Bed, rollcall: &Rollcall) {
    assert!(!bed.scratch.bpf().join("rollcall").exists(), "pins are left");
    assert!(!rollcall.socket().exists(), "a socket is left");
    let addresses = bed.edge.run("ip", &["address", "show"]);
    let vip = bed.vip(Family::V4).to_string();
    assert!(!addresses.contains(&vip), "the VIP is left: {addresses}");
}

#[test]
fn run_with_a_bad_file_at_first_start_is_refused_with_its_line() {
    let (bed, _nginx, rollcall) = refused(|_, _| ());
    let good = std::fs::read_to_string(rollcall.file()).expect("it was written");
    for mistake in &MISTAKES {
        let bad = (mistake.edit)(&good);
        rollcall.write_text(&bad);
        for verb in [&["run"][..], &["config", "check"][..]] {
            assert_names_the_line(mistake, &bad, &rollcall.cli(&bed, verb));
        }
        assert_nothing_is_there(&bed, &rollcall);
    }
}

#[test]
fn run_on_a_missing_interface_is_refused_with_those_that_exist() {
    let (bed, _nginx, rollcall) = refused(|_, configuration| configuration.interfaces = vec!["absent7".to_owned()]);
    let answer = rollcall.cli(&bed, &["run"]);
    assert_eq!(answer.code, SYSTEM, "{answer:?}");
    assert!(answer.stderr.contains("absent7") && answer.stderr.contains("front"), "{}", answer.stderr);
    assert_nothing_is_there(&bed, &rollcall);
}

#[test]
fn run_beside_another_program_is_refused_and_leaves_it() {
    let (bed, _nginx, rollcall) = refused(|bed, _| {
        xdp_pass::attach(&bed.edge, "front", &bed.scratch.bpf().join("other"));
    });
    let answer = rollcall.cli(&bed, &["run"]);
    assert_eq!(answer.code, CONFLICT, "{answer:?}");
    assert!(answer.stderr.contains("front") && answer.stderr.contains("XDP program"), "{}", answer.stderr);
    assert!(bed.edge.run("ip", &["link", "show", "dev", "front"]).contains("xdp"), "the other program is gone");
    assert_nothing_is_there(&bed, &rollcall);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let mut stage = Stage::new(Shape::OneArm, 1, "maglev");
    let before = stage.settled();
    let answer = stage.rollcall.cli(&stage.bed, &["run"]);
    assert_eq!(answer.code, CONFLICT, "{answer:?}");
    let pid = stage.rollcall.pid().expect("it was started").to_string();
    assert!(answer.stderr.contains(&pid), "{}", answer.stderr);
    let after = stage.rollcall.wait_for_all(&stage.bed, Duration::from_secs(5));
    assert_eq!(before["daemon"]["pid"], after["daemon"]["pid"]);
}

#[test]
fn without_permission_neither_daemon_nor_socket_obeys() {
    let stage = Stage::new(Shape::OneArm, 1, "maglev");
    // Where the tests were built may be closed to others.
    let binary = stage.bed.scratch.path("rollcall-copy");
    std::fs::copy(rollcall::binary(), &binary).expect("the testbed's folder is writable");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.uid(NOBODY).gid(NOBODY).arg("--config").arg(stage.rollcall.file());
        rollcall::answer(command.arg("--socket").arg(stage.rollcall.socket()).args(arguments))
    };
    for arguments in [&["run"][..], &["status"], &["reload"], &["backend", "set", "b1", "--weight", "2"]] {
        let answer = as_nobody(arguments);
        assert_eq!(answer.code, PERMISSION, "{arguments:?}: {answer:?}");
    }
    assert_eq!(rollcall::member(&stage.rollcall.status(&stage.bed), "web4", "b1")["weight_configured"], 1);
}
