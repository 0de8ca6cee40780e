//! Slow start: a member that comes into rotation gets its weight in sixteenths, so that empty caches and cold code are not
//! met by a full share of the flows.
//!
//! Only while the others can do without it: those at full weight must hold at least half of the primaries' configured
//! weight, and none of them may be known to be short of memory. Else every ramp of the service ends at once, for good, and
//! none begins. The same if more than half of the members came within one interval: after a mass failure they come
//! back together. At a start, members do not come back: they are where they were, or all come at once.

use std::time::Duration;

use super::Core;
use super::api::{EventKind, Health, MemberName, Time, millis};
use super::schedule::JITTER_PERCENT;
use super::watched::Watched;
use super::weight::Weighed;
use crate::config::model::{Config, Member, Service, Tier};

/// A whole weight, in sixteenths.
pub const FULL: u8 = 16;
/// Members of a service that is not probed come together if they come within this time.
const TOGETHER: Duration = Duration::from_secs(2);

/// A member's way to its full weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// When it came into rotation.
    pub since: Time,
    /// How long it takes.
    pub length: Duration,
}

impl Ramp {
    /// Sixteenths of its weight at `now`: from 1 to [`FULL`], at which it is over.
    pub fn level(&self, now: Time) -> u8 {
        let steps = u64::from(FULL - 1);
        let passed = now.boot_ms.saturating_sub(self.since.boot_ms).saturating_mul(steps) / millis(self.length).max(1);
        // At most 15.
        1 + passed.min(steps) as u8
    }

    /// When it takes its next step after `now`, CLOCK_BOOTTIME ms.
    fn next_ms(&self, now: Time) -> u64 {
        let level = u64::from(self.level(now));
        self.since.boot_ms + (level * millis(self.length)).div_ceil(u64::from(FULL - 1))
    }
}

impl Core {
    /// Begins, moves and ends the ramps of a service's members, of which `weighed` says who takes new flows.
    pub(super) fn ramp(&mut self, config: &Config, service: &Service, weighed: &mut [Weighed]) {
        let names: Vec<MemberName> = service.members.iter().map(|m| MemberName::of(service, m)).collect();
        let mut coming = Vec::new();
        for ((name, member), weighed) in names.iter().zip(&service.members).zip(&*weighed) {
            if self.admit(name, weighed.effective > 0)
                && let Some(length) = slow_start(config, service, member)
            {
                coming.push((name, length));
            }
        }
        if coming.is_empty() && !names.iter().any(|name| self.ramping.contains_key(name)) {
            return;
        }
        let why_not = self.why_no_ramp(service, weighed, &coming);
        for (name, length) in coming {
            if why_not.is_none() {
                self.set_ramp(name, Some(Ramp { since: self.now, length }));
                let cause = format!("from 1/{FULL} to its full weight within {} s", length.as_secs());
                self.event(Some(name), EventKind::Ramping, cause);
            }
        }
        for ((name, member), weighed) in names.iter().zip(&service.members).zip(weighed) {
            let Some(ramp) = self.members.get(name).and_then(|m| m.ramp) else { continue };
            let over = match &why_not {
                Some(why) => Some(format!("its full weight at once: {why}")),
                None if slow_start(config, service, member).is_none() => Some("slow_start is no longer set".to_owned()),
                None if ramp.level(self.now) >= FULL => Some("its full weight".to_owned()),
                None => None,
            };
            match over {
                Some(cause) => {
                    self.set_ramp(name, None);
                    self.event(Some(name), EventKind::Ramped, cause);
                }
                None => {
                    weighed.ramp(ramp.level(self.now), &ramp);
                    self.set_ramp(name, Some(ramp));
                }
            }
        }
    }

    /// Notes whether a member takes new flows; whether it did not before.
    fn admit(&mut self, name: &MemberName, takes_flows: bool) -> bool {
        let now = self.now;
        let awaited = |m: &Watched| self.hops.is_awaited(m.endpoint.address, now.boot_ms);
        let Some(member) = self.members.get(name) else { return false };
        // A start that has not decided yet is no absence.
        let starting = member.health.health() == Health::Unknown && !member.health.awaits_first_success();
        if !takes_flows && member.admitted && (starting || awaited(member)) {
            return false;
        }
        let Some(member) = self.members.get_mut(name) else { return false };
        let comes = !std::mem::replace(&mut member.admitted, takes_flows) && takes_flows;
        if comes {
            member.entered = Some(now);
        }
        if !takes_flows {
            self.set_ramp(name, None);
        }
        comes
    }

