//! Who was out, since when, until when, why and by whom: read off the order of events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::timestamp;
use crate::core::api::EventKind;
use crate::io::journal::Recorded;

/// Absences of one backend that begin and end within so many milliseconds in several services are one.
const TOGETHER_MS: i64 = 2_000;

/// A time in which a backend got no new flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Absence {
    /// The backend.
    pub backend: String,
    /// In these services; empty if it was removed from all.
    pub services: Vec<String>,
    /// Since when; may be before the report's window.
    pub since: Timestamp,
    /// Until when; null if it was still out at the end of the window.
    pub until: Option<Timestamp>,
    /// Why, in words, in the order in which it came.
    pub reasons: Vec<String>,
    /// The people who took it out, by name.
    pub by: Vec<String>,
}

/// A backend, and one service or all.
type Place = (String, Option<String>);

#[derive(Default)]
struct Replay {
    out: BTreeMap<Place, Absence>,
    /// In force: what a lease says, and whose it is.
    leases: BTreeMap<Place, (String, Option<String>)>,
    over: Vec<Absence>,
}

/// Of `events`, in order, all absences that were not over at `since`.
pub(super) fn absences<'a>(since: Timestamp, events: impl Iterator<Item = &'a Recorded>) -> Vec<Absence> {
    let mut replay = Replay::default();
    events.for_each(|event| replay.event(event));
    let mut all: Vec<Absence> = replay.over.into_iter().filter(|a| a.until.is_some_and(|end| end >= since)).collect();
    all.extend(replay.out.into_values());
    all.sort_by(|a, b| (a.since, &a.backend, &a.services).cmp(&(b.since, &b.backend, &b.services)));
    together(all)
}

impl Replay {
    fn event(&mut self, event: &Recorded) {
        let (Some(kind), Some(backend)) = (event.kind(), event.backend.clone()) else { return };
        let place: Place = (backend, event.service.clone());
        let first = event.cause.split("; it stays in the roll call").next().unwrap_or_default();
        match kind {
            EventKind::OutOfRotation => {
                let lease = self.leases.iter().find(|(scope, _)| covers(scope, &place)).map(|(_, lease)| lease.clone());
                let known = self.out.contains_key(&place) || self.out.contains_key(&(place.0.clone(), None));
                match lease {
                    Some((why, by)) => self.take_out(place, event, why, by),
                    // It was removed, which says more.
                    None if known => {}
                    None => self.take_out(place, event, in_words(&event.cause), None),
                }
            }
            EventKind::Drained | EventKind::Maintenance => {
                let what = if kind == EventKind::Drained { "drained" } else { "in maintenance" };
                let lease = (format!("{what} {first}"), event.by.clone());
                self.leases.insert(place.clone(), lease.clone());
                self.add(&place, &lease.0, lease.1.as_deref());
            }
            EventKind::LeaseEnded | EventKind::Restored | EventKind::Recalled => {
                self.leases.remove(&place);
            }
            EventKind::Removed => self.take_out(place, event, format!("removed {first}"), event.by.clone()),
            EventKind::Down => self.add(&place, &format!("down: {first}"), None),
            EventKind::ReturnFailed => self.add(&place, &format!("did not return: {first}"), None),
            EventKind::InRotation | EventKind::BackupStandby => {
                self.end(event, |out| *out == place || *out == (place.0.clone(), None));
            }
            EventKind::Forgotten | EventKind::Decommissioned => self.end(event, |out| covers(&place, out)),
            _ => {}
        }
    }

    /// Begins an absence, or adds to the one that there is.
    fn take_out(&mut self, place: Place, event: &Recorded, why: String, by: Option<String>) {
        let (backend, service) = place.clone();
        self.out.entry(place.clone()).or_insert_with(|| Absence {
            backend,
            services: service.into_iter().collect(),
            since: timestamp(event.time),
            until: None,
            reasons: Vec::new(),
            by: Vec::new(),
        });
        self.add(&place, &why, by.as_deref());
    }

    /// Adds to absences that a place covers.
    fn add(&mut self, place: &Place, why: &str, by: Option<&str>) {
        for (_, absence) in self.out.iter_mut().filter(|(out, _)| covers(place, out)) {
            if !absence.reasons.iter().any(|r| r == why) {
                absence.reasons.push(why.to_owned());
            }
            if let Some(by) = by.filter(|by| !absence.by.iter().any(|known| known == by)) {
                absence.by.push(by.to_owned());
            }
        }
    }

    fn end(&mut self, event: &Recorded, ends: impl Fn(&Place) -> bool) {
        let over: Vec<Place> = self.out.keys().filter(|out| ends(out)).cloned().collect();
        for place in over {
            let Some(absence) = self.out.remove(&place) else { continue };
            self.over.push(Absence { until: Some(timestamp(event.time)), ..absence });
        }
    }
}

