//! The capacity guard at work: what it is asked before a change, over the life of a lease, and about the loss of any one
//! server (N-1).
//!
//! [`super::guard`] answers; this gives it the pools as they are, and draws the consequences. Both are done when flows were
//! counted, and when somebody asks, not with each input.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::Core;
use super::api::{EventKind, MemberName, NMinusOne, Outgrown, Scope, Time};
use super::guard::{self, Assessment, Change, Finding, Pool, Verdict, assess_together, worst_losses};
use super::headroom::Monitor;
use super::lease::Refusal;
use super::memory::thresholds::Thresholds;
use super::memory::tracker::{Memory, Tracker};
use super::reason::{ReasonKind, is_standby};
use super::watched::Watched;
use super::weight::UNIT;
use crate::config::model::{BackendName, Config, Service, ServiceName};

/// N-1 must not be met for so long before people are told, and met for so long before that is over, ms.
const HOLD_MS: u64 = 2 * 60_000;
/// Servers that words about a change name.
const NAMED: usize = 3;

/// What whoever asks for a change has made up their mind about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// They have seen what cannot be told, or that a single server is left.
    #[serde(default)]
    pub sure: bool,
    /// Why it is to be done although the guard refuses it.
    #[serde(default)]
    pub override_guard: Option<String>,
}

impl Consent {
    /// To what is doubtful, not to what is refused.
    pub fn sure() -> Self {
        Self { sure: true, override_guard: None }
    }
}

/// What is known of a service's capacity.
#[derive(Debug)]
pub struct Capacity {
    /// N-1.
    n_minus_1: NMinusOne,
    /// Since when the verdict has been against the alarm's state, CLOCK_BOOTTIME ms.
    turned_ms: Option<u64>,
    /// The lease that the others cannot carry.
    outgrown: Option<Outgrown>,
}

impl Core {
    /// Whether a server may leave (`weight`: none), or get another configured weight, in the services that the scope is in.
    /// Returns what was overridden, in words.
    pub fn check_edit(
        &self,
        scope: &Scope,
        weight: Option<NonZeroU16>,
        consent: &Consent,
    ) -> Result<Option<String>, Refusal> {
        let change = |name: &MemberName| {
            let Some(weight) = weight else { return Some(Change::Out(&scope.backend)) };
            let member = self.members.get(name)?;
            let scaled = u64::from(member.effective) * u64::from(weight.get()) / u64::from(member.weight.get());
            let least = u64::from(member.effective > 0);
            Some(Change::Weight(&scope.backend, u32::try_from(scaled.max(least)).unwrap_or(u32::MAX)))
        };
        self.check_change(scope, change, consent)
    }

