//! Interfaces that go, come back, and change with the configuration.

use lb_tests::testbed::poll;
use lb_tests::testbed::xdp_pass;

use crate::stage::{START, Stage, ask};

#[test]
fn interface_deleted_and_made_again_carries_program_and_addresses_again() {
    let mut stage = Stage::new();
    stage.wait_for_service();
    stage.bed.unplug_front();
    stage.rollcall.wait_for(&stage.bed, START, "the loss in the status", |status| {
        status["attached"].as_array().is_some_and(Vec::is_empty) && status["warnings"].to_string().contains("front")
    });
    // Other changes need not wait for it.
    let edited = stage.rollcall.cli(&stage.bed, &["backend", "set", "b1", "--weight", "7"]);
    assert_eq!(edited.code, 0, "{edited:?}");

    stage.bed.plug_front();
    let status = stage.rollcall.wait_for_all(&stage.bed, START);
    assert!(!status["warnings"].to_string().contains("front"), "{}", status["warnings"]);
    stage.wait_for_service();
    let log = std::fs::read_to_string(stage.bed.scratch.path("rollcall.log")).expect("it has a log");
    for event in
        ["DriftFound: gone, with the program on it, is interface front", "DriftRepaired: the program is again on front"]
    {
        assert_eq!(log.matches(event).count(), 1, "{event}: {log}");
    }
}

#[test]
fn interface_that_refuses_when_it_returns_is_tried_until_it_does_not() {
    let mut stage = Stage::new();
    stage.bed.unplug_front();
    stage
        .rollcall
        .wait_for(&stage.bed, START, "the loss in the status", |s| s["attached"].as_array().is_some_and(Vec::is_empty));
    // Made under another name, so that it is occupied before the daemon sees it.
    stage.bed.edge.ip("link add spare type veth peer name other\n");
    let pin = stage.bed.scratch.bpf().join("occupant");
    xdp_pass::attach(&stage.bed.edge, "spare", &pin);
    stage.bed.edge.ip("link set spare name front\n");
    stage.rollcall.wait_for(&stage.bed, START, "the refusal in the status", |status| {
        status["warnings"].to_string().contains("cannot be put back")
    });
    std::fs::remove_file(&pin).expect("it was pinned");
    stage.rollcall.wait_for(&stage.bed, START, "the program on it", |status| {
        status["attached"].as_array().is_some_and(|a| a.len() == 1)
    });
}

#[test]
fn interface_added_and_taken_away_by_reload_carries_the_program_meanwhile() {
    let mut stage = Stage::new();
    stage.bed.edge.ip("link add second type veth peer name far\nlink set second up\nlink set far up\n");
    let xdp = |interface: &str| stage.bed.edge.run("ip", &["link", "show", interface]).contains("xdp");
    let mut flow = stage.connect().expect("it serves");
    ask(&mut flow).expect("it serves");
    let mut two = stage.configuration.clone();
    two.interfaces.push("second".into());
    stage.rollcall.reload(&stage.bed, &two);
    assert!(xdp("front") && xdp("second"));
    ask(&mut flow).expect("the flow goes on");

    stage.rollcall.reload(&stage.bed, &stage.configuration);
    assert!(xdp("front") && !xdp("second"));
    ask(&mut flow).expect("the flow goes on");
    stage.rollcall.wait_for_all(&stage.bed, START);
}

#[test]
fn interface_occupied_by_another_program_refuses_the_reload_and_nothing_changes() {
    let mut stage = Stage::new();
    stage.bed.edge.ip("link add second type veth peer name far\nlink set second up\nlink set far up\n");
    xdp_pass::attach(&stage.bed.edge, "second", &stage.bed.scratch.bpf().join("occupant"));
    let program = || stage.bed.edge.run("ip", &["-details", "link", "show", "front"]);
    let id = |text: String| text.split("prog/xdp id ").nth(1).and_then(|t| t.split(' ').next().map(str::to_owned));
    let before = id(program());
    assert!(before.is_some(), "{}", program());
    let mut flow = stage.connect().expect("it serves");
    ask(&mut flow).expect("it serves");
    let mut two = stage.configuration.clone();
    two.interfaces.push("second".into());
    stage.rollcall.write(&two);
    let refused = stage.rollcall.cli(&stage.bed, &["reload"]);
    assert_eq!(refused.code, 75, "{refused:?}");
    assert!(refused.stderr.contains("second already has an XDP program"), "{refused:?}");
    ask(&mut flow).expect("the flow goes on");
    let status = stage.rollcall.wait_for_all(&stage.bed, START);
    assert_eq!(id(stage.bed.edge.run("ip", &["-details", "link", "show", "front"])), before);
    poll::until(START, "the file known to differ", || {
        let status = stage.rollcall.status(&stage.bed);
        if status["daemon"]["file_differs"] == true { Ok(()) } else { Err(status["daemon"].to_string()) }
    });
    assert_eq!(status["warnings"].as_array().map(Vec::len), Some(0), "{}", status["warnings"]);
}