/// The cause of a change of rotation begins with the reason's name, such as `probe_failed`.
fn in_words(cause: &str) -> String {
    match cause.split_once(": ") {
        Some((name, rest)) => format!("{}: {rest}", name.replace('_', " ")),
        None => cause.to_owned(),
    }
}

/// Whether something about `scope` concerns `place`.
fn covers(scope: &Place, place: &Place) -> bool {
    scope.0 == place.0 && scope.1.as_ref().is_none_or(|service| place.1.as_ref() == Some(service))
}

/// Joins what is one absence in several services.
fn together(all: Vec<Absence>) -> Vec<Absence> {
    let near = |a: Timestamp, b: Timestamp| (a.as_millisecond() - b.as_millisecond()).abs() <= TOGETHER_MS;
    let mut joined: Vec<Absence> = Vec::new();
    for absence in all {
        let same = joined.iter_mut().find(|other| {
            let ends = match (other.until, absence.until) {
                (Some(a), Some(b)) => near(a, b),
                (a, b) => a == b,
            };
            other.backend == absence.backend && near(other.since, absence.since) && ends
        });
        match same {
            Some(other) => {
                other.until = other.until.max(absence.until);
                other.services.extend(absence.services);
                other
                    .reasons
                    .extend(absence.reasons.into_iter().filter(|r| !other.reasons.contains(r)).collect::<Vec<_>>());
                other.by.extend(absence.by.into_iter().filter(|by| !other.by.contains(by)).collect::<Vec<_>>());
            }
            None => joined.push(absence),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{BackendName, ServiceName};
    use crate::core::api::{Event, Time};

    /// Seconds, backend, service, kind, by, cause.
    type Line<'a> = (i64, &'a str, &'a str, EventKind, Option<&'a str>, &'a str);

    fn recorded(all: &[Line<'_>]) -> Vec<Recorded> {
        let event = |&(s, backend, service, kind, by, cause): &Line<'_>| Event {
            time: Time { boot_ms: 0, wall_ms: s * 1000 },
            backend: BackendName::new(backend),
            service: ServiceName::new(service),
            kind,
            by: by.map(str::to_owned),
            cause: cause.to_owned(),
        };
        all.iter().zip(1..).map(|(e, id)| Recorded::new(id, &event(e))).collect()
    }

    /// Absences as `backend services since-until why by`.
    fn told(since: i64, all: &[Line<'_>]) -> Vec<String> {
        let found = absences(Timestamp::from_second(since).unwrap(), recorded(all).iter());
        let words = |a: Absence| {
            let until = a.until.map_or("now".to_owned(), |t| t.as_second().to_string());
            let (services, since) = (a.services.join("+"), a.since.as_second());
            format!("{} {services} {since}-{until} {} by {}", a.backend, a.reasons.join(", then "), a.by.join("+"))
        };
        found.into_iter().map(words).collect()
    }

    use EventKind::*;

    #[test]
    fn drain_is_one_absence_in_all_services_by_who_asked_for_it() {
        let events = [
            (10, "b", "", Drained, Some("ada"), "by ada for 30 min 0 s: test"),
            (10, "b", "web", OutOfRotation, None, "drained: by ada: test"),
            (11, "b", "api", OutOfRotation, None, "drained: by ada: test"),
            (40, "b", "", LeaseEnded, None, "is over"),
            (41, "b", "web", ReturnFailed, None, "refused"),
            (50, "b", "web", InRotation, None, "nothing stands against it"),
            (51, "b", "api", InRotation, None, "nothing stands against it"),
        ];
        // That its parts differ by a second does not make two of it.
        let why = "drained by ada for 30 min 0 s: test, then did not return: refused";
        assert_eq!(told(0, &events), [format!("b web+api 10-51 {why} by ada")]);
        assert!(told(60, &events).is_empty(), "over before the window");
    }

    #[test]
    fn failing_backend_is_out_with_its_probes_words_until_it_is_back_or_still() {
        let events = [
            (5, "b", "web", Down, None, "3 probes failed: refused"),
            (5, "b", "web", OutOfRotation, None, "probe_failed: refused"),
            (9, "c", "web", OutOfRotation, None, "no_next_hop: silent"),
            (12, "b", "web", InRotation, None, "it is back"),
        ];
        assert_eq!(told(0, &events), ["b web 5-12 probe failed: refused by ", "c web 9-now no next hop: silent by "]);
    }

    #[test]
    fn removed_backend_is_missing_until_someone_lets_go_of_it() {
        let events = [
            (5, "b", "web", Removed, Some("ada"), "by ada (reload); it stays in the roll call until it returns"),
            (6, "b", "web", OutOfRotation, None, "removed from the configuration"),
            (7, "c", "", Removed, Some("eve"), "by eve (reload)"),
            (9, "b", "", Forgotten, Some("eve"), "by eve"),
        ];
        assert_eq!(
            told(0, &events),
            ["b web 5-9 removed by ada (reload) by ada", "c  7-now removed by eve (reload) by eve"]
        );
    }
}
