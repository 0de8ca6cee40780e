//! Leases, removals and accepted risks, as people ask for them: stored first, then in force. What is refused changed nothing.

use std::time::Duration;

use tokio::task::block_in_place;

use super::actor::Actor;
use super::error::system;
use super::requests::SETTLE;
use super::{clock, record, who};
use crate::control::daemon::{self, ControlError, Duty, DutyOutcome, ErrorCode};
use crate::core::api::Input;
use crate::core::lease::{Asked, Lease, Refusal};
use crate::core::risk::Risk;

impl Actor {
    /// Carries out a request about leases or removals.
    pub(super) async fn duty(&mut self, duty: Duty, by: daemon::Actor) -> Result<DutyOutcome, ControlError> {
        let now = clock::now();
        self.input(Input::Tick);
        let mut risk = None;
        let (lease, mut changes) = match duty {
            Duty::Take { scope, kind, for_ms, reason, owner, recallable, consent, replace } => {
                let owner = who::owner(&by, owner.as_deref())?;
                let length = Duration::from_millis(for_ms);
                let by = owner.in_words();
                let asked = Asked { scope, kind, length, owner, reason, recallable, consent, replace };
                let lease = self.core.grant(asked, self.journal.boot_id(), now).map_err(refused)?;
                (Some(self.begin(lease, by)?), Vec::new())
            }
            Duty::Extend { scope, more_ms, owner } => {
                let by = who::owner(&by, owner.as_deref())?.in_words();
                let lease = self.core.extended(&scope, Duration::from_millis(more_ms)).map_err(refused)?;
                (Some(self.begin(lease, by)?), Vec::new())
            }
            Duty::Restore { scope, owner } => {
                let owner = who::owner(&by, owner.as_deref())?;
                let lease = self.core.check_restore(&scope).map_err(refused)?.clone();
                self.input(Input::Restore(scope, owner.in_words()));
                let over = format!("the {} of {} is over; it is probed now", lease.kind.name(), lease.scope);
                (None, vec![over])
            }
            Duty::Forget { scope, owner } => {
                let owner = who::owner(&by, owner.as_deref())?;
                let records = self.core.removed_of(&scope);
                if records.is_empty() {
                    return Err(ControlError::new(ErrorCode::NotFound, format!("{scope} is not among the removed"))
                        .with_hint("`rollcall status` lists them; a configured backend cannot be forgotten"));
                }
                self.input(Input::Forget(scope, owner.in_words()));
                (None, records.iter().map(|scope| format!("{scope} is no longer expected back")).collect())
            }
            Duty::AcceptRisk { service, for_ms, reason, owner } => {
                let (owner, length) = (who::owner(&by, owner.as_deref())?, Duration::from_millis(for_ms));
                let boot_id = self.journal.boot_id();
                let accepted = self.core.acceptable(service, length, owner, reason, boot_id, now).map_err(refused)?;
                risk = Some(self.accept(accepted)?);
                (None, Vec::new())
            }
            Duty::WithdrawRisk { service, owner } => {
                let owner = who::owner(&by, owner.as_deref())?;
                let place = self.core.check_withdraw(service.as_ref()).map_err(refused)?.place();
                self.input(Input::Withdraw(service, owner.in_words()));
                (None, vec![format!("{place}: to be without N-1 is no longer accepted")])
            }
        };
        if !self.settle(SETTLE).await {
            changes.push("not yet in the kernel, see the warnings of `rollcall status`; it is tried again".to_owned());
        }
        Ok(DutyOutcome { lease, risk, changes })
    }

    /// Stores a risk, then lets it be accepted.
    fn accept(&mut self, risk: Risk) -> Result<Risk, ControlError> {
        self.check_stored()?;
        block_in_place(|| if record::fails() { Err(record::full()) } else { self.journal.put_risk(&risk) })?;
        self.input(Input::Accept(Box::new(risk.clone())));
        Ok(risk)
    }

    /// Stores a lease that someone, by name, granted or extended; then lets it begin. One that cannot be stored is
    /// not granted: a restart would end it unseen.
    fn begin(&mut self, lease: Lease, by: String) -> Result<Lease, ControlError> {
        self.check_stored()?;
        block_in_place(|| if record::fails() { Err(record::full()) } else { self.journal.put_lease(&lease) })?;
        self.input(Input::Lease(Box::new(lease.clone()), by));
        Ok(lease)
    }

    /// What waits to be recorded may be the end of the same scope's last lease or risk: recorded later, it would end the
    /// new one.
    fn check_stored(&mut self) -> Result<(), ControlError> {
        self.store_rest();
        if self.has_unrecorded_duties() {
            return Err(system("ends of earlier leases or risks could not be recorded yet, so no new one can be")
                .with_hint("mend what `rollcall status` warns of, a full disk perhaps; then repeat"));
        }
        Ok(())
    }
}

/// Why a request is refused, and what to do.
pub(super) fn refused(refusal: Refusal) -> ControlError {
    let error = |code, text| ControlError::new(code, text);
    match refusal {
        Refusal::NotFound(what) => error(ErrorCode::NotFound, what),
        Refusal::NoLease(what) => {
            error(ErrorCode::NotFound, what).with_hint("`rollcall status` shows who is out and why")
        }
        Refusal::Bounds(what) => error(ErrorCode::Usage, what),
        Refusal::TooFew(what) => error(ErrorCode::Conflict, what)
            .with_hint(
            "bring another backend back first, or lower min_in_rotation in the configuration. In an emergency: \
             --override-guard 'why'",
        ),
        Refusal::DoesNotFit(what) => error(ErrorCode::Conflict, what).with_hint(
            "wait until there are fewer flows, or bring another backend back first; correct max_flows if it is too low. In \
             an emergency: --override-guard 'why'",
        ),
        Refusal::Unconfirmed(what) => {
            error(ErrorCode::Unconfirmed, what).with_hint("say --yes if that is what you want")
        }
        Refusal::Held(what) => error(ErrorCode::Held, what)
            .with_hint("ask its owner; say --yes to take its place, or `rollcall backend extend` to add time to it"),
    }
}
