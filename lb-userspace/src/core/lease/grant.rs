//! Whether a lease may be granted, and the lease itself.

use std::time::Duration;

use super::{LONGEST, Lease, LeaseKind, Owner, SHORTEST};
use crate::config::model::BackendName;
use crate::core::Core;
use crate::core::api::{Scope, Time, millis};
use crate::core::capacity::Consent;
use crate::core::guard::Change;

/// What someone asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What to take out.
    pub scope: Scope,
    /// What becomes of its flows.
    pub kind: LeaseKind,
    /// For how long.
    pub length: Duration,
    /// Who asks.
    pub owner: Owner,
    /// Why.
    pub reason: String,
    /// Whether it may be called back.
    pub recallable: bool,
    /// Which of what stands against it was seen and accepted.
    pub consent: Consent,
    /// Whether it may take the place of a lease that somebody else holds.
    pub replace: bool,
}

/// Why a lease is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such server, or it is not in that service.
    NotFound(String),
    /// A bound is not kept; says which, and what would be allowed.
    Bounds(String),
    /// There is no such lease.
    NoLease(String),
    /// Too few would remain; the evidence.
    TooFew(String),
    /// The others cannot carry it; the evidence.
    DoesNotFit(String),
    /// It needs a second word from who asks; the evidence.
    Unconfirmed(String),
    /// Somebody else holds a lease there; whose, why and until when.
    Held(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NotFound(why)
        | Self::Bounds(why)
        | Self::NoLease(why)
        | Self::TooFew(why)
        | Self::DoesNotFit(why)
        | Self::Unconfirmed(why)
        | Self::Held(why)) = self;
        f.write_str(why)
    }
}

impl Core {
    /// A new lease, or one in place of what is there for this scope.
    pub fn grant(&self, asked: Asked, boot_id: &str, now: Time) -> Result<Lease, Refusal> {
        let Asked { scope, kind, length, owner, reason, recallable, consent, replace } = asked;
        self.check_scope(&scope)?;
        if reason.trim().is_empty() {
            return Err(Refusal::Bounds("a lease needs a reason".to_owned()));
        }
        check_length(length, length)?;
        let other = self.leases.get(&scope).filter(|held| held.owner.name != owner.name);
        if let Some(held) = other.filter(|_| !replace) {
            let minutes = held.left(now).as_secs().div_ceil(60);
            let what = held.in_words();
            return Err(Refusal::Held(format!(
                "{scope}: {what} holds for {minutes} min more; this would take its place"
            )));
        }
        let overrode = self.check_change(&scope, |_| Some(Change::Out(&scope.backend)), &consent)?;
        // What was overridden would call it back at once.
        let recallable = recallable && overrode.is_none();
        let (ends, granted_ms, boot_id) = (now + length, millis(length), boot_id.to_owned());
        Ok(Lease { scope, kind, owner, reason, begun: now, ends, granted_ms, boot_id, recallable, overrode })
    }

    /// The lease of this scope, to end `more` later than it does.
    pub fn extended(&self, scope: &Scope, more: Duration) -> Result<Lease, Refusal> {
        let lease = self.leases.get(scope).ok_or_else(|| self.no_lease(scope))?;
        check_length(more, Duration::from_millis(lease.granted_ms) + more)?;
        let granted_ms = lease.granted_ms.saturating_add(millis(more));
        Ok(Lease { ends: lease.ends + more, granted_ms, ..lease.clone() })
    }

    /// Whether there is a lease to end; the error lists those that the server has.
    pub fn check_restore(&self, scope: &Scope) -> Result<&Lease, Refusal> {
        self.leases.get(scope).ok_or_else(|| self.no_lease(scope))
    }

    fn no_lease(&self, scope: &Scope) -> Refusal {
        let others: Vec<String> = (self.leases.keys().filter(|other| other.backend == scope.backend))
            .map(|other| match &other.service {
                Some(service) => format!("--service {service}"),
                None => "all services (without --service)".to_owned(),
            })
            .collect();
        let others = if others.is_empty() {
            "it has none at all".to_owned()
        } else {
            format!("it has one for {}", others.join(" and for "))
        };
        Refusal::NoLease(format!("{scope} has no lease; {others}"))
    }

    fn check_scope(&self, scope: &Scope) -> Result<(), Refusal> {
        let Some(config) = &self.config else { return Err(Refusal::NotFound("nothing is configured yet".to_owned())) };
        if !config.backends.contains_key(&scope.backend) {
            let names: Vec<&str> = config.backends.keys().map(BackendName::as_str).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Refusal::NotFound(format!("there is no backend {}; there are: {names}", scope.backend)));
        }
        let Some(service) = &scope.service else { return Ok(()) };
        let Some(found) = config.services.iter().find(|s| s.name == *service) else {
            let names: Vec<&str> = config.services.iter().map(|s| s.name.as_str()).collect();
            return Err(Refusal::NotFound(format!("there is no service {service}; there are: {}", names.join(", "))));
        };
        if found.members.iter().any(|m| m.backend == scope.backend) {
            Ok(())
        } else {
            Err(Refusal::NotFound(format!("backend {} is not a member of service {service}", scope.backend)))
        }
    }
}

fn check_length(asked: Duration, total: Duration) -> Result<(), Refusal> {
    if asked < SHORTEST {
        return Err(Refusal::Bounds(format!("a lease lasts at least {} s", SHORTEST.as_secs())));
    }
    if total > LONGEST {
        return Err(Refusal::Bounds(format!(
            "a lease lasts at most {} h, extensions included; this one would last {} h {} min. What is out for longer \
             belongs out of the configuration: `rollcall backend remove NAME --decommission`",
            LONGEST.as_secs() / 3600,
            total.as_secs() / 3600,
            total.as_secs() / 60 % 60
        )));
    }
    Ok(())
}
