use std::time::Duration;

use super::*;
use crate::control::testing;
use crate::core::api::LastProbe;
use crate::core::reason::{Reason, ReasonKind};

/// The pool of the fixed view, every member well, with its clock.
struct Scene {
    signals: Signals,
    view: View,
    /// By member id.
    counted: BTreeMap<u32, Counted>,
    /// How long probes of each member of `www` take, ms.
    took_ms: [u64; 3],
}

impl Scene {
    fn new() -> Self {
        let mut view = testing::view();
        for member in view.roll_call.services.iter_mut().flat_map(|s| &mut s.members) {
            (member.in_rotation, member.reasons) = (true, Vec::new());
        }
        let counted = (1..=3).map(|id| (id, Counted::default())).collect();
        Self { signals: Signals::default(), view, counted, took_ms: [2, 2, 2] }
    }

    /// Ten seconds: a probe of each, and `flows` new ones of each, of which the first member does not answer, resets, and
    /// answers after so much.
    fn step(&mut self, flows: u64, unanswered: u64, resets: u64, handshake_ms: u64) {
        let now = self.view.roll_call.time + Duration::from_secs(10);
        self.view.roll_call.time = now;
        for (member, ms) in self.view.roll_call.services[0].members.iter_mut().zip(self.took_ms) {
            member.last_probe = Some(LastProbe { time: now, took: Duration::from_millis(ms), error: None });
        }
        for (id, counted) in &mut self.counted {
            let first = *id == 1;
            counted.opened += flows;
            counted.answers += flows;
            counted.answer_ns += flows * 1_000_000 * if first { handshake_ms } else { 1 };
            if first {
                counted.unanswered += unanswered;
                counted.resets += resets;
            }
        }
        self.signals.look(&self.view);
        // The same picture again is nothing new.
        self.signals.look(&self.view);
        self.signals.count(&self.view, &self.counted, now);
    }

    fn run(&mut self, minutes: u64, flows: u64, unanswered: u64, resets: u64, handshake_ms: u64) {
        (0..minutes * 6).for_each(|_| self.step(flows, unanswered, resets, handshake_ms));
    }

    fn found(&self) -> Vec<(Kind, String)> {
        self.signals.conditions(&self.view).into_iter().map(|c| (c.kind, c.summary)).collect()
    }
}

#[test]
fn probes_that_take_far_longer_than_they_did_are_found_in_three_windows_and_over_when_they_do_not() {
    let mut scene = Scene::new();
    scene.run(60, 0, 0, 0, 1);
    assert_eq!(scene.found(), []);
    scene.took_ms[0] = 900;
    scene.run(12, 0, 0, 0, 1);
    assert_eq!(scene.found(), [], "two windows are not three");
    scene.run(6, 0, 0, 0, 1);
    let words = "web-01 in www is slow: probes take 900 ms, usually 2 ms; the others are not";
    assert_eq!(scene.found(), [(Kind::LatencyDegraded, words.to_owned())]);
    let condition = scene.signals.conditions(&scene.view).remove(0);
    assert_eq!(
        (condition.key().as_str(), condition.owner.as_deref()),
        ("latency_degraded/www/web-01", Some("web team"))
    );
    scene.took_ms[0] = 2;
    scene.run(10, 0, 0, 0, 1);
    assert_eq!(scene.found(), []);
}

#[test]
fn trouble_that_others_share_is_told_as_such() {
    let mut scene = Scene::new();
    scene.run(60, 0, 0, 0, 1);
    scene.took_ms = [900, 900, 2];
    scene.run(20, 0, 0, 0, 1);
    let found = scene.found();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].1.ends_with("; so are 1 of 2 others: look at what they share"), "{found:?}");
}