    /// As [`Core::check_edit`], for a change of what is effective.
    pub(super) fn check_change<'a>(
        &'a self,
        scope: &Scope,
        change: impl Fn(&MemberName) -> Option<Change<'a>>,
        consent: &Consent,
    ) -> Result<Option<String>, Refusal> {
        let Some(config) = &self.config else { return Ok(None) };
        let mut pools = self.pools(config);
        let changes: Vec<(usize, Change<'_>)> = (config.services.iter().enumerate())
            .filter_map(|(place, service)| {
                let member = service.members.iter().find(|m| scope.covers(&MemberName::of(service, m)))?;
                Some((place, change(&MemberName::of(service, member))?))
            })
            .collect();
        let answers = assess_together(&mut pools, &changes);
        let (mut refusals, mut doubts, mut too_few) = (Vec::new(), Vec::new(), false);
        for ((place, _), answer) in changes.iter().zip(&answers) {
            let service = &config.services[*place].name;
            for finding in &answer.findings {
                match finding {
                    Finding::BelowMinimum { .. } => {
                        too_few = true;
                        refusals.push(format!("service {service}: {finding}"));
                    }
                    Finding::LeavesNone | Finding::LeavesSingle { .. } => {
                        doubts.push(format!("service {service}: {finding}"));
                    }
                }
            }
            match (answer.answer.verdict(), in_words(answer)) {
                // Without evidence nobody is left, which is a finding.
                (Verdict::Fits, _) | (_, None) => {}
                (Verdict::DoesNotFit, Some(words)) => refusals.push(format!("service {service}: {words}")),
                (Verdict::CannotTell, Some(words)) => {
                    doubts.push(format!("service {service}: whether the others can carry it cannot be told: {words}"));
                }
            }
        }
        match (&consent.override_guard, refusals.is_empty()) {
            (Some(why), false) => Ok(Some(format!("{why}; against it: {}", refusals.join("; ")))),
            (None, false) if too_few => Err(Refusal::TooFew(refusals.join("; "))),
            (None, false) => Err(Refusal::DoesNotFit(refusals.join("; "))),
            (_, true) if doubts.is_empty() || consent.sure || consent.override_guard.is_some() => Ok(None),
            (_, true) => Err(Refusal::Unconfirmed(doubts.join("; "))),
        }
    }

    /// After a count: N-1 of each service, and whether what leases leave still carries it.
    pub(super) fn run_guard(&mut self) {
        let Some(config) = self.config.clone().filter(|_| self.configured) else { return };
        let (losses, left): (Vec<_>, Vec<_>) = {
            let mut pools = self.pools(&config);
            let left = pools.iter().map(|pool| guard::assess(pool, Change::Nothing)).collect();
            let losses = worst_losses(&mut pools);
            (losses.into_iter().map(|loss| loss.map(|(who, a)| (who.clone(), a))).collect(), left)
        };
        self.capacity.retain(|name, _| config.services.iter().any(|s| s.name == *name));
        for ((service, loss), left) in config.services.iter().zip(losses).zip(left) {
            self.judge_loss(&service.name, loss);
            self.judge_leases(service, &left);
        }
    }

    /// Follows whether a service could lose any one server; told of when it has been so, or not so, for two minutes.
    fn judge_loss(&mut self, service: &ServiceName, loss: Option<(BackendName, Assessment)>) {
        let now = self.now;
        let (lost, verdict, evidence) = match loss {
            None => (None, Verdict::DoesNotFit, "nobody is in rotation".to_owned()),
            Some((lost, assessment)) => {
                let words = in_words(&assessment).unwrap_or_else(|| Finding::LeavesNone.to_string());
                let (verdict, evidence) = (assessment.answer.verdict(), format!("if {lost} is lost, {words}"));
                (Some(lost), verdict, evidence)
            }
        };
        let state = self.capacity.entry(service.clone()).or_insert_with(|| Capacity {
            n_minus_1: NMinusOne { verdict, lost: None, evidence: String::new(), since: now, alarm: None },
            turned_ms: None,
            outgrown: None,
        });
        let n_minus_1 = &mut state.n_minus_1;
        if n_minus_1.verdict != verdict {
            n_minus_1.since = now;
        }
        (n_minus_1.verdict, n_minus_1.lost, n_minus_1.evidence) = (verdict, lost, evidence);
        if (verdict == Verdict::DoesNotFit) == n_minus_1.alarm.is_some() {
            state.turned_ms = None;
            return;
        }
        let turned_ms = *state.turned_ms.get_or_insert(now.boot_ms);
        if now.boot_ms.saturating_sub(turned_ms) < HOLD_MS {
            return;
        }
        state.turned_ms = None;
        let (kind, cause) = match n_minus_1.alarm.take() {
            Some(_) => (EventKind::NMinusOneMet, n_minus_1.evidence.clone()),
            None => {
                n_minus_1.alarm = Some(now);
                (EventKind::NMinusOneUnmet, n_minus_1.evidence.clone())
            }
        };
        self.event_in(service, kind, cause);
    }

    /// A drain under which the others no longer carry what there is ends before its time; of a maintenance people are told.
    fn judge_leases(&mut self, service: &Service, left: &Assessment) {
        let keeps = |scope: &Scope| service.members.iter().any(|m| scope.covers(&MemberName::of(service, m)));
        let lease = self.leases.values().find(|l| keeps(&l.scope));
        let Some(lease) = lease.filter(|_| left.answer.verdict() == Verdict::DoesNotFit) else {
            if let Some(capacity) = self.capacity.get_mut(&service.name) {
                capacity.outgrown = None;
            }
            return;
        };
        // One at a time: whoever was called back must first show what it relieves.
        let Some(words) = in_words(left).filter(|_| !self.is_awaiting(service)) else { return };
        let words = format!("service {}: {words}", service.name);
        if let Some(scope) = self.recallable(service, true) {
            return self.recall(&scope, words);
        }
        let (now, scope) = (self.now, lease.scope.clone());
        let cause = self.not_called_back(lease, &words);
        let Some(capacity) = self.capacity.get_mut(&service.name) else { return };
        match &mut capacity.outgrown {
            Some(outgrown) => outgrown.evidence = words,
            None => {
                capacity.outgrown = Some(Outgrown { since: now, evidence: words, scope: scope.clone() });
                self.event_of(&scope, EventKind::Outgrown, cause);
            }
        }
    }

    /// All services as the guard sees them, in the configuration's order.
    fn pools<'a>(&'a self, config: &'a Config) -> Vec<Pool<'a>> {
        let flows: Vec<Vec<Option<u64>>> = (config.services.iter())
            .map(|s| s.members.iter().map(|m| self.loads.active(&MemberName::of(s, m), self.now)).collect())
            .collect();
        let mut sums = BTreeMap::<&BackendName, Option<u64>>::new();
        for (service, flows) in config.services.iter().zip(&flows) {
            for (member, flows) in service.members.iter().zip(flows) {
                let sum = sums.entry(&member.backend).or_insert(Some(0));
                *sum = sum.zip(*flows).map(|(sum, flows)| sum.saturating_add(flows));
            }
        }
        let pool = |(service, flows): (&'a Service, &Vec<Option<u64>>)| {
            let members = service.members.iter().zip(flows).map(|(member, flows)| {
                let sum = sums.get(&member.backend).copied().flatten();
                let elsewhere = sum.zip(*flows).map_or(0, |(sum, own)| sum.saturating_sub(own));
                let tracker = self.monitors.get(&member.backend).map(Monitor::tracker);
                let carrier = self.loads.server(&member.backend);
                let watched = self.members.get(&MemberName::of(service, member));
                let stands_by =
                    watched.is_some_and(|w| w.effective == 0 && is_standby(w.reasons.iter().map(|r| r.kind)));
                let full_weight = u32::from(member.weight.get()) * UNIT;
                guard::Member {
                    backend: &member.backend,
                    // Who is out for its limit alone serves, as far as capacity goes: its flows do not leave it.
                    weight: watched.map_or(0, |w| if is_full(w) { full_weight } else { w.effective }),
                    reserve: if stands_by { full_weight } else { 0 },
                    // What it has elsewhere counts, too: without that, nothing is known.
                    flows: flows.filter(|_| sum.is_some()),
                    elsewhere: (elsewhere, elsewhere),
                    max_flows: config.backends.get(&member.backend).and_then(|b| b.max_flows).map(u64::from),
                    memory: tracker.map_or(&Memory::NotMonitored, Tracker::memory),
                    headroom: tracker.and_then(Tracker::headroom),
                    thresholds: tracker.map_or_else(Thresholds::default, Tracker::thresholds),
                    carried: carrier.and_then(|c| c.peak.best(self.now)),
                    line: carrier.and_then(|c| c.line),
                }
            });
            Pool { members: members.collect(), min_in_rotation: service.min_in_rotation as usize }
        };
        config.services.iter().zip(&flows).map(pool).collect()
    }

    /// What is known of a service's capacity, its times as people see them at `now`.
    pub(super) fn capacity_of(&self, service: &ServiceName, now: Time) -> (Option<NMinusOne>, Option<Outgrown>) {
        let Some(capacity) = self.capacity.get(service) else { return (None, None) };
        let n = &capacity.n_minus_1;
        let n_minus_1 =
            NMinusOne { since: n.since.seen_at(now), alarm: n.alarm.map(|at| at.seen_at(now)), ..n.clone() };
        let outgrown = capacity.outgrown.as_ref().map(|o| Outgrown { since: o.since.seen_at(now), ..o.clone() });
        (Some(n_minus_1), outgrown)
    }
}

/// Whether a member gets nothing for no other reason than that it has as many flows as it may.
fn is_full(member: &Watched) -> bool {
    member.effective == 0 && !member.reasons.is_empty() && member.reasons.iter().all(|r| r.kind == ReasonKind::AtLimit)
}

/// The evidence for the verdict, the worst first; `None` if there is none.
fn in_words(assessment: &Assessment) -> Option<String> {
    let verdict = assessment.answer.verdict();
    let evidence: Vec<_> = assessment.answer.evidence().iter().filter(|e| e.verdict == verdict).collect();
    let named: Vec<String> = evidence.iter().take(NAMED).map(ToString::to_string).collect();
    let more = evidence.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| named.join("; ") + &more)
}
