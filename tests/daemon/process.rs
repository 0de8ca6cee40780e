//! The daemon as a process: signals, systemd, privileges.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::{answer, binary, member};
use nix::sys::signal::Signal;

use crate::stage::{START, Stage};

#[test]
fn hangup_reloads_the_file_and_a_bad_one_changes_nothing() {
    let stage = Stage::new();
    let pid = nix::unistd::Pid::from_raw(stage.rollcall.pid().expect("it runs").cast_signed());
    let weight = || member(&stage.rollcall.status(&stage.bed), "web4", "b1")["weight_configured"].clone();
    let text = stage.file_text();
    stage.rollcall.write_text(&text.replace("weight = 1", "weight = 0"));
    nix::sys::signal::kill(pid, Signal::SIGHUP).expect("it is ours");
    poll::until(START, "the refusal in the log", || {
        let log = std::fs::read_to_string(stage.bed.scratch.path("rollcall.log")).map_err(|e| e.to_string())?;
        if log.contains("reload refused") { Ok(()) } else { Err(log) }
    });
    assert_eq!(weight(), 1);
    stage.rollcall.write_text(&text.replace("weight = 1", "weight = 5"));
    nix::sys::signal::kill(pid, Signal::SIGHUP).expect("it is ours");
    poll::until(START, "the new weight", || if weight() == 5 { Ok(()) } else { Err(weight().to_string()) });
}

#[test]
fn systemd_is_told_ready_once_all_serve_then_alive_then_stopping() {
    let stage = Stage::before_start();
    let path = stage.bed.scratch.path("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("the folder is writable");
    socket.set_read_timeout(Some(START)).expect("a valid time");
    let next = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut daemon = stage.spawn(&[("NOTIFY_SOCKET", path.to_str().expect("the folder has a plain name"))]);
    while next() != "READY=1" {}
    let status = stage.rollcall.status(&stage.bed);
    assert!(lb_tests::testbed::rollcall::members(&status).all(|m| m["in_rotation"] == true), "{status:#}");
    assert_eq!(status["attached"].as_array().map(Vec::len), Some(1));
    while next() != "WATCHDOG=1" {}
    daemon.signal(Signal::SIGTERM);
    while next() != "STOPPING=1" {}
    assert!(daemon.wait(Duration::from_secs(10)).success());
}

#[test]
fn unprivileged_user_is_refused_with_77_and_told_what_is_missing() {
    let stage = Stage::before_start();
    // A copy that everybody can reach.
    let folder = tempfile::tempdir().expect("a folder for a copy");
    let copy = folder.path().join("rollcall");
    std::fs::copy(binary(), &copy).expect("there is room");
    std::process::Command::new("chmod").args(["-R", "a+rx"]).arg(folder.path()).status().expect("chmod is there");
    let mut command = stage.bed.edge.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
    let refused = answer(command.arg("run").arg("--config").arg(stage.rollcall.file()));
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.stderr.contains("CAP_NET_ADMIN") && refused.stderr.contains("CAP_BPF"), "{refused:?}");
    assert!(!stage.is_pinned());
}

#[test]
fn capabilities_that_are_asked_for_suffice_and_each_is_asked_for() {
    const NEEDED: [&str; 4] = ["net_admin", "net_raw", "bpf", "perfmon"];
    let mut stage = Stage::before_start();
    let limited = |capabilities: &[&str]| {
        let bounding: String = capabilities.iter().map(|c| format!(",+{c}")).collect();
        let mut command = stage.bed.edge.command("setpriv");
        command.arg(format!("--bounding-set=-all{bounding}")).arg("--inh-caps=-all").arg(binary());
        command.arg("run").arg("--config").arg(stage.rollcall.file());
        command
    };
    for (index, left_out) in NEEDED.iter().enumerate() {
        let mut fewer = NEEDED.to_vec();
        fewer.remove(index);
        let refused = answer(&mut limited(&fewer));
        let name = format!("CAP_{}", left_out.to_uppercase());
        assert_eq!(refused.code, 77, "without {name}: {refused:?}");
        assert!(refused.stderr.contains(&name), "{refused:?}");
        assert!(!stage.is_pinned());
    }
    let log = stage.bed.scratch.path("limited.log");
    let _daemon = lb_tests::testbed::process::Process::spawn("rollcall", &mut limited(&NEEDED), &log);
    let status = stage.rollcall.wait_for_all(&stage.bed, START);
    assert_eq!(status["warnings"].as_array().map(Vec::len), Some(0), "{}", status["warnings"]);
    stage.wait_for_service();
}
