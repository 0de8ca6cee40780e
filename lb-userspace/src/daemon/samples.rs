//! What of the counters goes where: once a minute those that moved into the journal, so that a report can tell each
//! backend's traffic in any window; and, more often, each member's flows to the core.

use std::collections::BTreeMap;

use crate::core::api::{Load, MemberName, RollCall};
use crate::io::bpf::types::Counters;
use crate::io::journal::{Counted, Sample};

/// A service, and a backend if it is not about the service's own refusals.
type Place = (String, Option<String>);

/// What was last told to the journal.
#[derive(Debug, Default)]
pub struct Sampler {
    last: BTreeMap<Place, Counted>,
    /// Whether counters of the data plane may have been moving before the first look.
    adopted: bool,
    looked: bool,
}

impl Sampler {
    /// Of a data plane that was found (`adopted`) or made.
    pub fn new(adopted: bool) -> Self {
        Self { last: BTreeMap::new(), adopted, looked: false }
    }

    /// What is to be kept of `counters`.
    pub fn take(&mut self, call: &RollCall, counters: &Counters) -> Vec<Sample> {
        let mut samples = Vec::new();
        // A member that appears begins at zero, except where an earlier daemon may have told of it.
        let continues = self.adopted && !self.looked;
        self.looked = true;
        let now = places(call, counters);
        for (place, counted) in &now {
            let sample = |counted| {
                let (service, backend) = place.clone();
                Sample { wall_ms: call.time.wall_ms, service, backend, counted }
            };
            match self.last.get(place) {
                Some(last) if last == counted => {}
                None if !continues => {
                    samples.push(sample(Counted::default()));
                    if *counted != Counted::default() {
                        samples.push(sample(*counted));
                    }
                }
                _ => samples.push(sample(*counted)),
            }
        }
        self.last = now;
        samples
    }
}

/// Flows of each member whose counters were read, for the core.
pub fn loads(call: &RollCall, counters: &Counters) -> BTreeMap<MemberName, Load> {
    let members = call.services.iter().flat_map(|s| s.members.iter().map(move |m| (s, m)));
    let load = members.filter_map(|(service, member)| {
        let counted = counters.members.get(&member.id?)?;
        let name = MemberName { service: service.name.clone(), backend: member.backend.clone() };
        let bytes = counted.forward.bytes.saturating_add(counted.reverse.bytes);
        Some((name, Load { opened: counted.stats.opened, active: counted.active(), bytes }))
    });
    load.collect()
}

fn places(call: &RollCall, counters: &Counters) -> BTreeMap<Place, Counted> {
    let mut places = BTreeMap::new();
    for service in &call.services {
        for member in &service.members {
            let Some(m) = member.id.and_then(|id| counters.members.get(&id)) else { continue };
            let counted = Counted {
                opened: m.stats.opened,
                forward_bytes: m.forward.bytes,
                reverse_bytes: m.reverse.bytes,
                unanswered: m.stats.unanswered,
                syn_retransmits: m.stats.syn_retransmits,
                resets_backend: m.stats.resets_backend,
                ports_exhausted: m.stats.ports_exhausted,
                dropped: 0,
            };
            places.insert((service.name.to_string(), Some(member.backend.to_string())), counted);
        }
        let dropped = counters.drops.get(&service.id).map_or(0, |drops| drops.values().sum());
        places.insert((service.name.to_string(), None), Counted { dropped, ..Counted::default() });
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    fn taken(sampler: &mut Sampler, counters: &Counters) -> Vec<(String, u64)> {
        let samples = sampler.take(&testing::view().roll_call, counters);
        let named = |s: Sample| (format!("{}/{}", s.service, s.backend.unwrap_or_default()), s.counted);
        samples.into_iter().map(named).map(|(name, c)| (name, c.opened + c.dropped)).collect()
    }

    #[test]
    fn sampler_tells_what_moved_and_where_counting_began() {
        let mut counters = testing::counters();
        let mut cold = Sampler::new(false);
        let first = taken(&mut cold, &counters);
        let own = |all: &[(String, u64)], name: &str| -> Vec<u64> {
            all.iter().filter(|(n, _)| n == name).map(|(_, n)| *n).collect()
        };
        assert_eq!(own(&first, "www/web-01"), [0, 110]);
        assert_eq!(own(&first, "www/"), [0, 7]);
        assert!(taken(&mut cold, &counters).is_empty(), "nothing moved");
        counters.members.get_mut(&1).unwrap().stats.opened += 5;
        assert_eq!(taken(&mut cold, &counters), [("www/web-01".to_owned(), 115)]);
    }

    #[test]
    fn loads_are_of_members_with_counters_in_each_service_by_name() {
        let loads = loads(&testing::view().roll_call, &testing::counters());
        let words: Vec<String> =
            loads.iter().map(|(name, load)| format!("{name} {} {}", load.opened, load.active)).collect();
        assert_eq!(words, ["www/web-01 110 10"]);
    }

    #[test]
    fn sampler_of_an_adopted_data_plane_goes_on_from_what_was_told_before() {
        let counters = testing::counters();
        let first = taken(&mut Sampler::new(true), &counters);
        assert!(first.contains(&("www/web-01".to_owned(), 110)), "{first:?}");
        assert!(!first.contains(&("www/web-01".to_owned(), 0)), "{first:?}");
    }
}
