//! Acknowledgements over time: who is not called, who is called again, and what a restart keeps.

use std::time::Duration;

use super::super::tests::{Scene, at, down, route};
use super::*;
use crate::alert::{ACK_DEFAULT, Condition, Kind};
use crate::config::model::AlertRoute;
use crate::core::lease::Owner;

const KEY: &str = "backend_down/web/b1";

fn asked(alert: &str, length: Duration) -> AckAsked {
    let by = Owner { name: "ada".into(), claimed: false, uid: 0, loginuid: Some(1000) };
    AckAsked { alert: alert.into(), by, length, note: Some(" on it ".into()) }
}

/// Steps at once and after 15 min.
fn steps() -> Vec<AlertRoute> {
    vec![route("first"), AlertRoute { after: Duration::from_secs(900), ..route("second") }]
}

impl Scene {
    fn ack(&mut self, seconds: u64, length: Duration) -> Change {
        let granted = self.tracker.check_ack(asked(KEY, length), at(seconds)).unwrap();
        self.tracker.acknowledge(granted, at(seconds)).unwrap()
    }
}

#[test]
fn acknowledged_alert_calls_nobody_until_its_time_is_over_and_then_from_the_first_step() {
    let mut scene = Scene::new(steps());
    assert_eq!(scene.deliver(0, &[down()]), ["first firing"]);
    let told = scene.ack(600, ACK_DEFAULT);
    assert_eq!((told.kind, told.by.as_deref()), (EventKind::AlertAcknowledged, Some("ada")));
    assert_eq!(told.cause, "warning: b1 in web is down: refused; acknowledged by ada for 60 min: on it");
    for second in [900, 3600, 4199] {
        assert!(scene.deliver(second, &[down()]).is_empty(), "{second}");
    }
    let board = scene.tracker.board(&scene.routes, at(4199));
    assert_eq!(board.firing[0].acknowledged.as_ref().map(|ack| ack.until), Some(at(4200)));
    assert_eq!(scene.deliver(4200, &[down()]), ["first firing"], "again, although its repeat is not due");
    assert!(scene.deliver(5099, &[down()]).is_empty());
    assert_eq!(scene.deliver(5100, &[down()]), ["second firing"]);
    assert_eq!(scene.tracker.board(&scene.routes, at(5100)).firing[0].acknowledged, None);
    assert_eq!(scene.changes, [(0, EventKind::AlertFired), (4200, EventKind::AlertAckEnded)]);
}

#[test]
fn acknowledgement_ends_with_the_alert_and_is_not_of_the_next() {
    let mut scene = Scene::new(steps());
    scene.deliver(0, &[down()]);
    scene.ack(10, ACK_DEFAULT);
    scene.deliver(20, &[]);
    assert_eq!(scene.deliver(25, &[]), ["first resolved"]);
    assert_eq!(scene.deliver(100, &[down()]), ["first firing"]);
    assert_eq!(scene.deliver(1000, &[down()]), ["second firing"]);
    assert!(scene.changes.iter().all(|(_, kind)| *kind != EventKind::AlertAckEnded), "{:?}", scene.changes);
}

#[test]
fn acknowledgement_anew_replaces_the_time() {
    let mut scene = Scene::new(steps());
    scene.deliver(0, &[down()]);
    scene.ack(10, ACK_DEFAULT);
    scene.ack(20, Duration::from_secs(60));
    assert!(scene.deliver(79, &[down()]).is_empty());
    assert_eq!(scene.deliver(80, &[down()]), ["first firing"]);
}

#[test]
fn alertmanager_goes_on_hearing_of_an_acknowledged_alert() {
    let url = crate::config::model::HttpUrl {
        tls: false,
        host: "a".into(),
        port: std::num::NonZeroU16::MIN,
        path: "/".into(),
    };
    let target = crate::config::model::AlertTarget::Alertmanager(url);
    let late = AlertRoute { after: Duration::from_secs(30), target: target.clone(), ..route("late") };
    let mut scene = Scene::new(vec![AlertRoute { target, ..route("am") }, late]);
    assert_eq!(scene.deliver(0, &[down()]), ["am firing"]);
    scene.ack(10, ACK_DEFAULT);
    assert_eq!(scene.deliver(60, &[down()]), ["am firing"], "it would end there; and nobody else is told");
}

