//! `rollcall audit`: is everything as the daemon decided it? Asks the daemon, since only it knows what it decided.

use std::process::ExitCode;

use super::output::{Paint, Tone};
use super::{Context, Outcome, doctor};
use crate::control::schema::AuditReport;

pub(super) const HELP: &str = "\
The daemon does this by itself every ten seconds, repairs what others changed, at most three times within ten minutes, and \
warns. Exits 0 if nothing failed (warnings are no failure), else 1.

Examples:
  rollcall audit              each check with its evidence; changes nothing
  rollcall audit --repair     repairs what can be, also if it was too often lately";

/// What to do about it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Repair what can be repaired, also if that was done too often lately.
    #[arg(long)]
    repair: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    let path = "/v1/audit";
    let report: AuditReport =
        if args.repair { context.client.post(path).await? } else { context.client.get(path).await? };
    let failed = report.failed;
    context.output.show(report, render)?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(report: &AuditReport, paint: Paint) -> String {
    let mut out = String::new();
    for what in &report.repaired {
        out += &format!("{}  {what}\n", paint.text(Tone::Good, "repaired"));
    }
    out += &doctor::checks(&report.checks, paint);
    out + &format!("\n{} repaired, {} failed, {} warned\n", report.repaired.len(), report.failed, report.warned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn render_of_a_repair_says_what_was_repaired_and_what_was_not() {
        let expected = "\
repaired  www/web-02: its entry in MEMBERS was cleared
ok    maps: 2 services, 4 members: as decided
FAIL  pins: MEMBERS is missing
      mend: plan `rollcall down` and a start

1 repaired, 1 failed, 0 warned
";
        assert_eq!(render(&testing::audit(), Paint::PLAIN), expected);
    }
}
