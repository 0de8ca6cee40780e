//! A killed process costs no connection attempt, where its service gives second chances.

use std::time::Duration;

use lb_tests::testbed::bed::{FAMILIES, Shape};
use lb_tests::testbed::load::Load;
use lb_tests::testbed::poll;
use lb_tests::testbed::rollcall::members;
use rstest::rstest;

use crate::stage::Stage;

#[rstest]
#[case(Shape::TwoArm, "round-robin")]
#[case(Shape::OneArm, "maglev")]
fn a_killed_process_refuses_nobody_with_second_chances_and_some_without(
    #[case] shape: Shape,
    #[case] algorithm: &'static str,
) {
    let mut stage = Stage::with(shape, 3, algorithm, |configuration| {
        // Out of rotation late, so that there is time to be refused.
        configuration.interval = Duration::from_millis(500);
        for service in &mut configuration.services {
            service.second_chance = service.name == "web4";
        }
    });
    let loads = FAMILIES.map(|family| Load::start(&stage.bed.clients[0], stage.plan(family, 0)));
    let more = |what: &str| {
        let before = loads.each_ref().map(|load| load.so_far().answered);
        poll::until(Duration::from_secs(20), what, || {
            let now = loads.each_ref().map(|load| load.so_far().answered);
            if now.iter().zip(before).all(|(now, before)| *now >= before + 200) {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        });
    };
    more("load on both families");
    stage.nginx[1].kill();
    let out =
        |status: &serde_json::Value| members(status).all(|m| (m["backend"] == "b2") != (m["in_rotation"] == true));
    stage.rollcall.wait_for(&stage.bed, Duration::from_secs(20), "b2 out of rotation", out);
    more("load on the rest");
    let [with, without] = loads.map(Load::stop);
    let refused = |tally: &lb_tests::testbed::load::Tally| {
        tally.failures.iter().filter(|failure| failure.reason.contains("refused")).count()
    };
    assert_eq!(refused(&with), 0, "{:#?}", with.failures);
    assert!(refused(&without) > 0, "nobody was refused, so nothing was shown: {:#?}", without.failures);
    // What was under way in the killed process is lost: a request of each of its connections at most.
    assert!(with.failures.len() <= 4, "{:#?}", with.failures);
    assert!(with.slowest < Duration::from_secs(1), "somebody waited for a retransmission: {:?}", with.slowest);
    let stats = stage.rollcall.cli(&stage.bed, &["stats", "--output", "json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).expect("JSON");
    let moved = |service: &str, key: &str| -> u64 {
        let services = stats["services"].as_array().expect("a list").iter().filter(|s| s["service"] == service);
        let backends = services.flat_map(|s| s["backends"].as_array().expect("a list"));
        backends.map(|b| b[key].as_u64().expect("a number")).sum()
    };
    assert!(moved("web4", "moved_away") > 0 && moved("web4", "moved_away") == moved("web4", "moved_to"), "{stats:#}");
    assert_eq!(moved("web6", "moved_away"), 0);
}
