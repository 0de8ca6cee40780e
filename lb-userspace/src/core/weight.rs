//! Effective weight: one pure function of the facts about a member.
//!
//! Facts are never merged before they get here, so that each of them shows as its own reason.

use std::num::NonZeroU16;
use std::time::Duration;

use super::api::{Health, Time};
use super::health::Tracker;
use super::lease::Lease;
use super::memory::shed;
use super::ramp::{FULL, Ramp};
use super::reason::{Reason, ReasonKind};

/// How long a part of a weight may be missing before that escalates: what is shed comes back in hours, not minutes.
const PARTIAL: Duration = Duration::from_secs(24 * 3600);
/// Units of effective weight per configured unit.
pub const UNIT: u32 = 256;

/// What is known of a member.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Configured weight.
    pub configured: NonZeroU16,
    /// Health and the probes behind it.
    pub health: &'a Tracker,
    /// The service's suspicion of the edge holds it in rotation although it is down.
    pub held: bool,
    /// Whether new flows can be sent there, or why not.
    pub hop: Result<(), &'a str>,
    /// Leases that cover it.
    pub leases: &'a [&'a Lease],
    /// Since when it is to come back from one.
    pub returning: Option<Time>,
    /// How long a probe may take to say so, from its start.
    pub verdict_within: Duration,
    /// Sixteenths of its weight that its memory allows, and why not all.
    pub factor: (u8, &'a str),
    /// Per cent of its weight that its own agent advises, and its words, if less than all.
    pub advised: Option<(u32, &'a str)>,
}

/// One thing found against a member: a reason without its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: ReasonKind,
    /// Its cause.
    pub cause: String,
    /// Since when, who answers for it and when it is to be reviewed, where the finding itself says so.
    pub terms: Option<Terms>,
}

/// What a finding says of its own history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Since when.
    pub since: Time,
    /// Who answers for it, if not who answers for the member.
    pub owner: Option<String>,
    /// When it escalates.
    pub review_at: Time,
}

/// What the facts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weighed {
    /// The weight in 1/[`UNIT`], apart from what is shed for memory.
    pub unshed: u32,
    /// The effective weight in 1/[`UNIT`].
    pub effective: u32,
    /// Everything that lowers it, or would.
    pub findings: Vec<Finding>,
}

/// Weighs one member.
pub fn weigh(facts: Facts<'_>) -> Weighed {
    let mut findings = Vec::new();
    for lease in facts.leases {
        let terms = Terms { since: lease.begun, owner: Some(lease.owner.name.clone()), review_at: lease.ends };
        findings.push(Finding { kind: lease.kind.reason(), cause: lease.reason.clone(), terms: Some(terms) });
    }
    if let Some(since) = facts.returning.filter(|_| facts.leases.is_empty()) {
        let cause = "its lease is over; back as soon as a probe succeeds".to_owned();
        let terms = Terms { since, owner: None, review_at: since + facts.verdict_within };
        findings.push(Finding { kind: ReasonKind::Returning, cause, terms: Some(terms) });
    }
    let on_leave = !findings.is_empty();
    let mut find = |kind, cause: String| findings.push(Finding { kind, cause, terms: None });
    let serving = facts.health.is_serving() || facts.held;
    let error = facts.health.error();
    match facts.health.health() {
        Health::Down => {
            let why = error.unwrap_or("it was out of rotation when this daemon started, and no probe has ended yet");
            let why = if facts.health.last().is_some() && error.is_none() {
                "not enough successes in a row yet"
            } else {
                why
            };
            let held = if facts.held { "kept in rotation because the edge itself is suspected; " } else { "" };
            find(ReasonKind::ProbeFailed, format!("{held}{why}"));
        }
        Health::Unknown if facts.health.is_unverified() => {
            find(ReasonKind::Unverified, "no probe ended within the start's grace".to_owned());
        }
        Health::Unknown | Health::Up => {}
    }
    if !serving && (facts.health.awaits_first_success() || facts.health.health() == Health::Unknown) {
        let cause = match error {
            Some(error) => format!("no probe has succeeded yet; the last one: {error}"),
            None => "no probe has ended yet".to_owned(),
        };
        find(ReasonKind::NotYetProbed, cause);
    }
    if let Err(why) = facts.hop {
        find(ReasonKind::NoNextHop, why.to_owned());
    }
    let in_rotation = serving && facts.hop.is_ok() && !on_leave;
    let unshed = if in_rotation { u32::from(facts.configured.get()) * UNIT } else { 0 };
    let mut effective = unshed;
    if let Some((percent, why)) = facts.advised {
        let kind = if percent == 0 { ReasonKind::AgentDown } else { ReasonKind::Advised };
        findings.push(Finding { kind, cause: why.to_owned(), terms: None });
        effective = scaled(unshed, percent.min(100), 100);
    }
    let unshed = effective;
    let (factor, why) = facts.factor;
    if factor < shed::FULL {
        let cause = format!("{factor}/16 of its weight: {why}");
        findings.push(Finding { kind: ReasonKind::MemoryShort, cause, terms: None });
        effective = scaled(unshed, factor.into(), shed::FULL.into());
    }
    Weighed { unshed, effective, findings }
}

impl Weighed {
    /// Whether its own facts allow new flows.
    pub fn can_serve(&self) -> bool {
        self.unshed > 0
    }

    /// A backup while primaries serve.
    pub fn stand_by(&mut self) {
        (self.unshed, self.effective) = (0, 0);
        self.find(ReasonKind::Backup, "it takes new flows only while no primary member can".to_owned());
    }

    /// Nobody can serve: its configured weight, whatever stands against it.
    pub fn let_in(&mut self, configured: NonZeroU16) {
        self.unshed = u32::from(configured.get()) * UNIT;
        self.effective = self.unshed;
        self.find(ReasonKind::Panic, "in rotation although it cannot serve, because no member can".to_owned());
    }

