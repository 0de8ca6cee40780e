//! `rollcall stats`: counters since the data plane was created; with `--watch` what changed per second.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::MissedTickBehavior;

use super::output::{Format, Paint, Reader, Tone};
use super::table::{Cell, Table};
use super::{Context, Outcome, frozen, plain, words};
use crate::control::schema::{BackendStats, Direction, Stats};
use crate::daemon::frozen::Left;

const HELP: &str = "\
Examples:
  rollcall stats                  totals
  rollcall stats --watch          rates, every second, until Ctrl-C
  rollcall stats --watch 10 --output json    one document of totals a line, every ten seconds";

/// How to look.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Again and again, as rates; the interval is in seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    let read = || context.client.get::<Stats>("/v1/stats");
    let Some(seconds) = args.watch else {
        let of_left = |left: &Left| Stats::new(&left.view, &left.counters, Timestamp::now());
        return frozen::show(context, "/v1/stats", of_left, totals).await;
    };
    let mut last = read().await?;
    let mut read_at = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds));
    // Whoever stopped the command for a while (Ctrl-Z) gets no burst of what was missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        if context.output.format == Format::Json && context.output.show_line(last.clone())? == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
        ticks.tick().await;
        let now = read().await?;
        let passed = read_at.elapsed();
        read_at = Instant::now();
        if context.output.format == Format::Table {
            let shown = rates(&last, &plain::document(&now)?, passed, context.output.paint());
            if context.output.print(&format!("{}{shown}\n", context.output.clear()))? == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
            }
        }
        last = now;
    }
}

fn totals(stats: &Stats, paint: Paint) -> String {
    let mut out = String::new();
    for s in &stats.services {
        let mut table = Table::new([
            "BACKEND",
            ">ACTIVE",
            ">OPENED",
            ">ESTABLISHED",
            ">CLOSED",
            ">TO BACKEND",
            ">",
            ">TO CLIENT",
            ">",
            ">ANSWER",
            "TROUBLE",
        ])
        .narrow(Some("TROUBLE"), &["CLOSED", "ESTABLISHED", "OPENED", "ANSWER", "TO BACKEND"]);
        for b in &s.backends {
            let mut row: Vec<Cell> = vec![
                b.backend.as_str().into(),
                b.flows_active.into(),
                b.flows_opened.into(),
                b.flows_established.into(),
                b.flows_closed.into(),
            ];
            for d in [b.forward, b.reverse] {
                row.push(format!("{} pkt", d.packets).into());
                row.push(words::scaled(d.total_bytes as f64, "B").into());
            }
            row.push(b.answer_mean_ms.map(answer).unwrap_or_default().into());
            row.push(Cell::new(Tone::Warn, trouble(b)));
            table.row(row);
        }
        out += &format!("{}\n{}", paint.text(Tone::Bold, s.service.as_str()), table.render(2, paint));
        for d in &s.drops {
            out += &format!("  {} {}\n", paint.text(Tone::Warn, &d.reason), d.packets);
        }
        out.push('\n');
    }
    let mut verdicts = Table::new(["NOT FORWARDED", ">PACKETS"]);
    for v in stats.verdicts.iter().filter(|v| v.packets > 0) {
        verdicts.row([v.reason.as_str().into(), v.packets.into()]);
    }
    if !verdicts.is_empty() {
        out += &verdicts.render(0, paint);
    }
    out
}

/// The data plane measures in steps of a kernel tick (1 to 10 ms), so below a millisecond there is nothing to show.
fn answer(mean_ms: f64) -> String {
    if mean_ms < 1.0 { "<1 ms".to_owned() } else { words::duration_ms(mean_ms) }
}

/// Passive signals that are above 0.
fn trouble(b: &BackendStats) -> String {
    let signals = [
        (b.unanswered, "unanswered"),
        (b.syn_retransmits, "SYNs again"),
        (b.half_open_overwritten, "overwritten"),
        (b.resets_backend, "resets by backend"),
        (b.resets_client, "resets by client"),
        (b.ports_exhausted, "without source port"),
        (b.moved_away, "moved away"),
        (b.moved_to, "moved here"),
    ];
    let above = signals.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    above.collect::<Vec<_>>().join(", ")
}

