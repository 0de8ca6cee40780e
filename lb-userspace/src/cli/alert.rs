//! `rollcall alert list|ack|test`.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::output::{Paint, Tone};
use super::table::{Cell, Table};
use super::{Context, Outcome, frozen, lease, words};
use crate::alert::ACK_DEFAULT;
use crate::config::model::{RouteName, Severity};
use crate::control::daemon::{AlertAck, AlertTest, ControlError, ErrorCode};
use crate::control::schema::{AckStatus, AlertStatus, Alerts, AlertsAck, AlertsTest, RouteStatus};
use crate::core::api::millis;
use crate::daemon::absence;
use crate::daemon::frozen::Left;

pub(super) const HELP: &str = "\
Without a verb: list.

Examples:
  rollcall alert                         what fires, and who works on it
  rollcall alert ack backend_down/web/web-02 --for 2h --note 'new disk is on its way'
  rollcall alert test pager              does this route work?";

const ACK_HELP: &str = "\
While an alert is acknowledged, nobody further is called for it and nobody is reminded; when the time is over and it still \
stands, it escalates again from the first step. It ends with the alert: the same trouble anew calls again. To acknowledge \
again replaces the time. An Alertmanager goes on hearing that the alert stands: silence it there.";

/// Without a verb: alerts that fire.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to do with alerts.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Alerts that fire, since when, whom they went to, and who works on them.
    List,
    /// Say that you work on an alert: nobody further is called for a time.
    #[command(after_help = ACK_HELP)]
    Ack(AckArgs),
    /// Send a test alert, and say what came of it. Exits 1 if a route did not take it.
    Test {
        /// By this route only. Default: by all.
        #[arg(value_parser = super::backend::name::<RouteName>)]
        route: Option<RouteName>,
    },
}

/// An acknowledgement.
#[derive(Debug, clap::Args)]
struct AckArgs {
    /// The alert, as the list names it, such as backend_down/web/web-02; of the name's parts as many as only one has.
    alert: String,
    /// For how long, such as 30m or 2h; at most 24h.
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = lease::length)]
    length: Duration,
    /// What is being done.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Who works on it. Default: the user who is logged in; root without a login must say.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
}

