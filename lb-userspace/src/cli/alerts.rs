//! `rollcall alerts`, `rollcall alerts test`.

use std::process::ExitCode;

use super::output::{Paint, Tone};
use super::table::{Cell, Table};
use super::{Context, Outcome, words};
use crate::config::model::{RouteName, Severity};
use crate::control::daemon::AlertTest;
use crate::control::schema::{AlertStatus, Alerts, AlertsTest, RouteStatus};

/// Without a verb: alerts that fire.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What to do with alerts.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Send a test alert, and say what came of it. Exits 1 if a route did not take it.
    Test {
        /// By this route only. Default: by all.
        #[arg(long, value_name = "NAME", value_parser = super::backend::name::<RouteName>)]
        route: Option<RouteName>,
    },
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    match args.verb {
        None => context.output.show(context.client.get::<Alerts>("/v1/alerts").await?, list),
        Some(Verb::Test { route }) => {
            let done: AlertsTest = context.client.post_json("/v1/alerts/test", &AlertTest { route }).await?;
            let failed = done.results.iter().any(|result| !result.delivered);
            context.output.show(done, results)?;
            Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

fn list(alerts: &Alerts, paint: Paint) -> String {
    let mut out = match alerts.firing.len() {
        0 => paint.text(Tone::Good, "no alert fires"),
        n => paint.text(Tone::Bad, &format!("{} firing", words::count(n, "alert"))),
    };
    out.push('\n');
    if !alerts.firing.is_empty() {
        let titles = ["SEVERITY", "SINCE", "CONDITION", "OWNER", "TOLD", "WHAT"];
        let mut table = Table::new(titles).narrow(Some("WHAT"), &["OWNER"]);
        for alert in &alerts.firing {
            table.row([
                severity(alert.severity),
                words::since(alert.since, alerts.time).into(),
                alert.condition.as_str().into(),
                alert.owner.as_deref().unwrap_or("nobody").into(),
                told(alert),
                alert.summary.as_str().into(),
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
SEVERITY  SINCE  CONDITION     OWNER     TOLD                 WHAT
warning   4 m    backend_down  web team  log, oncall: not yet  web-02 in www is down: connection refused
route oncall (webhook) has failed for 4 m: 127.0.0.1:9: connection refused
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&list(&alerts, Paint::PLAIN)), squeezed(expected));
        let none = Alerts { firing: vec![], routes: vec![], ..alerts };
        assert_eq!(list(&none, Paint::PLAIN), "no alert fires\nnobody is told: no alert_route is configured\n");
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
