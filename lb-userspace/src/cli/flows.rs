//! `rollcall flows`: flows that match, read from the kernel now.

use std::net::IpAddr;

use clap::builder::PossibleValuesParser;
use lb_common::conntrack::Phase;

use super::output::Paint;
use super::table::{Cell, Table};
use super::{Context, Outcome, frozen, words};
use crate::config::model::{BackendName, Protocol, ServiceName};
use crate::control::schema::Flows;
use crate::control::{DEFAULT_FLOWS, FlowParams, MAX_FLOWS};

const HELP: &str = "\
Examples:
  rollcall flows --backend web-02 --phase established
  rollcall flows --client 198.51.100.7 --limit 1000 --output json";

/// Which flows.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Only of this service.
    #[arg(long, value_name = "NAME", value_parser = super::backend::name::<ServiceName>)]
    service: Option<ServiceName>,
    /// Only to this backend.
    #[arg(long, value_name = "NAME", value_parser = super::backend::name::<BackendName>)]
    backend: Option<BackendName>,
    /// Only from this address.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Only in this phase.
    #[arg(long, value_parser = PossibleValuesParser::new((1..).map_while(Phase::from_number).map(Phase::name)))]
    phase: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = DEFAULT_FLOWS as u64, value_parser = clap::value_parser!(u64).range(1..=MAX_FLOWS as u64))]
    limit: u64,
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    let params = FlowParams {
        service: args.service.map(String::from),
        backend: args.backend.map(String::from),
        client: args.client,
        phase: args.phase,
        limit: usize::try_from(args.limit).ok(),
    };
    let path = params.path();
    let (flows, code) = frozen::get(context, &path, |left| left.flows(params)).await?;
    context.output.show(flows, render)?;
    Ok(code)
}

fn render(flows: &Flows, paint: Paint) -> String {
    let mut table =
        Table::new(["PHASE", "PROTO", "CLIENT", "VIP", "SERVICE", "SOURCE", "TO", "BACKEND", ">AGE", ">IDLE"])
            .narrow(None, &["SOURCE", "VIP", "AGE", "TO", "PROTO", "IDLE"]);
    for f in &flows.flows {
        let ms = |ms: u64| words::span_ms(i64::try_from(ms).unwrap_or(i64::MAX));
        let cells: [Cell; 10] = [
            f.phase.as_str().into(),
            (if f.protocol == Protocol::Tcp { "tcp" } else { "udp" }).into(),
            f.client_address.into(),
            f.vip_address.into(),
            f.service.as_deref().unwrap_or("(removed)").into(),
            f.source_address.into(),
            f.backend_address.into(),
            f.backend.as_deref().unwrap_or("(removed)").into(),
            ms(f.age_ms).into(),
            ms(f.idle_ms).into(),
        ];
        table.row(cells);
    }
    if table.is_empty() {
        return "no flows match\n".into();
    }
    let more = if flows.more { "more flows match; --limit shows more of them\n" } else { "" };
    table.render(0, paint) + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn render_of_flows_shows_removed_names_and_that_there_are_more() {
        let time = jiff::Timestamp::UNIX_EPOCH;
        let text = render(&Flows::new(&testing::view(), &testing::flows(), true, time), Paint::PLAIN);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("established  tcp    198.51.100.7:50123"), "{text}");
        assert!(lines[1].ends_with("web-01     1 m   1 s"), "{text}");
        assert!(lines[2].contains("[2001:db8::7]:50124") && lines[2].contains("(removed)"), "{text}");
        assert!(lines[3].starts_with("more flows match"), "{text}");
    }

    #[test]
    fn render_of_no_flows_says_so() {
        let none = Flows { time: jiff::Timestamp::UNIX_EPOCH, flows: vec![], more: false };
        assert_eq!(render(&none, Paint::PLAIN), "no flows match\n");
    }
}