/// The default of `--for`, as alerting has it.
const _: () = assert!(ACK_DEFAULT.as_secs() == 3600);

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    match args.verb {
        None | Some(Verb::List) => {
            let now = Timestamp::now();
            let left = |_: &Left| Ok(Alerts::new(&absence::board(&context.config), now));
            let (alerts, code) = frozen::get(context, "/v1/alerts", left).await?;
            context.output.show(alerts, list)?;
            Ok(code)
        }
        Some(Verb::Ack(AckArgs { alert, length, note, owner })) => {
            let ack = AlertAck { alert, for_ms: millis(length), note, owner: lease::claimed(owner) };
            let done = acknowledge(context, ack).await?;
            context.output.show(done, |done, paint| acknowledged(done, paint, Timestamp::now()))
        }
        Some(Verb::Test { route }) => {
            let done: AlertsTest = context.client.post_json("/v1/alerts/test", &AlertTest { route }).await?;
            let failed = done.results.iter().any(|result| !result.delivered);
            context.output.show(done, results)?;
            Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

/// By the daemon. Where that does not answer, `rollcall watch` may have told of it, and that can be acknowledged all the same.
async fn acknowledge(context: &Context, ack: AlertAck) -> Result<AlertsAck, ControlError> {
    let error = match context.client.post_json("/v1/alerts/ack", &ack).await {
        Err(e) if e.code == ErrorCode::Unavailable => e,
        answer => return answer,
    };
    match absence::acknowledge(&context.config, ack).await {
        Ok(firing) => Ok(AlertsAck::from(&firing)),
        Err(e) if e.code == ErrorCode::NotFound => Err(error),
        Err(e) => Err(e),
    }
}

fn list(alerts: &Alerts, paint: Paint) -> String {
    let mut out = match alerts.firing.len() {
        0 => paint.text(Tone::Good, "no alert fires"),
        n => paint.text(Tone::Bad, &format!("{} firing", words::count(n, "alert"))),
    };
    out.push('\n');
    if !alerts.firing.is_empty() {
        let titles = ["SEVERITY", "SINCE", "ALERT", "OWNER", "TOLD", "WHAT"];
        let mut table = Table::new(titles).narrow(Some("WHAT"), &["OWNER"]);
        for alert in &alerts.firing {
            table.row([
                severity(alert.severity),
                words::since(alert.since, alerts.time).into(),
                alert.key.as_str().into(),
                alert.owner.as_deref().unwrap_or("nobody").into(),
                told(alert),
                what(alert, alerts.time).into(),
            ]);
        }
        out += &table.render(0, paint);
    }
    if alerts.routes.is_empty() {
        out += &paint.text(Tone::Bad, "nobody is told: no alert_route is configured");
        out.push('\n');
    }
    for route in alerts.routes.iter().filter(|route| route.failing_since.is_some()) {
        out += &paint.text(Tone::Bad, &failing(route, alerts));
        out.push('\n');
    }
    out
}

/// The summary, and who works on it.
fn what(alert: &AlertStatus, now: Timestamp) -> String {
    let ack = alert.acknowledged.as_ref().map(|ack| format!(" (acknowledged by {})", ack_in_words(ack, now)));
    format!("{}{}", alert.summary, ack.unwrap_or_default())
}

/// `ada (claimed), 29 m left: new disk is on its way`.
pub(super) fn ack_in_words(ack: &AckStatus, now: Timestamp) -> String {
    let claimed = if ack.claimed { " (claimed)" } else { "" };
    let note = ack.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("{}{claimed}, {} left{note}", ack.by, words::since(now, ack.until))
}

fn acknowledged(done: &AlertsAck, paint: Paint, now: Timestamp) -> String {
    let AlertStatus { key, summary, acknowledged, .. } = &done.alert;
    let ack = acknowledged.as_ref().map(|ack| ack_in_words(ack, now)).unwrap_or_default();
    let line = paint.text(Tone::Good, &format!("{key} acknowledged by {ack}"));
    format!("{line}\n  {summary}\n")
}

fn severity(severity: Severity) -> Cell {
    let tone = match severity {
        Severity::Critical => Tone::Bad,
        Severity::Warning => Tone::Warn,
        Severity::Info => Tone::Plain,
    };
    Cell::new(tone, severity.name())
}

/// Routes that took it; those that did not are marked.
fn told(alert: &AlertStatus) -> Cell {
    let reached = alert.told.iter().any(|told| told.delivered.is_some());
    let names = alert.told.iter().map(|told| match told.delivered {
        Some(_) => told.route.to_string(),
        None => format!("{}: not yet", told.route),
    });
    match names.collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => Cell::new(Tone::Bad, "nobody"),
        names => Cell::new(if reached { Tone::Plain } else { Tone::Bad }, names),
    }
}

fn failing(route: &RouteStatus, alerts: &Alerts) -> String {
    let since = route.failing_since.map(|then| words::since(then, alerts.time)).unwrap_or_default();
    let why = route.error.as_deref().unwrap_or("nobody knows why");
    format!("route {} ({}) has failed for {since}: {why}", route.name, route.r#type)
}

fn results(test: &AlertsTest, paint: Paint) -> String {
    let mut table = Table::new(["ROUTE", "TYPE", "RESULT", ">TOOK", "WHY"]).narrow(Some("WHY"), &["TOOK"]);
    for result in &test.results {
        let (tone, word) = if result.delivered { (Tone::Good, "delivered") } else { (Tone::Bad, "NOT DELIVERED") };
        table.row([
            result.route.as_str().into(),
            result.r#type.as_str().into(),
            Cell::new(tone, word),
            words::duration_ms(result.duration_ms).into(),
            result.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    table.render(0, paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::schema::timestamp;
    use crate::control::testing;

    #[test]
    fn list_shows_what_fires_whom_it_went_to_and_routes_that_fail() {
        let alerts = Alerts::new(&testing::board(), timestamp(testing::NOW));
        let expected = "\
1 alert firing
SEVERITY  SINCE  ALERT     OWNER     TOLD                 WHAT
warning   4 m    backend_down/www/web-02  web team  log, oncall: not yet  web-02 in www is down: connection refused \
(acknowledged by ada (claimed), 29 m left: on it)
route oncall (webhook) has failed for 4 m: 127.0.0.1:9: connection refused
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&list(&alerts, Paint::PLAIN)), squeezed(expected));
        let none = Alerts { firing: vec![], routes: vec![], ..alerts };
        assert_eq!(list(&none, Paint::PLAIN), "no alert fires\nnobody is told: no alert_route is configured\n");
    }

    #[test]
    fn acknowledgement_says_who_for_how_long_and_of_what() {
        let done = AlertsAck::from(&testing::board().firing[0]);
        let expected = "\
backend_down/www/web-02 acknowledged by ada (claimed), 29 m left: on it
  web-02 in www is down: connection refused
";
        assert_eq!(acknowledged(&done, Paint::PLAIN, timestamp(testing::NOW)), expected);
    }

    #[test]
    fn results_of_a_test_name_the_route_that_did_not_take_it() {
        let expected = "\
ROUTE   TYPE      RESULT           TOOK  WHY
log     journald  delivered      1.5 ms
oncall  webhook   NOT DELIVERED  1.5 ms  127.0.0.1:9: connection refused
";
        assert_eq!(results(&AlertsTest::from(testing::tests()), Paint::PLAIN), expected);
    }
}