#[test]
fn acknowledgement_outlives_the_daemon_and_is_never_longer_than_it_was_given() {
    let mut scene = Scene::new(steps());
    scene.deliver(0, &[down()]);
    let granted = scene.tracker.check_ack(asked(KEY, ACK_DEFAULT), at(10)).unwrap();
    let text = serde_json::to_string(&scene.tracker.saved_with(&granted, "boot-1")).unwrap();
    for (boot, resumed, last, first) in [
        ("boot-1", at(60), 3609, 3610),
        // By the wall clock, which went on by 20 s.
        ("boot-2", Time { boot_ms: at(5).boot_ms, wall_ms: at(30).wall_ms }, 3584, 3585),
        // The wall clock went back by an hour.
        ("boot-2", Time { boot_ms: at(5).boot_ms, wall_ms: at(0).wall_ms - 3_600_000 }, 3604, 3605),
    ] {
        let mut scene = Scene::new(vec![route("first")]);
        scene.tracker.resume(serde_json::from_str(&text).unwrap(), boot, resumed, Duration::ZERO);
        assert!(scene.deliver(last, &[down()]).is_empty(), "{boot} {resumed:?}");
        assert_eq!(scene.deliver(first, &[down()]), ["first firing"], "{boot} {resumed:?}");
    }
}

#[test]
fn alert_is_found_by_as_much_of_its_key_as_only_one_has() {
    let mut scene = Scene::new(steps());
    let find = |scene: &Scene, name: &str| {
        scene.tracker.check_ack(asked(name, ACK_DEFAULT), at(1)).map(|granted| granted.key().to_owned())
    };
    let refused = |text: &str| Err(AckRefusal::NotFound(text.to_owned()));
    assert_eq!(find(&scene, KEY), refused("no alert backend_down/web/b1 fires, nor any other"));
    let other = Condition::of(Kind::BackendDown, "web/b10", "b10 in web is down: refused");
    let held = Condition::of(Kind::FileDiffers, "", "held back for now");
    scene.deliver(0, &[down(), other, held]);
    assert_eq!(find(&scene, KEY), Ok(KEY.to_owned()), "not b10");
    assert_eq!(
        find(&scene, "backend_down"),
        refused("backend_down is more than one alert, say which: backend_down/web/b1, backend_down/web/b10")
    );
    let all = "no alert file_differs fires; these do: backend_down/web/b1, backend_down/web/b10";
    assert_eq!(find(&scene, "file_differs"), refused(all));
    scene.deliver(10, &[down()]);
    scene.deliver(20, &[down()]);
    assert_eq!(find(&scene, "backend_down"), Ok(KEY.to_owned()));
}

#[test]
fn acknowledgement_beyond_its_bounds_is_refused() {
    let mut scene = Scene::new(steps());
    assert_eq!(scene.deliver(0, &[down()]).len(), 1);
    let check = |asked| scene.tracker.check_ack(asked, at(1)).map(|_| ());
    assert_eq!(check(asked(KEY, Duration::from_secs(24 * 3600))), Ok(()));
    for length in [Duration::ZERO, Duration::from_secs(24 * 3600 + 1)] {
        assert!(matches!(check(asked(KEY, length)), Err(AckRefusal::Bounds(_))), "{length:?}");
    }
    for note in ["a\u{1b}b".to_owned(), "x".repeat(1001)] {
        let asked = AckAsked { note: Some(note), ..asked(KEY, ACK_DEFAULT) };
        assert!(matches!(check(asked), Err(AckRefusal::Bounds(_))));
    }
}
