//! `rollcall risk accept|list|withdraw`: to live without N-1, for a time, with an owner and a reason.

use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;

use super::backend::name;
use super::output::{Paint, Tone};
use super::table::{Cell, Table};
use super::{Context, Outcome, frozen, lease, words};
use crate::config::model::ServiceName;
use crate::control::daemon::Duty;
use crate::control::schema::{DutyDone, RiskStatus, Risks, Status};
use crate::core::api::millis;

const ACCEPT_HELP: &str = "\
Examples:
  rollcall risk accept n-1 --service web --for 30d --reason 'second server ordered'
  rollcall risk accept n-1 --for 7d --reason 'move of the data centre' --owner ada

The alert is silent meanwhile; `rollcall status` goes on saying that N-1 is not met. At the end it comes back by itself.";

/// What can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// That the loss of one server could not be borne.
    #[value(name = "n-1")]
    NMinusOne,
}

/// Which risk, and who asks.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The risk.
    kind: Kind,
    /// Of this service only. Default: of all.
    #[arg(long, value_name = "NAME", value_parser = name::<ServiceName>)]
    service: Option<ServiceName>,
    /// Who answers for it. Default: the user who is logged in; root without a login must say.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
}

/// What to do with risks.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Accept a risk for a time: its alert is silent until then.
    #[command(after_help = ACCEPT_HELP)]
    Accept {
        #[command(flatten)]
        target: Target,
        /// For how long, such as 30d; at most 90d.
        #[arg(long = "for", value_name = "TIME", value_parser = lease::length)]
        length: Duration,
        /// Why. It is shown wherever the risk is.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Risks that are accepted, by whom and until when.
    List,
    /// No longer accept a risk.
    Withdraw(Target),
}

pub(super) async fn run(context: &Context, verb: Verb) -> Outcome {
    let duty = match verb {
        Verb::List => return list(context).await,
        Verb::Accept { target: Target { kind: Kind::NMinusOne, service, owner }, length, reason } => {
            Duty::AcceptRisk { service, for_ms: millis(length), reason, owner: lease::claimed(owner) }
        }
        Verb::Withdraw(Target { kind: Kind::NMinusOne, service, owner }) => {
            Duty::WithdrawRisk { service, owner: lease::claimed(owner) }
        }
    };
    let done: DutyDone = context.client.post_json("/v1/duty", &duty).await?;
    context.output.show(done, |done, paint| lease::render(done, paint, Timestamp::now()))
}

async fn list(context: &Context) -> Outcome {
    let left = |left: &crate::daemon::frozen::Left| Ok(Status::new(&left.view, &left.counters));
    let (status, code) = frozen::get(context, "/v1/status", left).await?;
    context.output.show(Risks { time: status.time, risks: status.risks }, table)?;
    Ok(code)
}

fn table(risks: &Risks, paint: Paint) -> String {
    if risks.risks.is_empty() {
        return "no risk is accepted\n".to_owned();
    }
    let mut table = Table::new(["RISK", "SERVICE", "LEFT", "OWNER", "REASON"]).narrow(Some("REASON"), &[]);
    for risk in &risks.risks {
        table.row([
            risk.risk.as_str().into(),
            risk.service.as_ref().map_or("all", |s| s.as_str()).into(),
            Cell::new(Tone::Warn, words::since(risks.time, risk.ends)),
            owner(risk).into(),
            risk.reason.as_str().into(),
        ]);
    }
    table.render(0, paint)
}

/// `ada (claimed)`.
pub(super) fn owner(risk: &RiskStatus) -> String {
    format!("{}{}", risk.owner, if risk.owner_claimed { " (claimed)" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn table_of_risks_says_whose_they_are_and_how_long_they_hold() {
        let status = Status::new(&testing::view(), &testing::counters());
        assert_eq!(table(&Risks { time: status.time, risks: vec![] }, Paint::PLAIN), "no risk is accepted\n");
        let risks = Risks { time: status.time, risks: vec![RiskStatus::from(&testing::risk())] };
        let expected = "\
RISK  SERVICE  LEFT  OWNER          REASON
n-1   dns      30 d  ada (claimed)  second server ordered
";
        assert_eq!(table(&risks, Paint::PLAIN), expected);
    }
}
