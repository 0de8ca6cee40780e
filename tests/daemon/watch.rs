//! `rollcall watch` beside a daemon that is gone: the alert routes hear of it, once, and of its end; and it can be
//! acknowledged without a daemon.

use std::time::{Duration, Instant};

use lb_tests::testbed::poll;
use lb_tests::testbed::receiver::Receiver;
use lb_tests::testbed::rollcall::Answer;
use serde_json::Value;

use crate::alerts::webhook;
use crate::stage::{START, Stage};

const DOWN: &str = "daemon_down";

fn cli(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.rollcall.cli(&stage.bed, arguments)
}

#[test]
fn dead_daemon_is_told_once_by_the_routes_of_what_ran_and_over_when_it_is_back() {
    let mut stage = Stage::before_start();
    let (good, late, hangs) = (Receiver::start(&stage.bed), Receiver::start(&stage.bed), Receiver::hanging(&stage.bed));
    let routes = [webhook("good", &good, ""), webhook("late", &late, "after = \"1h\""), webhook("hangs", &hangs, "")];
    let text = stage.file_text() + &routes.concat();
    stage.rollcall.write_text(&text);
    stage.start();
    let well = cli(&stage, &["watch"]);
    assert_eq!((well.code, well.stderr.as_str()), (0, ""), "{well:?}");

    stage.rollcall.kill();
    // Somebody broke the file meanwhile: what ran last says whom to tell.
    stage.rollcall.write_text(&format!("{text}\n[[service]\n"));
    let begun = Instant::now();
    let first = cli(&stage, &["watch"]);
    assert!(begun.elapsed() < Duration::from_secs(30), "a route that hangs held it up: {:?}", begun.elapsed());
    assert_eq!(first.code, 2, "{first:?}");
    assert!(first.stderr.starts_with("<2>ROLLCALL CRITICAL - DAEMON DOWN since 20"), "{first:?}");
    assert!(first.stderr.contains("<6>told by good\n"), "{first:?}");
    assert!(first.stderr.contains("<3>alert routes: hangs did not take it: not done within 5 s\n"), "{first:?}");
    let told = good.wait_for(START, "firing", DOWN);
    assert_eq!((&told["severity"], &told["playbook"]), (&"critical".into(), &"docs/playbook.md#daemon_down".into()));
    assert!(told["summary"].as_str().is_some_and(|s| s.starts_with("DAEMON DOWN since 20")), "{told:#}");

    // The next run: nobody hears of it twice, and who did not take it is tried again.
    let second = cli(&stage, &["watch"]);
    assert_eq!(second.code, 2, "{second:?}");
    assert!(!second.stderr.contains("told by") && second.stderr.contains("hangs did not take it"), "{second:?}");
    assert_eq!((good.all().len(), late.all().len()), (1, 0));

    stage.rollcall.write_text(&text);
    let ack = cli(&stage, &["alert", "ack", DOWN, "--owner", "ada", "--note", "on my way"]);
    assert_eq!(ack.code, 0, "{ack:?}");
    assert_eq!(cli(&stage, &["alert", "ack", "backend_down", "--owner", "ada"]).code, 69);
    let listed = cli(&stage, &["alert", "list", "--output", "json"]);
    assert_eq!(listed.code, 69, "{listed:?}");
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(listed["firing"][0]["acknowledged"]["note"], "on my way", "{listed:#}");
    let status = cli(&stage, &["status"]);
    assert!(status.stdout.contains("acknowledged: daemon_down by ada (claimed), "), "{status:?}");
    let third = cli(&stage, &["watch"]);
    assert_eq!((third.code, third.stderr.lines().count()), (2, 1), "nobody further is called: {third:?}");

    stage.start();
    let over = poll::until(START, "the end, in the run after the first", || {
        let run = cli(&stage, &["watch"]);
        assert_eq!(run.code, 0, "{run:?}");
        good.all().into_iter().find(|m| m["status"] == "resolved").ok_or_else(|| format!("{run:?}"))
    });
    assert_eq!((&over["key"], &over["fired"]), (&DOWN.into(), &told["fired"]));
    assert_eq!((good.all().len(), late.all().len()), (2, 0), "who never heard of it does not hear of its end");
}
