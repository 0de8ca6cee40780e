//! `rollcall doctor`: will it work here? Facts are gathered in [`facts`]; the judges are pure functions from facts to
//! checks, each with its evidence, why it matters, and the mend. Changes nothing; works with and without a daemon.

mod addresses;
mod facts;
mod hops;
mod host;
mod interface;
mod modes;

use std::process::ExitCode;

use self::facts::Facts;
use super::output::{Paint, Tone};
use super::{Context, Outcome};
use crate::control::schema::{Check, CheckResult, DoctorReport};

/// For `--help`.
pub(super) const HELP: &str = "\
Works with and without a running daemon; with one it also sees the mode that really attached. Without one it asks the \
network for the servers' next hops itself, for at most 5 s. Changes nothing. Exits 0 if nothing failed (warnings are no failure), else 1.";

pub(super) async fn run(context: &Context) -> Outcome {
    let facts = Facts::gather(context).await;
    let report = DoctorReport::new(facts.status.is_some(), judge(&facts));
    let failed = report.failed;
    context.output.show(report, render)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In the order of a packet's needs.
fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = host::checks(&facts.host);
    checks.extend(addresses::config(facts));
    for (name, found) in &facts.interfaces {
        checks.extend(interface::checks(name, found, &facts.attached));
    }
    checks.extend(addresses::checks(facts));
    checks.extend(modes::checks(facts));
    checks
}

fn ok(name: impl Into<String>, evidence: impl Into<String>) -> Check {
    Check { name: name.into(), result: CheckResult::Ok, evidence: evidence.into(), why: None, mend: None }
}

/// A check that did not end well.
fn bad(result: CheckResult, name: impl Into<String>, evidence: impl Into<String>, why: &str, mend: &str) -> Check {
    Check {
        name: name.into(),
        result,
        evidence: evidence.into(),
        why: Some(why.to_owned()),
        mend: Some(mend.to_owned()),
    }
}

fn render(report: &DoctorReport, paint: Paint) -> String {
    let mut out = checks(&report.checks, paint);
    let daemon = if report.daemon_running { "running" } else { "not running" };
    out += &format!("\n{} failed, {} warned; the daemon is {daemon}\n", report.failed, report.warned);
    out
}

/// Each check with its result, evidence, reason and mend.
pub(super) fn checks(checks: &[Check], paint: Paint) -> String {
    let mut out = String::new();
    for check in checks {
        let (tone, word) = match check.result {
            CheckResult::Ok => (Tone::Good, "ok  "),
            CheckResult::Warn => (Tone::Warn, "warn"),
            CheckResult::Fail => (Tone::Bad, "FAIL"),
        };
        out += &format!("{}  {}: {}\n", paint.text(tone, word), check.name, check.evidence);
        if let Some(why) = &check.why {
            out += &format!("      why: {why}\n");
        }
        if let Some(mend) = &check.mend {
            out += &format!("      mend: {mend}\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_of_each_result_is_as_approved() {
        let report = DoctorReport::new(
            false,
            vec![
                ok("kernel", "6.1.0"),
                bad(CheckResult::Warn, "jit", "off", "programs run several times slower", "switch it on"),
                bad(CheckResult::Fail, "interface eth9", "missing", "nothing can be attached", "create it"),
            ],
        );
        let expected = "\
ok    kernel: 6.1.0
warn  jit: off
      why: programs run several times slower
      mend: switch it on
FAIL  interface eth9: missing
      why: nothing can be attached
      mend: create it

1 failed, 1 warned; the daemon is not running
";
        assert_eq!(render(&report, Paint::PLAIN), expected);
    }
}
