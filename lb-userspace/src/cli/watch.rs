//! `rollcall watch`: the dead man's timer. Runs beside the daemon, once a minute, and raises the alarm if that is gone:
//! whatever the daemon itself would tell, it tells by its own alerts.

use std::process::ExitCode;

use super::output::say;
use super::{Context, Outcome, check, plain};
use crate::control::schema::{CheckReport, CheckState};
use crate::daemon::absence::{self, Told};

pub(super) const HELP: &str = "\
Meant for rollcall-watch.timer, once a minute, as root. Says nothing and exits 0 while the daemon answers, whatever the \
state of the backends: the daemon tells of those itself. Else it tells by the alert routes of the configuration (if that is \
wrong by now, of what ran last), in their steps, once and not each minute, until it is over; `rollcall alert list` and \
`rollcall alert ack` know of it. Whatever becomes of that, it writes a line to standard error with the severity that \
journald reads (<2> critical, <4> warning) and exits 2, or 3 if it cannot tell, so that the unit is listed by \
`systemctl --failed` and its OnFailure= runs.";

pub(super) async fn run(context: &Context) -> Outcome {
    let report = check::report(context).await;
    let concern = concern(&report);
    if let Some(state) = concern {
        // First: it must be said, whatever becomes of the rest.
        say(&line(state, &report));
    }
    let told = match concern {
        // It may well be there.
        Some(CheckState::Unknown) => Told::default(),
        Some(_) => absence::look(&context.config, Some(&plain::line(&report.verdict))).await,
        None => absence::look(&context.config, None).await,
    };
    say(&deliveries(&told));
    Ok(concern.map_or(ExitCode::SUCCESS, |state| ExitCode::from(state.exit_code())))
}

/// Whom the alert routes reached, and what stood in the way; empty where nobody was to be told.
fn deliveries(told: &Told) -> String {
    let taken = (!told.taken.is_empty()).then(|| format!("<6>told by {}\n", told.taken.join(", ")));
    let failed = told.failed.iter().map(|why| format!("<3>alert routes: {}\n", plain::line(why)));
    taken.into_iter().chain(failed).collect()
}

/// How bad it is that the daemon does not answer; `None` if it does.
fn concern(report: &CheckReport) -> Option<CheckState> {
    let down = |report: &CheckReport| report.findings.iter().any(|f| f.text.starts_with(crate::control::verdict::DOWN));
    match report.state {
        CheckState::Unknown => Some(CheckState::Unknown),
        // Without figures nobody gave a roll call: neither the daemon nor what it left.
        CheckState::Critical if report.figures.is_none() || down(report) => Some(CheckState::Critical),
        _ => None,
    }
}

/// The floor: one line, from which the unit's `OnFailure=` goes on.
fn line(state: CheckState, report: &CheckReport) -> String {
    let severity = if state == CheckState::Critical { 2 } else { 4 };
    format!("<{severity}>{}\n", check::line(report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::daemon::{ControlError, ErrorCode, Frozen};
    use crate::control::schema::Status;
    use crate::control::testing;

    fn status() -> Status {
        Status::new(&testing::view(), &testing::counters())
    }

    #[test]
    fn deliveries_name_who_was_told_and_what_failed_each_with_its_severity() {
        let told =
            Told { taken: vec!["log".into(), "page".into()], failed: vec!["hook did not take it: no\nanswer".into()] };
        assert_eq!(deliveries(&told), "<6>told by log, page\n<3>alert routes: hook did not take it: no; answer\n");
        assert_eq!(deliveries(&Told::default()), "");
    }

    #[test]
    fn concern_is_the_daemon_alone_and_not_who_is_out() {
        let mut critical = status();
        critical.services[0].in_rotation = 0;
        let report = check::of_status(&critical);
        assert_eq!((report.state, concern(&report)), (CheckState::Critical, None));

        let mut view = testing::view();
        view.frozen = Some(Frozen { since: None });
        let report = check::of_status(&Status::new(&view, &testing::counters()));
        assert_eq!(concern(&report), Some(CheckState::Critical));
        let line = line(CheckState::Critical, &report);
        assert!(line.starts_with("<2>ROLLCALL CRITICAL - DAEMON DOWN; leases and health frozen; "), "{line}");

        let silent = check::of_error(&ControlError::new(ErrorCode::Unavailable, "no answer"));
        assert_eq!(concern(&silent), Some(CheckState::Critical));
        let denied = check::of_error(&ControlError::new(ErrorCode::Permission, "no"));
        assert_eq!(concern(&denied), Some(CheckState::Unknown));
    }
}