    /// Why nobody may be spared now, if so: `coming` are those who would begin.
    fn why_no_ramp(
        &self,
        service: &Service,
        weighed: &[Weighed],
        coming: &[(&MemberName, Duration)],
    ) -> Option<String> {
        if self.resorts.get(&service.name).is_some_and(|state| state.panic.is_some()) {
            return Some("no member can serve".to_owned());
        }
        let (mut full, mut all) = (0u64, 0u64);
        for (member, weighed) in service.members.iter().zip(weighed) {
            let weight = u64::from(member.weight.get());
            all += if member.tier == Tier::Primary { weight } else { 0 };
            let name = MemberName::of(service, member);
            let Some(watched) = self.members.get(&name) else { continue };
            let takes_all = weighed.effective > 0 && watched.ramp.is_none() && !self.is_at_limit(&member.backend);
            let is_full = takes_all && !coming.iter().any(|(c, _)| **c == name);
            if is_full && self.is_short(&member.backend) {
                return Some(format!("the memory of {} is short", member.backend));
            }
            full += if is_full { weight } else { 0 };
        }
        if full * 2 < all {
            return Some("the others in rotation hold less than half of the weight".to_owned());
        }
        let window = service.probe.as_ref().map_or(TOGETHER, |probe| {
            // Members that recover at the same moment are found out up to an interval apart, and the jitter until then.
            probe.interval + probe.interval * probe.rise * 2 * JITTER_PERCENT / 100
        });
        let came = |m: &&Member| {
            let watched = self.watched(service, m).filter(|w| w.admitted);
            watched.and_then(|w| w.entered).is_some_and(|at| at + window >= self.now)
        };
        let together = service.members.iter().filter(came).count();
        (together * 2 > service.members.len()).then(|| "most came back together".to_owned())
    }

    fn set_ramp(&mut self, name: &MemberName, ramp: Option<Ramp>) {
        let Some(member) = self.members.get_mut(name) else { return };
        member.ramp = ramp;
        match ramp {
            Some(ramp) => drop(self.ramping.insert(name.clone(), ramp.next_ms(self.now))),
            None => drop(self.ramping.remove(name)),
        }
    }

    /// Marks services of which a ramp takes its next step.
    pub(super) fn run_ramps(&mut self) {
        let due = self.ramping.iter().filter(|(_, at)| **at <= self.now.boot_ms);
        self.dirty.extend(due.map(|(name, _)| name.service.clone()));
    }

    /// After a change of the configuration: who is no member has no ramp.
    pub(super) fn follow_ramps(&mut self) {
        let now = self.now;
        let ramp = |(name, m): (&MemberName, &Watched)| Some((name.clone(), m.ramp?.next_ms(now)));
        self.ramping = self.members.iter().filter_map(ramp).collect();
    }

    /// When the next step is due, CLOCK_BOOTTIME ms.
    pub(super) fn next_ramp(&self) -> Option<u64> {
        self.ramping.values().copied().min()
    }
}

/// A member's `slow_start`: its server's, else its service's.
fn slow_start(config: &Config, service: &Service, member: &Member) -> Option<Duration> {
    config.backends.get(&member.backend).and_then(|b| b.slow_start).or(service.slow_start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time { boot_ms: ms, wall_ms: 0 }
    }

    proptest! {
        #[test]
        fn ramp_goes_up_a_sixteenth_at_each_of_its_times_and_ends_in_time(since in 0u64..1 << 40, length_ms in 5000u64..3_600_000) {
            let ramp = Ramp { since: at(since), length: Duration::from_millis(length_ms) };
            let (mut now, mut level) = (since, ramp.level(at(since)));
            prop_assert_eq!(level, 1);
            while level < FULL {
                let next = ramp.next_ms(at(now));
                prop_assert!(next > now && ramp.level(at(next - 1)) == level, "{now} {next}");
                (now, level) = (next, level + 1);
                prop_assert_eq!(ramp.level(at(now)), level);
            }
            prop_assert_eq!(now, since + length_ms);
        }
    }
}
