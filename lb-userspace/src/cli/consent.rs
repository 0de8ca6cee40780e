//! `--yes` and `--override-guard`: what whoever asks for a change has made up their mind about, and the question on the
//! terminal where they have not.

use std::io::IsTerminal;

use super::output;
use crate::control::daemon::{ControlError, ErrorCode};
use crate::core::capacity::Consent;

/// Of a verb that the capacity guard is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do it although it leaves a single server, nobody can tell whether the others carry it, or it takes the place of
    /// somebody else's lease; without, that is asked.
    #[arg(long)]
    yes: bool,
    /// In an emergency: do it although the others cannot carry it, or too few are left. Why, for the journal.
    #[arg(long, value_name = "REASON")]
    override_guard: Option<String>,
}

impl Args {
    /// As the daemon takes it.
    pub(super) fn checked(self) -> Result<Consent, ControlError> {
        let Self { yes, override_guard } = self;
        if override_guard.as_ref().is_some_and(|why| why.trim().is_empty()) {
            return Err(ControlError::new(ErrorCode::Usage, "--override-guard needs a reason: it is journalled"));
        }
        Ok(Consent { sure: yes, override_guard })
    }
}

/// Asks the daemon. Where it wants a second word, `what` is asked about on the terminal, if there is one.
pub(super) async fn ask<T>(
    args: Args,
    what: &str,
    request: impl AsyncFn(Consent) -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    let consent = args.checked()?;
    match request(consent.clone()).await {
        Err(e) if e.code == ErrorCode::Unconfirmed && std::io::stdin().is_terminal() => {
            confirm(&e, what)?;
            request(Consent { sure: true, ..consent }).await
        }
        done => done,
    }
}

/// Asks whether `what` is wanted all the same.
pub(super) fn confirm(evidence: &ControlError, what: &str) -> Result<(), ControlError> {
    output::confirm(&format!("{}. {what} all the same?", evidence.message), evidence.code)
}
