use std::num::NonZeroU16;

use super::*;
use crate::config::model::{AlertTarget, HttpUrl, Severity};

const GRACE: Duration = Duration::from_secs(30);

pub(super) fn at(seconds: u64) -> Time {
    Time { boot_ms: 1_000_000 + seconds * 1000, wall_ms: 1_772_366_400_000 + i64::try_from(seconds * 1000).unwrap() }
}

pub(super) fn route(name: &str) -> AlertRoute {
    AlertRoute {
        name: RouteName::new(name).unwrap(),
        target: AlertTarget::Journald,
        severity: Severity::Info,
        after: Duration::ZERO,
        repeat: Duration::from_secs(3600),
        labels: BTreeMap::new(),
    }
}

pub(super) fn down() -> Condition {
    Condition::of(Kind::BackendDown, "web/b1", "b1 in web is down: refused")
}

/// A tracker, its routes, and every message that it found due.
pub(super) struct Scene {
    pub(super) tracker: Tracker,
    pub(super) routes: Vec<AlertRoute>,
    pub(super) changes: Vec<(u64, EventKind)>,
}

impl Scene {
    pub(super) fn new(routes: Vec<AlertRoute>) -> Self {
        Self { tracker: Tracker::new("edge".into()), routes, changes: Vec::new() }
    }

    /// One look; what is due, as `route status`.
    pub(super) fn look(&mut self, seconds: u64, conditions: &[Condition]) -> Vec<Delivery> {
        let changes = self.tracker.observe(conditions.to_vec(), &self.routes, at(seconds));
        self.changes.extend(changes.into_iter().map(|c| (seconds, c.kind)));
        self.tracker.due(&self.routes, at(seconds))
    }

    /// One look, after which every message is taken.
    pub(super) fn deliver(&mut self, seconds: u64, conditions: &[Condition]) -> Vec<String> {
        let due = self.look(seconds, conditions);
        let named = |d: &Delivery| format!("{} {}", d.route, d.message.status.name());
        let names = due.iter().map(named).collect();
        for delivery in due {
            self.tracker.settle(Outcome { delivery, result: Ok(()) }, at(seconds));
        }
        names
    }
}

#[test]
fn condition_fires_once_is_repeated_and_resolves() {
    let mut scene = Scene::new(vec![route("log")]);
    assert_eq!(scene.deliver(0, &[down()]), ["log firing"]);
    assert!(scene.deliver(1, &[down()]).is_empty());
    assert!(scene.deliver(3599, &[down()]).is_empty());
    assert_eq!(scene.deliver(3600, &[down()]), ["log firing"]);
    assert!(scene.deliver(3601, &[]).is_empty());
    assert_eq!(scene.deliver(3606, &[]), ["log resolved"]);
    assert!(scene.deliver(3607, &[]).is_empty());
    assert_eq!(scene.changes, [(0, EventKind::AlertFired), (3606, EventKind::AlertResolved)]);
    assert!(scene.tracker.board(&scene.routes, at(3607)).firing.is_empty());
}

#[test]
fn condition_with_a_hold_fires_only_after_it() {
    let mut scene = Scene::new(vec![route("log")]);
    let differs = Condition::of(Kind::FileDiffers, "", "rollcall.toml differs from what runs");
    assert!(scene.deliver(0, std::slice::from_ref(&differs)).is_empty());
    assert!(scene.deliver(299, std::slice::from_ref(&differs)).is_empty());
    // Gone in between: the time counts anew.
    assert!(scene.deliver(300, &[]).is_empty());
    assert!(scene.deliver(301, std::slice::from_ref(&differs)).is_empty());
    assert!(scene.deliver(600, std::slice::from_ref(&differs)).is_empty());
    assert_eq!(scene.deliver(601, &[differs]), ["log firing"]);
}

#[test]
fn escalation_waits_and_ends_with_the_trouble() {
    let second = AlertRoute { after: Duration::from_secs(900), ..route("second") };
    let third = AlertRoute { after: Duration::from_secs(1800), ..route("third") };
    let severe = AlertRoute { severity: Severity::Critical, ..route("severe") };
    let mut scene = Scene::new(vec![route("first"), second, third, severe]);
    assert_eq!(scene.deliver(0, &[down()]), ["first firing"]);
    assert!(scene.deliver(899, &[down()]).is_empty());
    assert_eq!(scene.deliver(900, &[down()]), ["second firing"]);
    scene.deliver(1000, &[]);
    assert_eq!(scene.deliver(1005, &[]), ["first resolved", "second resolved"], "the third never heard of it");
}

#[test]
fn flapping_condition_is_one_alert_that_ends_ever_later() {
    let mut scene = Scene::new(vec![route("log")]);
    let mut sent = scene.deliver(0, &[down()]);
    // Gone for 3 s in 6, a hundred times.
    for second in 1..600 {
        let there = second % 6 < 3;
        sent.extend(scene.deliver(second, if there { std::slice::from_ref(&CONDITION) } else { &[] }));
    }
    assert_eq!(sent, ["log firing"]);
    assert!(scene.deliver(600 + 290, &[]).is_empty());
    assert_eq!(scene.deliver(600 + 310, &[]), ["log resolved"]);
    // Back within the hour: it counts as the next time of the same.
    assert_eq!(scene.deliver(1000, &[down()]), ["log firing"]);
    scene.deliver(1001, &[]);
    assert!(scene.deliver(1100, &[]).is_empty());
}

static CONDITION: std::sync::LazyLock<Condition> = std::sync::LazyLock::new(down);

