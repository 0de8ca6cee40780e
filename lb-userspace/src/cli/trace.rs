//! `rollcall trace`: one packet through the program, step by step.

use std::net::SocketAddr;

use super::output::{Paint, Tone};
use super::{Context, Outcome, frozen};
use crate::config::model::Protocol;
use crate::control::TraceParams;
use crate::control::schema::Trace;

pub(super) const HELP: &str = "\
The program that is attached is run once on a packet made for it, over a copy of the maps that it would look at. Nothing is
sent, opened or counted.

Examples:
  rollcall trace --from 198.51.100.7:40000 --to 192.0.2.80:80
  rollcall trace --from 198.51.100.7:40000 --to 192.0.2.80:80 --flags ack    # of a connection that is there
  rollcall trace --from 10.0.0.11:8080 --to 10.0.0.2:2000 --flags syn,ack    # a backend's answer
  rollcall trace --from [2001:db8::7]:5000 --to [2001:db8::80]:53 --proto udp";

/// The packet.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where it comes from.
    #[arg(long, value_name = "IP:PORT")]
    from: SocketAddr,
    /// Where it goes to.
    #[arg(long, value_name = "IP:PORT")]
    to: SocketAddr,
    /// Its protocol.
    #[arg(long, value_name = "PROTOCOL", value_parser = ["tcp", "udp"], default_value = "tcp")]
    proto: String,
    /// TCP flags, by comma; default syn.
    #[arg(long, value_name = "FLAGS", value_delimiter = ',', value_parser = ["syn", "ack", "fin", "rst"])]
    flags: Vec<String>,
    /// The interface that it comes in on; default: the first of edge.interfaces.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    let params = TraceParams {
        from: args.from,
        to: args.to,
        protocol: Some(if args.proto == "udp" { Protocol::Udp } else { Protocol::Tcp }),
        flags: (!args.flags.is_empty()).then(|| args.flags.join(".")),
        interface: args.interface,
    };
    // What cannot be is said without asking anybody.
    params.clone().check()?;
    let (trace, code) = frozen::get(context, &params.path(), |left| left.trace(params.clone())).await?;
    context.output.show(trace, render)?;
    Ok(code)
}

fn render(trace: &Trace, paint: Paint) -> String {
    let protocol = if trace.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    let forwarded = matches!(trace.verdict.as_str(), "tx" | "redirect");
    let tone = if forwarded { Tone::Good } else { Tone::Bad };
    let backend = trace.backend.as_ref().filter(|_| forwarded && trace.reason.is_none());
    let verdict = match (backend, &trace.reason) {
        (Some(backend), _) => format!("forwarded ({backend})"),
        (None, Some(reason)) => reason.clone(),
        (None, None) => trace.verdict.clone(),
    };
    let mut out = format!(
        "{} → {}/{protocol} on {}: {}\n\n",
        trace.from_address,
        trace.to_address,
        trace.interface,
        paint.text(tone, &verdict)
    );
    for step in &trace.steps {
        out += &format!("  {:<12} {}\n", step.step, step.found);
    }
    if let Some(packet) = &trace.packet_out {
        out += &format!(
            "  {:<12} {} → {} to {}, TTL {}, {} bytes\n",
            "packet out",
            packet.from_address,
            packet.to_address,
            packet.destination_mac,
            packet.ttl,
            packet.length_bytes
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn render_tells_the_way_of_a_packet() {
        assert_eq!(
            render(&testing::trace(), Paint::PLAIN),
            "198.51.100.7:40000 → 192.0.2.80:80/tcp on eth0: forwarded (web-01)\n\n  \
             destination  service www\n  flow         none yet\n  \
             packet out   10.0.0.2:1024 → 10.0.0.11:8080 to 02:00:00:00:01:01, TTL 59, 54 bytes\n"
        );
        let dropped = Trace {
            verdict: "drop".to_owned(),
            reason: Some("drop_no_backend".to_owned()),
            backend: None,
            packet_out: None,
            ..testing::trace()
        };
        let text = render(&dropped, Paint::PLAIN);
        assert!(text.starts_with("198.51.100.7:40000 → 192.0.2.80:80/tcp on eth0: drop_no_backend\n"), "{text}");
    }
}
