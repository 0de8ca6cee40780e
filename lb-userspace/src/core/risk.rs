//! Accepted risks: somebody has decided that a service may live without N-1, for a time and with a reason.
//!
//! Nothing else changes by it: the alarm is silent, and comes back when the time is over. By the service's name: a risk
//! survives that the service is removed and added again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Core;
use super::api::{Event, EventKind, Output, Store, Time, millis};
use super::lease::{Carried, Mark, Owner, Refusal, carry_over};
use crate::config::model::ServiceName;

/// The longest that a risk may be accepted for.
pub const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);
/// The shortest.
const SHORTEST: Duration = Duration::from_secs(1);

/// A service that may be without N-1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// Which; `None`: every service.
    pub service: Option<ServiceName>,
    /// Who answers for it.
    pub owner: Owner,
    /// Why, in their words.
    pub reason: String,
    /// Since when.
    pub begun: Time,
    /// When it ends. In the boot that it names, `boot_ms` decides; after a reboot the wall clock does.
    pub ends: Time,
    /// From beginning to end, ms.
    pub granted_ms: u64,
    /// The boot whose CLOCK_BOOTTIME `begun` and `ends` are by.
    pub boot_id: String,
}

impl Risk {
    /// Whether it is about this service.
    pub fn covers(&self, service: &ServiceName) -> bool {
        self.service.as_ref().is_none_or(|own| own == service)
    }

    /// With its end as people see it at `now`.
    #[must_use]
    pub fn seen_at(&self, now: Time) -> Self {
        Self { ends: self.ends.seen_at(now), ..self.clone() }
    }

    /// Carries a risk of an earlier boot over into this one, as leases are.
    pub fn carry_over(&mut self, mark: Option<&Mark>, boot_id: &str, now: Time) -> Carried {
        carry_over(&mut self.begun, &mut self.ends, self.granted_ms, &mut self.boot_id, mark, boot_id, now)
    }

    /// What it is on, in words.
    pub fn place(&self) -> String {
        self.service.as_ref().map_or_else(|| "all services".to_owned(), |service| format!("service {service}"))
    }
}

impl Core {
    /// A risk that may be accepted, in place of what is there for this service.
    pub fn acceptable(
        &self,
        service: Option<ServiceName>,
        length: Duration,
        owner: Owner,
        reason: String,
        boot_id: &str,
        now: Time,
    ) -> Result<Risk, Refusal> {
        if let Some(service) = &service {
            let config = self.config.iter().flat_map(|c| &c.services);
            if !config.clone().any(|s| s.name == *service) {
                let names: Vec<&str> = config.map(|s| s.name.as_str()).collect();
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Refusal::NotFound(format!("there is no service {service}; there are: {names}")));
            }
        }
        if reason.trim().is_empty() {
            return Err(Refusal::Bounds("an accepted risk needs a reason".to_owned()));
        }
        if !(SHORTEST..=LONGEST).contains(&length) {
            let days = LONGEST.as_secs() / 86_400;
            return Err(Refusal::Bounds(format!(
                "a risk is accepted for 1 s to {days} d; accept it again when that is over, if it still stands"
            )));
        }
        let (ends, granted_ms, boot_id) = (now + length, millis(length), boot_id.to_owned());
        Ok(Risk { service, owner, reason, begun: now, ends, granted_ms, boot_id })
    }

    /// Whether there is such a risk to withdraw.
    pub fn check_withdraw(&self, service: Option<&ServiceName>) -> Result<&Risk, Refusal> {
        let key = service.cloned();
        self.risks.get(&key).ok_or_else(|| {
            let others: Vec<String> = self.risks.values().map(Risk::place).collect();
            let others = if others.is_empty() { "none at all".to_owned() } else { others.join(", ") };
            let place = key.map_or_else(|| "all services".to_owned(), |service| format!("service {service}"));
            Refusal::NotFound(format!("no risk is accepted for {place}; there is: {others}"))
        })
    }

    /// Takes risks that an earlier daemon had, already carried over into this boot.
    pub(super) fn take_risks(&mut self, risks: Vec<Risk>) {
        self.risks = risks.into_iter().map(|risk| (risk.service.clone(), risk)).collect();
    }

    /// Takes a risk that is stored already.
    pub(super) fn accept(&mut self, risk: Risk) {
        let days = risk.granted_ms / 86_400_000;
        let length = if days > 0 { format!("{days} d") } else { format!("{} min", risk.granted_ms / 60_000) };
        let by = risk.owner.in_words();
        let cause = format!("{} without N-1 by {by} for {length}: {}", risk.place(), risk.reason);
        self.risk_event(&risk, EventKind::RiskAccepted, Some(by), cause);
        self.risks.insert(risk.service.clone(), risk);
    }

    /// Ends a risk before its time.
    pub(super) fn withdraw(&mut self, service: &Option<ServiceName>, by: String) {
        let cause = format!("by {by}");
        self.end_risk(service, EventKind::RiskWithdrawn, Some(by), cause);
    }

    /// Ends risks whose time is over.
    pub(super) fn run_risks(&mut self) {
        let now_ms = self.now.boot_ms;
        let over: Vec<_> =
            self.risks.values().filter(|r| r.ends.boot_ms <= now_ms).map(|r| r.service.clone()).collect();
        for service in over {
            self.end_risk(&service, EventKind::RiskEnded, None, "its time is over".to_owned());
        }
    }

    /// When the next ends, CLOCK_BOOTTIME ms.
    pub(super) fn next_risk(&self) -> Option<u64> {
        self.risks.values().map(|r| r.ends.boot_ms).min()
    }

    fn end_risk(&mut self, service: &Option<ServiceName>, kind: EventKind, by: Option<String>, why: String) {
        let Some(risk) = self.risks.remove(service) else { return };
        self.outputs.push_back(Output::Store(Store::DropRisk(service.clone())));
        let cause = format!("{}, accepted by {} ({}): {why}", risk.place(), risk.owner.name, risk.reason);
        self.risk_event(&risk, kind, by, cause);
    }

    fn risk_event(&mut self, risk: &Risk, kind: EventKind, by: Option<String>, cause: String) {
        let event = Event { time: self.now, backend: None, service: risk.service.clone(), kind, by, cause };
        self.outputs.push_back(Output::Event(event));
    }
}