#[test]
fn failing_route_is_tried_again_delays_no_other_and_is_an_alert_itself() {
    let mut scene = Scene::new(vec![route("bad"), route("good")]);
    let mut bad = 0;
    for second in 0..60 {
        for delivery in scene.look(second, &[down()]) {
            let fails = delivery.route.as_str() == "bad";
            bad += u32::from(fails);
            let result = if fails { Err("refused".to_owned()) } else { Ok(()) };
            if !fails {
                assert!(second == 0 || delivery.message.condition == "route_failing", "{delivery:?}");
            }
            scene.tracker.settle(Outcome { delivery, result }, at(second));
        }
    }
    assert_eq!(bad, 6, "at 0, 1, 3, 7, 15 and 31 s");
    let board = scene.tracker.board(&scene.routes, at(60));
    let names: Vec<_> = board.firing.iter().map(|f| f.condition.key()).collect();
    assert_eq!(names, ["route_failing/bad", "backend_down/web/b1"]);
    assert_eq!(board.firing[0].told.len(), 1, "the failing route is not asked to tell of itself");
    assert_eq!((board.routes[0].failed, board.routes[1].delivered), (6, 2));
    // Over before the route took anything: it hears of the end all the same, and that heals it.
    scene.look(61, &[]);
    assert_eq!(scene.deliver(70, &[]), ["bad resolved", "good resolved"]);
    assert!(scene.tracker.board(&scene.routes, at(71)).routes[0].failing.is_none());
}

#[test]
fn restart_goes_on_with_what_fired_and_repeats_nothing() {
    let mut scene = Scene::new(vec![route("log")]);
    scene.deliver(0, &[down()]);
    let saved = scene.tracker.to_save("boot-1").unwrap();
    assert_eq!(scene.tracker.to_save("boot-1"), None, "nothing changed since");
    let text = serde_json::to_string(&saved).unwrap();
    for boot in ["boot-1", "boot-2"] {
        let mut scene = Scene::new(vec![route("log")]);
        scene.tracker.resume(serde_json::from_str(&text).unwrap(), boot, at(60), GRACE);
        assert!(scene.deliver(60, &[down()]).is_empty(), "{boot}");
        assert_eq!(scene.tracker.board(&scene.routes, at(60)).firing[0].fired, at(0), "{boot}");
        assert_eq!(scene.deliver(3600, &[down()]), ["log firing"], "{boot}");
        assert!(scene.changes.is_empty(), "{boot}");
    }
    // What is over meanwhile is told, once there was time to look.
    let mut scene = Scene::new(vec![route("log")]);
    scene.tracker.resume(saved, "boot-1", at(60), GRACE);
    assert!(scene.deliver(60, &[]).is_empty());
    assert!(scene.deliver(90, &[]).is_empty());
    assert_eq!(scene.deliver(95, &[]), ["log resolved"]);
}

#[test]
fn alertmanager_hears_of_an_alert_each_minute_and_the_journal_only_once() {
    let url = HttpUrl { tls: false, host: "a".into(), port: NonZeroU16::MIN, path: "/".into() };
    let mut scene = Scene::new(vec![AlertRoute { target: AlertTarget::Alertmanager(url), ..route("am") }]);
    let mut news = 0;
    for second in 0..180 {
        for delivery in scene.look(second, &[down()]) {
            assert_eq!(second % 60, 0);
            let event = scene.tracker.settle(Outcome { delivery, result: Ok(()) }, at(second));
            news += u32::from(event.is_some());
        }
    }
    assert_eq!((news, scene.tracker.board(&scene.routes, at(180)).firing[0].told[0].times), (1, 3));
}

#[test]
fn answer_about_an_earlier_time_says_nothing_of_the_next() {
    let mut scene = Scene::new(vec![route("log")]);
    let first = scene.look(0, &[down()]).remove(0);
    scene.look(10, &[]);
    scene.look(20, &[]);
    assert!(scene.look(30, &[down()]).is_empty(), "the first message is still under way");
    scene.tracker.settle(Outcome { delivery: first, result: Ok(()) }, at(31));
    assert_eq!(scene.deliver(32, &[down()]), ["log firing"]);
}

#[test]
fn stuck_daemon_ends_no_alert() {
    let mut scene = Scene::new(vec![route("log")]);
    scene.deliver(0, &[down()]);
    let stuck = Condition::of(Kind::DaemonStuck, "", "it has not moved for 31 s");
    assert_eq!(scene.deliver(31, std::slice::from_ref(&stuck)), ["log firing"]);
    assert!(scene.deliver(600, &[stuck]).is_empty());
    assert!(scene.deliver(601, &[down()]).is_empty());
    assert_eq!(scene.deliver(606, &[down()]), ["log resolved"]);
    assert_eq!(scene.tracker.board(&scene.routes, at(606)).firing[0].condition, down());
}

#[test]
fn owner_that_labels_name_is_who_answered_when_it_fired() {
    let mut scene = Scene::new(vec![route("log")]);
    let of = |owner: &str| Condition { owner: Some(owner.to_owned()), ..down() };
    let names = |due: &[Delivery]| {
        let message = &due[0].message;
        (message.owner.clone().unwrap(), message.owner_fired.clone().unwrap())
    };
    let due = scene.look(0, &[of("ada")]);
    assert_eq!(names(&due), ("ada".to_owned(), "ada".to_owned()));
    scene.tracker.settle(Outcome { delivery: due[0].clone(), result: Ok(()) }, at(0));
    let due = scene.look(3600, &[of("grace")]);
    assert_eq!(names(&due), ("grace".to_owned(), "ada".to_owned()));
    scene.tracker.settle(Outcome { delivery: due[0].clone(), result: Ok(()) }, at(3600));
    scene.look(3601, &[]);
    let due = scene.look(3610, &[]);
    assert_eq!((due[0].message.status, names(&due).1), (Status::Resolved, "ada".to_owned()));
}