/// `passed` is measured here: the documents' own times are the wall clock's, which may be set meanwhile.
fn rates(last: &Stats, now: &Stats, passed: Duration, paint: Paint) -> String {
    let seconds = passed.as_secs_f64().max(0.001);
    // A data plane that was created anew counts from zero: then no rate, rather than a negative one.
    let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
    let mut out = format!("{}  over {seconds:.1} s\n", now.time);
    for s in &now.services {
        let old = last.services.iter().find(|o| o.service == s.service);
        let mut table =
            Table::new(["BACKEND", ">ACTIVE", ">NEW/s", ">CLOSED/s", ">TO BACKEND", ">", ">TO CLIENT", ">"])
                .narrow(None, &["CLOSED/s", "TO BACKEND"]);
        for b in &s.backends {
            // A member that has just joined has no rate yet.
            let o = old.and_then(|o| o.backends.iter().find(|o| o.backend == b.backend)).unwrap_or(b);
            let mut row: Vec<Cell> = vec![
                b.backend.as_str().into(),
                b.flows_active.into(),
                format!("{:.1}", rate(o.flows_opened, b.flows_opened)).into(),
                format!("{:.1}", rate(o.flows_closed, b.flows_closed)).into(),
            ];
            let directions: [(Direction, Direction); 2] = [(o.forward, b.forward), (o.reverse, b.reverse)];
            for (before, after) in directions {
                row.push(words::scaled(rate(before.packets, after.packets), "pkt/s").into());
                row.push(words::scaled(rate(before.total_bytes, after.total_bytes) * 8.0, "bit/s").into());
            }
            table.row(row);
        }
        out += &format!("\n{}\n{}", paint.text(Tone::Bold, s.service.as_str()), table.render(2, paint));
    }
    let mut verdicts = Table::new(["NOT FORWARDED", ">PER SECOND"]);
    for v in &now.verdicts {
        let before = last.verdicts.iter().find(|o| o.reason == v.reason).map_or(v.packets, |o| o.packets);
        if v.packets > before {
            verdicts.row([v.reason.as_str().into(), format!("{:.1}", rate(before, v.packets)).into()]);
        }
    }
    if !verdicts.is_empty() {
        out += &format!("\n{}", verdicts.render(0, paint));
    }
    out
}

#[cfg(test)]
mod tests {
    use jiff::{Span, Timestamp};

    use super::*;
    use crate::control::testing;

    fn stats() -> Stats {
        let mut counters = testing::counters();
        counters.members.get_mut(&1).unwrap().stats.unanswered = 4;
        Stats::new(&testing::view(), &counters, Timestamp::from_millisecond(testing::NOW.wall_ms).unwrap())
    }

    #[test]
    fn totals_of_a_view_are_as_approved() {
        let got = totals(&stats(), Paint::PLAIN);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(crate::docs::root().join("lb-userspace/src/cli/golden/stats.txt"), &got).unwrap();
        }
        assert_eq!(got, include_str!("golden/stats.txt"));
    }

    #[test]
    fn rates_are_differences_per_second_also_while_the_wall_clock_is_set_back() {
        let last = stats();
        let mut now = last.clone();
        now.time = last.time - Span::new().hours(1);
        let b = &mut now.services[0].backends[0];
        b.flows_opened += 50;
        b.reverse.total_bytes += 1_000_000;
        now.verdicts.iter_mut().find(|v| v.reason == "drop_no_flow").unwrap().packets += 3;
        let text = rates(&last, &now, Duration::from_secs(2), Paint::PLAIN);
        let line = text.lines().find(|l| l.contains("web-01")).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "web-01 10 25.0 0.0 0 pkt/s 0 bit/s 0 pkt/s 4.0 Mbit/s"
        );
        assert!(text.lines().any(|l| l.starts_with("drop_no_flow") && l.ends_with("1.5")), "{text}");
        assert!(!text.contains("pass_not_ours"), "a reason that did not move is shown:\n{text}");
    }

    #[test]
    fn answer_below_a_tick_is_not_shown_as_zero() {
        let shown = [0.0, 0.4, 1.0, 12.34].map(answer);
        assert_eq!(shown, ["<1 ms", "<1 ms", "1.0 ms", "12.3 ms"]);
    }

    #[test]
    fn rates_after_counters_restarted_are_zero() {
        let last = stats();
        let mut now = last.clone();
        now.services[0].backends[0].flows_opened = 0;
        let text = rates(&last, &now, Duration::from_secs(1), Paint::PLAIN);
        assert!(text.lines().any(|l| l.contains("web-01") && l.contains("0.0")), "{text}");
        assert!(!text.contains('-') || !text.contains("-1"), "{text}");
    }
}
