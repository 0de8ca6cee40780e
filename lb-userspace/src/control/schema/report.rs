//! `rollcall.report/v1`: what the journal knows of a window of time, for a post-mortem: who was out, traffic, events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::absence::{Absence, absences};
use super::{Document, EventRecord};
use crate::io::journal::{Counted, Recorded, Sample};

/// The facts of a window of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// When it was written.
    pub time: Timestamp,
    /// Begin of the window.
    pub since: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// The journal's oldest event: nothing is known of what was before; null if the journal is empty.
    pub known_since: Option<Timestamp>,
    /// Who was out of rotation or removed at any time in the window, by the begin of it.
    pub absences: Vec<Absence>,
    /// Traffic and errors by service and backend.
    pub traffic: Vec<TrafficReport>,
    /// When the first and the last of the counters' samples were taken that `traffic` is made of; null without any.
    pub sampled_since: Option<Timestamp>,
    /// See `sampled_since`.
    pub sampled_until: Option<Timestamp>,
    /// What happened, oldest first.
    pub events: Vec<EventRecord>,
    /// Whether there were more events, older ones, than are listed.
    pub more: bool,
}

/// What was counted of a backend in a service, or of a service's refusals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrafficReport {
    /// The service.
    pub service: String,
    /// The backend; null for packets that the service dropped, whichever backend they were for, if any.
    pub backend: Option<String>,
    /// Flows opened.
    pub flows_opened: u64,
    /// Bytes from clients to the backend.
    pub forward_bytes: u64,
    /// Bytes from the backend to clients.
    pub reverse_bytes: u64,
    /// Half-open flows that ended without an answer of the backend.
    pub unanswered: u64,
    /// SYNs that clients sent again.
    pub syn_retransmits: u64,
    /// Resets by the backend.
    pub resets_backend: u64,
    /// New flows refused because no source port was free.
    pub ports_exhausted: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
}

/// What a [`Report`] is made of.
#[derive(Debug)]
pub struct Facts {
    /// When it is written.
    pub time: Timestamp,
    /// The window's begin and end.
    pub window: (Timestamp, Timestamp),
    /// The journal's begin.
    pub known_since: Option<Timestamp>,
    /// What stood when the window began.
    pub stood: Vec<Recorded>,
    /// What happened in it, and whether there was more.
    pub events: (Vec<Recorded>, bool),
    /// What was counted in it.
    pub traffic: Traffic,
}

/// Sums of what was counted from one sample of a place to the next.
#[derive(Debug, Default)]
pub struct Traffic {
    /// By service and backend: the last sample's counters, and the sum.
    places: BTreeMap<(String, Option<String>), (Counted, Counted)>,
    /// Unix times of the first and the last sample, ms.
    between_ms: Option<(i64, i64)>,
}

impl Document for Report {
    const SCHEMA: &'static str = "rollcall.report/v1";
}

impl Report {
    /// From the journal's facts.
    pub fn new(facts: Facts) -> Self {
        let Facts { time, window: (since, until), known_since, stood, events: (events, more), traffic } = facts;
        let (first, last) = traffic.between_ms.unzip();
        let at = |ms: Option<i64>| ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Self {
            time,
            since,
            until,
            known_since,
            absences: absences(since, stood.iter().chain(&events)),
            traffic: traffic.rows(),
            sampled_since: at(first),
            sampled_until: at(last),
            events: events.into_iter().map(EventRecord::from).collect(),
            more,
        }
    }
}

impl Traffic {
    /// Takes the next sample.
    pub fn add(&mut self, sample: &Sample) {
        let place = (sample.service.clone(), sample.backend.clone());
        let (last, sum) = self.places.entry(place).or_insert((sample.counted, Counted::default()));
        *sum = sum.plus(sample.counted.since(*last));
        *last = sample.counted;
        let (first, latest) = self.between_ms.unwrap_or((sample.wall_ms, sample.wall_ms));
        self.between_ms = Some((first.min(sample.wall_ms), latest.max(sample.wall_ms)));
    }

    /// All places, also those where nothing moved: that a backend got nothing is a fact.
    fn rows(self) -> Vec<TrafficReport> {
        let places = self.places.into_iter();
        places.map(|((service, backend), (_, sum))| TrafficReport::new(service, backend, sum)).collect()
    }
}

#[cfg(test)]
impl<'a> FromIterator<&'a Sample> for Traffic {
    fn from_iter<T: IntoIterator<Item = &'a Sample>>(samples: T) -> Self {
        let mut traffic = Self::default();
        samples.into_iter().for_each(|sample| traffic.add(sample));
        traffic
    }
}

impl TrafficReport {
    fn new(service: String, backend: Option<String>, sum: Counted) -> Self {
        Self {
            service,
            backend,
            flows_opened: sum.opened,
            forward_bytes: sum.forward_bytes,
            reverse_bytes: sum.reverse_bytes,
            unanswered: sum.unanswered,
            syn_retransmits: sum.syn_retransmits,
            resets_backend: sum.resets_backend,
            ports_exhausted: sum.ports_exhausted,
            dropped_packets: sum.dropped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_summed_over_a_new_data_plane_and_begins_at_the_sample_before() {
        let sample = |n: i64, backend: Option<&str>, opened| Sample {
            wall_ms: n,
            service: "www".into(),
            backend: backend.map(Into::into),
            counted: Counted { opened, forward_bytes: opened * 10, ..Counted::default() },
        };
        let all = [
            sample(1, Some("web-01"), 100),
            sample(1, Some("web-02"), 7),
            sample(2, Some("web-01"), 150),
            // The host was booted: counters begin anew.
            sample(3, Some("web-01"), 20),
            sample(4, Some("web-01"), 30),
            sample(4, None, 0),
        ];
        let traffic: Traffic = all.iter().collect();
        let sums: Vec<_> = traffic.rows().into_iter().map(|t| (t.backend, t.flows_opened, t.forward_bytes)).collect();
        let row = |name: Option<&str>, opened| (name.map(str::to_owned), opened, opened * 10);
        assert_eq!(sums, [row(None, 0), row(Some("web-01"), 80), row(Some("web-02"), 0)]);
    }
}