#[test]
fn little_more_or_often_the_same_is_not_slow() {
    let mut scene = Scene::new();
    scene.run(60, 0, 0, 0, 1);
    // Ten times as long, but nobody feels it; then half a second more on what always took as long.
    scene.took_ms = [20, 2, 2];
    scene.run(30, 0, 0, 0, 1);
    assert_eq!(scene.found(), []);
    let mut scene = Scene::new();
    scene.took_ms[0] = 400;
    scene.run(60, 0, 0, 0, 1);
    scene.took_ms[0] = 900;
    scene.run(30, 0, 0, 0, 1);
    assert_eq!(scene.found(), []);
    // One slow probe in three moves no median.
    let mut scene = Scene::new();
    for step in 0..600 {
        scene.took_ms[0] = if step > 300 && step % 3 == 0 { 5000 } else { 2 };
        scene.step(0, 0, 0, 1);
    }
    assert_eq!(scene.found(), []);
}

#[test]
fn what_has_become_usual_is_no_alarm_for_ever() {
    let mut scene = Scene::new();
    scene.run(60, 0, 0, 0, 1);
    scene.took_ms[0] = 900;
    scene.run(50, 0, 0, 0, 1);
    assert_eq!(scene.found().len(), 1);
    scene.run(60, 0, 0, 0, 1);
    assert_eq!(scene.found(), []);
}

#[test]
fn handshakes_of_clients_that_take_far_longer_are_found_without_any_probe() {
    let mut scene = Scene::new();
    scene.run(60, 10, 0, 0, 4);
    scene.run(20, 10, 0, 0, 400);
    let words = "web-01 in www is slow: handshakes take 400 ms, usually 4 ms; the others are not";
    assert_eq!(scene.found(), [(Kind::LatencyDegraded, words.to_owned())]);
}

#[test]
fn unanswered_connections_are_found_and_few_are_not() {
    let mut scene = Scene::new();
    scene.run(10, 100, 4, 0, 1);
    assert_eq!(scene.found(), [], "4 %");
    scene.run(4, 5, 5, 0, 1);
    assert_eq!(scene.found(), [], "all, but few: a window lasts until there are enough");
    let mut scene = Scene::new();
    scene.run(4, 100, 5, 0, 1);
    let words = "connections to web-01 in www fail: 30 of 600 new ones got no answer";
    assert_eq!(scene.found(), [(Kind::ConnectionErrors, words.to_owned())]);
    // Out of rotation: that is told, and it can have no errors any more.
    scene.view.roll_call.services[0].members[0].in_rotation = false;
    scene.step(0, 0, 0, 1);
    assert_eq!(scene.found(), []);
}

#[test]
fn resets_are_compared_with_what_was_usual() {
    let mut scene = Scene::new();
    scene.run(30, 100, 0, 90, 1);
    assert_eq!(scene.found(), [], "it ends every connection so");
    let mut scene = Scene::new();
    scene.run(30, 100, 0, 1, 1);
    scene.run(4, 100, 0, 40, 1);
    let words = "connections to web-01 in www fail: it reset 240 of 600 (40 %, usually 1 %)";
    assert_eq!(scene.found(), [(Kind::ConnectionErrors, words.to_owned())]);
}

#[test]
fn counters_that_begin_anew_are_no_evidence() {
    let mut scene = Scene::new();
    for round in 0..60 {
        scene.step(100, if round % 5 == 0 { 100 } else { 0 }, 0, 1);
        if round % 5 == 4 {
            *scene.counted.get_mut(&1).unwrap() = Counted::default();
        }
    }
    assert_eq!(scene.found(), []);
}

#[test]
fn member_under_a_lease_is_being_worked_on() {
    let mut scene = Scene::new();
    scene.run(60, 0, 0, 0, 1);
    scene.took_ms[0] = 900;
    scene.run(20, 0, 0, 0, 1);
    assert_eq!(scene.found().len(), 1);
    let now = scene.view.roll_call.time;
    let reason =
        Reason { kind: ReasonKind::Drained, since: now, cause: "test".into(), owner: None, review_at: Some(now) };
    scene.view.roll_call.services[0].members[0].reasons.push(reason);
    assert_eq!(scene.found(), []);
}
