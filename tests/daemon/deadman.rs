//! The dead man: what is seen of the roll call while no daemon runs, and who says that none does.

use std::io::{Read, Write};
use std::net::TcpListener;

use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::{Answer, member, members};
use serde_json::Value;

use crate::stage::{START, Stage, ask};

fn cli(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.rollcall.cli(&stage.bed, arguments)
}

/// A document of a reading verb that exits with this code.
#[track_caller]
fn json(stage: &Stage, arguments: &[&str], code: i32) -> Value {
    let answer = cli(stage, &[arguments, &["--output", "json"]].concat());
    assert_eq!(answer.code, code, "{arguments:?}: {answer:?}");
    serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {answer:?}"))
}

#[test]
fn status_without_a_daemon_shows_what_it_left_and_the_lease_that_nobody_ends() {
    let mut stage = Stage::new();
    let mut flows: Vec<_> = (0..8).map(|_| stage.connect().expect("the service answers")).collect();
    flows.iter_mut().for_each(|flow| drop(ask(flow).expect("an answer")));
    let well = cli(&stage, &["check"]);
    assert_eq!(well.code, 0, "{well:?}");
    assert!(
        well.stdout.starts_with(
            "ROLLCALL OK - all 2 backends in rotation; no alert route, so nobody is told | in_rotation=2;;;0;2 out=0"
        ),
        "{well:?}"
    );
    assert_eq!(cli(&stage, &["watch"]).code, 0);
    let take = ["backend", "drain", "b1", "--for", "4s", "--reason", "kernel test", "--owner", "ada", "--yes"];
    let taken = cli(&stage, &take);
    assert_eq!(taken.code, 0, "{taken:?}");
    let out = cli(&stage, &["check"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stdout.starts_with("ROLLCALL WARNING - 1 of 2 in rotation: b1 drained by ada (claimed), "), "{out:?}");
    let alive = stage.rollcall.status(&stage.bed);
    assert_eq!(alive["daemon"]["running"], true);

    stage.rollcall.kill();
    let status = json(&stage, &["status"], 69);
    assert_eq!(status["daemon"]["running"], false, "{status:#}");
    assert!(status["daemon"]["down_since"].is_string(), "{:#}", status["daemon"]);
    assert_eq!(status["attached"], alive["attached"]);
    for service in ["web4", "web6", "echo4", "echo6"] {
        assert_eq!(member(&status, service, "b1")["share"], 0.0, "{service}");
        assert_eq!(member(&status, service, "b1")["reasons"][0]["kind"], "drained", "{service}");
        assert_eq!(member(&status, service, "b2")["share"], 1.0, "{service}");
    }
    assert_eq!(status["leases"][0]["reason"], "kernel test", "{:#}", status["leases"]);
    let active: u64 = members(&status).filter_map(|m| m["flows_active"].as_u64()).sum();
    assert!(active >= 8, "{active} of 8: {status:#}");

    let over = "over for ";
    let shown = poll::until(START, "a lease past its end", || {
        let shown = cli(&stage, &["status"]);
        if shown.stdout.contains(over) { Ok(shown) } else { Err(shown.stdout) }
    });
    let first = shown.stdout.lines().next().unwrap_or_default();
    assert!(first.starts_with("DAEMON DOWN since 20"), "{first}");
    assert!(
        first.contains("; leases and health frozen; 1 of 2 in rotation: b1 drained by ada (claimed), over for"),
        "{first}"
    );
    assert!(first.contains("not ended because the daemon is down"), "{first}");

    // The other reading verbs, by the same way; what changes something does not.
    let flows_left = json(&stage, &["flows", "--service", "web4"], 69);
    assert!(flows_left["flows"].as_array().is_some_and(|f| f.len() >= 8), "{flows_left:#}");
    assert_eq!(json(&stage, &["service", "show", "web4"], 69)["services"][0]["in_rotation"], 1);
    assert_eq!(json(&stage, &["backend", "show", "b1"], 69)["backends"][0]["name"], "b1");
    assert_eq!(json(&stage, &["stats"], 69)["services"].as_array().map(Vec::len), Some(4));
    let listed = cli(&stage, &["backend", "list"]);
    assert!(listed.stderr.starts_with("warning: DAEMON DOWN since 20"), "{listed:?}");
    assert_eq!(cli(&stage, &["backend", "restore", "b1", "--owner", "ada"]).code, 69);
    assert_eq!(cli(&stage, &["audit"]).code, 69);

    let check = cli(&stage, &["check"]);
    assert_eq!(check.code, 2, "{check:?}");
    assert!(check.stdout.starts_with("ROLLCALL CRITICAL - DAEMON DOWN since 20"), "{check:?}");
    assert!(check.stdout.contains(" | in_rotation=1;;;0;2 out=1;;;0;2 leases=1;"), "{check:?}");
    let watch = cli(&stage, &["watch"]);
    assert_eq!((watch.code, watch.stdout.as_str()), (2, ""), "{watch:?}");
    assert!(watch.stderr.starts_with("<2>ROLLCALL CRITICAL - DAEMON DOWN since 20"), "{watch:?}");

    // Looking changed nothing: the flows go on, and the next daemon ends the lease.
    flows.iter_mut().for_each(|flow| drop(ask(flow).expect("an answer")));
    stage.start();
    assert_eq!(cli(&stage, &["watch"]).code, 0);
    assert_eq!(stage.rollcall.status(&stage.bed)["leases"].as_array().map(Vec::len), Some(0));
}

#[test]
fn host_without_a_data_plane_says_that_none_is_up() {
    let stage = Stage::before_start();
    let status = cli(&stage, &["status"]);
    assert_eq!((status.code, status.stdout.as_str()), (69, ""), "{status:?}");
    assert!(status.stderr.contains("no data plane is up"), "{status:?}");
    let check = cli(&stage, &["check"]);
    assert_eq!(check.code, 2, "{check:?}");
    assert!(check.stdout.contains("no data plane is up"), "{check:?}");
    assert!(!stage.bed.scratch.path("state").exists(), "to look makes no state");
}

#[test]
fn daemon_behind_another_socket_is_not_taken_for_dead() {
    let stage = Stage::new();
    let mut command = stage.bed.edge.command(lb_tests::testbed::rollcall::binary());
    command.arg("--config").arg(stage.rollcall.file()).args(["--socket", "/nowhere/control.sock", "status"]);
    let status = lb_tests::testbed::rollcall::answer(&mut command);
    assert_eq!((status.code, status.stdout.as_str()), (69, ""), "{status:?}");
    assert!(status.stderr.contains("no socket at /nowhere/control.sock"), "{status:?}");
}

#[test]
fn daemon_that_is_stopped_notes_when_and_warns_of_leases() {
    let mut stage = Stage::new();
    let take = ["backend", "drain", "b1", "--for", "1h", "--reason", "kernel test", "--owner", "ada", "--yes"];
    assert_eq!(cli(&stage, &take).code, 0);
    // RFC 3339 in UTC, so texts compare as times do, but for fractions of a second.
    let second = |time: &Value| time.as_str().map(|text| text[..19].to_owned());
    let now = || second(&stage.rollcall.status(&stage.bed)["time"]);
    // The mark of the start is older than this second by now.
    let first = now();
    let before = poll::until(START, "the next second", || {
        now().filter(|n| Some(n) > first.as_ref()).ok_or("not yet".to_owned())
    });
    stage.rollcall.terminate();
    let log = std::fs::read_to_string(stage.bed.scratch.path("rollcall.log")).expect("it has a log");
    assert!(log.contains("stopping with a lease: the drain of b1 by ada"), "{log}");
    let since = second(&json(&stage, &["status"], 69)["daemon"]["down_since"]);
    assert!(since.as_ref() >= Some(&before), "{since:?} is before {before}");
}

#[test]
fn daemon_that_hangs_is_critical_and_nothing_is_made_up_for_it() {
    let mut stage = Stage::new();
    let pid = nix::unistd::Pid::from_raw(stage.rollcall.pid().expect("it runs").cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("it is ours");
    let (check, watch) = (cli(&stage, &["check"]), cli(&stage, &["watch"]));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).expect("it is ours");
    assert_eq!((check.code, watch.code), (2, 2), "{check:?} {watch:?}");
    assert!(check.stdout.starts_with("ROLLCALL CRITICAL - the daemon at ") && !check.stdout.contains('|'), "{check:?}");
    assert!(watch.stderr.starts_with("<2>ROLLCALL CRITICAL - the daemon at "), "{watch:?}");
    stage.rollcall.wait_for_all(&stage.bed, START);
}

#[test]
fn heartbeat_arrives_while_all_is_well_and_its_failure_is_a_warning() {
    let mut stage = Stage::before_start();
    stage.bed.edge.ip("link set lo up\n");
    let listener = stage.bed.edge.enter(|| TcpListener::bind("127.0.0.1:0")).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let table = format!("[heartbeat]\nurl = \"http://127.0.0.1:{port}/ping\"\ninterval = \"5s\"\n");
    stage.rollcall.write_text(&format!("{}\n{table}", stage.file_text()));
    stage.rollcall.run(&stage.bed);
    listener.set_nonblocking(true).expect("a socket can be");
    let (mut stream, _) = poll::until(START, "a beat", || listener.accept().map_err(|e| e.to_string()));
    stream.set_nonblocking(false).expect("a socket can be");
    stream.set_read_timeout(Some(START)).expect("a valid time");
    let mut request = [0; 1024];
    let length = stream.read(&mut request).expect("a request");
    assert!(request[..length].starts_with(b"GET /ping HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it waits for that");
    drop((stream, listener));
    let warned = |status: &Value| status["warnings"].to_string().contains("/ping does not arrive: connection refused");
    let status = stage.rollcall.wait_for(&stage.bed, START, "a warning", warned);
    assert_eq!(status["critical"].as_array().map(Vec::len), Some(0), "{status:#}");
    stage.rollcall.write_text(&stage.file_text().replace(&table, ""));
    assert_eq!(cli(&stage, &["reload"]).code, 0);
    stage.rollcall.wait_for(&stage.bed, START, "no warning", |status| !warned(status));
}
