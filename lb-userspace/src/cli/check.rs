//! `rollcall check`: the verdict for monitors, one line with performance data, and their exit codes.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::output::Format;
use super::{Context, Outcome, frozen, plain, status};
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::schema::{CheckReport, CheckState, Figures, Finding, Status};
use crate::control::verdict;

/// How long the daemon may take. Monitors give a plugin ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// Findings that follow the verdict on the line; JSON has all.
const SHOWN: usize = 3;

pub(super) const HELP: &str = "\
One line in the format of monitoring plugins (Nagios, Icinga, Zabbix): verdict, then `|` and performance data.

Exit codes:
  0   OK: every backend is in rotation
  1   WARNING: somebody is out and accounted for: a lease, or a reason that is not overdue; or a warning of `status`
  2   CRITICAL: a reason past its review, a removed backend that nobody forgot, a service without anybody in rotation, a
      suspected edge, a warning that does not mend itself, or the daemon is down
  3   UNKNOWN: it cannot be told, for example without permission for the socket

Example, as an Icinga check on the edge host:
  sudo -u nagios rollcall check          the user needs the group rollcall";

pub(super) async fn run(context: &Context) -> Outcome {
    let report = report(context).await;
    let code = ExitCode::from(report.state.exit_code());
    match context.output.format {
        Format::Table => context.output.print(&(line(&report) + "\n"))?,
        Format::Json => context.output.show_line(report)?,
    };
    Ok(code)
}

/// The verdict of now. What stands in the way of one is a verdict, too.
pub(super) async fn report(context: &Context) -> CheckReport {
    let asked = tokio::time::timeout(PATIENCE, context.client.get::<Status>("/v1/status")).await;
    let error = match asked.unwrap_or_else(|_| Err(late(context))) {
        Ok(status) => return of_status(&status),
        Err(e) => e,
    };
    match frozen::left(context, &error).await {
        Some(Ok(left)) => of_status(&Status::new(&left.view, &left.counters)),
        Some(Err(why)) => of_error(&ControlError { message: format!("{}; {why}", error.message), ..error }),
        None => of_error(&error),
    }
}

pub(super) fn of_status(status: &Status) -> CheckReport {
    let findings = verdict::findings(status);
    let (_, mut text) = status::first_line(status);
    let more: Vec<&Finding> = findings.iter().filter(|f| !f.in_verdict).collect();
    for finding in more.iter().take(SHOWN) {
        text += &format!("; {}", finding.text);
    }
    if more.len() > SHOWN {
        text += &format!("; and {} more, see rollcall status", more.len() - SHOWN);
    }
    let (backends, outs) = status::outs(status);
    let figures = Figures {
        backends,
        in_rotation: backends - outs.len(),
        leases: status.leases.len(),
        removed: status.removed.len(),
        critical: findings.iter().filter(|f| f.state == CheckState::Critical).count(),
        flows_active: status.services.iter().flat_map(|s| &s.backends).map(|b| b.flows_active).sum(),
    };
    CheckReport { time: status.time, state: verdict::state(&findings), verdict: text, findings, figures: Some(figures) }
}

fn late(context: &Context) -> ControlError {
    let socket = context.client.socket().display();
    ControlError::new(
        ErrorCode::Unavailable,
        format!("the daemon at {socket} did not answer within {} s", PATIENCE.as_secs()),
    )
    .with_hint("look at its log: journalctl -u rollcall")
}

/// A daemon that does not answer is critical; anything else leaves the pool's state open.
pub(super) fn of_error(error: &ControlError) -> CheckReport {
    let state = if error.code == ErrorCode::Unavailable { CheckState::Critical } else { CheckState::Unknown };
    let finding = Finding { state, text: error.message.clone(), in_verdict: true };
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    CheckReport {
        time: Timestamp::now(),
        state,
        verdict: format!("{}{hint}", error.message),
        findings: vec![finding],
        figures: None,
    }
}

/// `ROLLCALL OK - all 3 backends in rotation | in_rotation=3;;;0;3 …`. A bar in a text would begin the figures.
pub(super) fn line(report: &CheckReport) -> String {
    let verdict = plain::line(&report.verdict).replace('|', "/");
    let mut text = format!("ROLLCALL {} - {verdict}", report.state.name());
    if let Some(Figures { backends, in_rotation, leases, removed, critical, flows_active }) = report.figures {
        text += &format!(
            " | in_rotation={in_rotation};;;0;{backends} out={};;;0;{backends} leases={leases};;;0; \
             removed={removed};;;0; critical={critical};;;0; flows_active={flows_active};;;0;",
            backends - in_rotation
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn line_of_a_pool_with_troubles_has_verdict_findings_and_figures() {
        let mut status = Status::new(&testing::view(), &testing::counters());
        status.nobody_told = false;
        status.warnings = vec!["a | bar\nand a line".into()];
        let report = of_status(&status);
        assert_eq!(report.state, CheckState::Warning);
        let expected = "ROLLCALL WARNING - 2 of 3 in rotation (1 unverified): web-02 out for 4 m: probe failed: connection \
                        refused (owner web team); a / bar; and a line; /etc/rollcall/rollcall.toml differs from what runs | \
                        in_rotation=2;;;0;3 out=1;;;0;3 leases=0;;;0; removed=0;;;0; critical=0;;;0; flows_active=10;;;0;";
        assert_eq!(line(&report), expected);
    }

    #[test]
    fn line_of_many_findings_shows_some_and_counts_the_rest() {
        let mut status = Status::new(&testing::view(), &testing::counters());
        status.daemon.file_differs = false;
        status.warnings = (0..5).map(|n| format!("w{n}")).collect();
        let text = line(&of_status(&status));
        assert!(text.contains("; w0; w1; w2; and 2 more, see rollcall status | "), "{text}");
    }

    #[test]
    fn daemon_that_does_not_answer_is_critical_and_anything_else_unknown() {
        let gone = ControlError::new(ErrorCode::Unavailable, "the daemon is not running").with_hint("start it");
        let report = of_error(&gone);
        assert_eq!(
            (report.state, line(&report).as_str()),
            (CheckState::Critical, "ROLLCALL CRITICAL - the daemon is not running; start it")
        );
        for code in [ErrorCode::Permission, ErrorCode::System, ErrorCode::Config] {
            assert_eq!(of_error(&ControlError::new(code, "no")).state, CheckState::Unknown);
        }
    }
}
