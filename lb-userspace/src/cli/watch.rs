//! `rollcall watch`: the dead man's timer. Runs beside the daemon, once a minute, and raises the alarm if that is gone:
//! whatever the daemon itself would tell, it tells by its own alerts.

use std::process::ExitCode;

use super::output::say;
use super::{Context, Outcome, check};
use crate::control::schema::{CheckReport, CheckState};

pub(super) const HELP: &str = "\
Meant for rollcall-watch.timer, once a minute; it keeps nothing from one run to the next. Says nothing and exits 0 while the \
daemon answers, whatever the state of the backends: the daemon tells of those itself. Else writes one line to standard \
error with the severity that journald reads (<2> critical, <4> warning) and exits 2, or 3 if it cannot tell, so that the \
unit is listed by `systemctl --failed` and its OnFailure= runs.";

pub(super) async fn run(context: &Context) -> Outcome {
    let report = check::report(context).await;
    let Some(state) = concern(&report) else { return Ok(ExitCode::SUCCESS) };
    alert(state, &report);
    Ok(ExitCode::from(state.exit_code()))
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

/// Tells people: one line, from which the unit's `OnFailure=` goes on. Alert routes are the daemon's, and it is gone.
fn alert(state: CheckState, report: &CheckReport) {
    say(&line(state, report));
}

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