    /// So many sixteenths of its weight, because it came into rotation a short while ago.
    pub fn ramp(&mut self, level: u8, ramp: &Ramp) {
        (self.unshed, self.effective) =
            (scaled(self.unshed, level.into(), FULL.into()), scaled(self.effective, level.into(), FULL.into()));
        let seconds = ramp.length.as_secs();
        let cause = format!("{level}/{FULL} of its weight, all of it {seconds} s after it came into rotation");
        let terms = Terms { since: ramp.since, owner: None, review_at: ramp.since + ramp.length };
        self.findings.push(Finding { kind: ReasonKind::Ramping, cause, terms: Some(terms) });
    }

    /// Nothing, because its server has as many flows as it may.
    pub fn limit(&mut self, cause: String) {
        (self.unshed, self.effective) = (0, 0);
        self.find(ReasonKind::AtLimit, cause);
    }

    fn find(&mut self, kind: ReasonKind, cause: String) {
        self.findings.push(Finding { kind, cause, terms: None });
    }
}

/// A part of a weight: something, if there is something and a part of it.
fn scaled(weight: u32, part: u32, of: u32) -> u32 {
    if weight == 0 || part == 0 { 0 } else { (weight * part / of).max(1) }
}

/// Gives findings their history: a reason that stood before keeps its `since`.
pub fn with_history(
    findings: Vec<Finding>,
    before: &[Reason],
    owner: Option<&str>,
    expected_out: Duration,
    now: Time,
) -> Vec<Reason> {
    let reason = |Finding { kind, cause, terms }| {
        let since = before.iter().find(|r| r.kind == kind).map_or(now, |r| r.since);
        let owner = owner.map(str::to_owned);
        match terms {
            None => {
                // What is full passes as flows end, and is told of by an alert of its own.
                let slow = kind.is_partial() || kind == ReasonKind::AtLimit;
                let term = if slow { expected_out.max(PARTIAL) } else { expected_out };
                let review_at = (!kind.is_standby()).then(|| since + term);
                Reason { kind, since, cause, owner, review_at }
            }
            Some(t) => {
                let (owner, review_at) = (t.owner.or(owner), Some(t.review_at));
                Reason { kind, since: t.since, cause, owner, review_at }
            }
        }
    };
    findings.into_iter().map(reason).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::health::Origin;
    use super::*;

    const START: Time = Time { boot_ms: 0, wall_ms: 0 };

    proptest! {
        #[test]
        fn weigh_any_facts_below_the_configured_weight_have_a_reason(
            configured in 1u16..,
            origin in 0usize..5,
            results in proptest::collection::vec(any::<bool>(), 0..8),
            grace: bool,
            held: bool,
            hop: bool,
            returning: bool,
            factor in 4u8..=16,
            advised in proptest::option::of(0u32..100),
            place in 0u8..5,
            level in 1u8..FULL,
        ) {
            let origins = [
                Origin::Unprobed,
                Origin::Cold,
                Origin::Added,
                Origin::Adopted { serving: true },
                Origin::Adopted { serving: false },
            ];
            let mut health = Tracker::new(origins[origin]);
            if grace {
                health.grace_over();
            }
            for ok in results {
                health.record(if ok { Ok(()) } else { Err("no".into()) }, Duration::ZERO, 2, 2, START);
            }
            let hop = if hop { Ok(()) } else { Err("silent") };
            let configured = NonZeroU16::new(configured).unwrap();
            let facts = Facts {
                configured,
                health: &health,
                held,
                hop,
                leases: &[],
                returning: returning.then_some(START),
                verdict_within: Duration::from_secs(3),
                factor: (factor, "its memory is tight"),
                advised: advised.map(|percent| (percent, "its agent says so")),
            };
            let mut weighed = weigh(facts);
            let full = u32::from(configured.get()) * UNIT;
            prop_assert!(weighed.unshed == 0 || weighed.unshed == full || advised.is_some());
            prop_assert!((hop.is_ok() && !returning) || weighed.effective == 0);
            let alone = weighed.clone();
            match place {
                0 => weighed.stand_by(),
                1 => weighed.let_in(configured),
                2 => weighed.ramp(level, &Ramp { since: START, length: Duration::from_secs(30) }),
                3 => weighed.limit("full".to_owned()),
                _ => {}
            }
            let Weighed { unshed, effective, findings } = weighed;
            prop_assert!(effective <= unshed && unshed <= full);
            prop_assert_eq!(effective == 0, unshed == 0);
            prop_assert!(effective == full || !findings.is_empty());
            prop_assert!(findings.starts_with(&alone.findings), "what stands against it is not forgotten");
            match place {
                0 | 3 => prop_assert_eq!(effective, 0),
                1 => prop_assert_eq!(effective, full),
                2 => prop_assert!(effective <= alone.effective && (effective > 0) == alone.can_serve()),
                _ => {}
            }
        }
    }

    #[test]
    fn reason_that_persists_keeps_since_and_takes_the_new_cause() {
        let finding = |cause: &str| vec![Finding { kind: ReasonKind::ProbeFailed, cause: cause.into(), terms: None }];
        let out = Duration::from_secs(600);
        let first = with_history(finding("refused"), &[], Some("ops"), out, START);
        let later = with_history(finding("timeout"), &first, Some("ops"), out, START + out);
        assert_eq!((later[0].since, later[0].cause.as_str()), (START, "timeout"));
        assert_eq!(later[0].review_at, Some(START + out));
        let again = with_history(finding("refused"), &[], None, out, START + out);
        assert_eq!(again[0].since, START + out);
    }
}
