//! `rollcall report`: the factual part of a post-mortem, as Markdown; what only people know is left empty for them.

use jiff::Timestamp;

use super::output::Paint;
use super::{Context, Outcome, events, source, words};
use crate::control::WindowParams;
use crate::control::schema::{Absence, EventRecord, Report, TrafficReport};
use crate::core::api::DAEMON;

const HELP: &str = "\
Examples:
  rollcall report --since 2h > post-mortem.md
  rollcall report --since 2026-11-20T08:00:00Z --until 2026-11-21T22:00:00Z

It works without the daemon, too, for those who may read the state directory.";

/// Events of one kind with one cause within so many milliseconds are one line of the timeline.
const TOGETHER_MS: i64 = 2_000;

/// Which time.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Begin of the window: a duration before now, such as 2h, or a time, such as 2026-11-21T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = source::moment)]
    since: Timestamp,
    /// Its end, given as in --since. Default: now.
    #[arg(long, value_name = "TIME", value_parser = source::moment)]
    until: Option<Timestamp>,
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    let report = source::report(context, &WindowParams { since: args.since, until: args.until }).await?;
    context.output.show(report, render)
}

fn render(report: &Report, _: Paint) -> String {
    let (since, until) = (events::time(report.since), events::time(report.until));
    let length = words::since(report.since, report.until);
    let mut out = format!(
        "# Post-mortem: {since} to {until}\n\nFacts by rollcall {}, written {}. The window is {length} long. Times are UTC. Sections \
         marked *to be written* are for people.\n",
        env!("CARGO_PKG_VERSION"),
        events::time(report.time)
    );
    if let Some(begin) = report.known_since.filter(|begin| *begin > report.since) {
        out += &format!("\n**The journal begins at {}: what was before is not known.**\n", events::time(begin));
    } else if report.known_since.is_none() {
        out += "\n**The journal is empty: nothing is known.**\n";
    }
    out += "\n## Impact\n\n*To be written: who noticed what, since when, how many users.*\n";
    out += &format!("\n## Who was out\n\n{}", absences(report));
    out += &format!("\n## Timeline\n\n{}", timeline(report));
    out += &format!("\n## Traffic and errors\n\n{}", traffic(report));
    out += &format!("\n## What fired, and who was told\n\n{}", alerts(report));
    out += &format!("\n## What was done\n\n{}", deeds(report));
    for (title, hint) in [
        ("Root cause", "why it could happen, and why it was not noticed earlier"),
        ("Lessons", "what went well, what did not, where luck helped"),
        ("Action items", "what, who, until when"),
    ] {
        out += &format!("\n## {title}\n\n*To be written: {hint}.*\n");
    }
    out
}

fn absences(report: &Report) -> String {
    if report.absences.is_empty() {
        return "Nobody.\n".into();
    }
    let rows = report.absences.iter().map(|a: &Absence| {
        let until = a.until.map_or("**still out**".to_owned(), events::time);
        let length = words::since(a.since, a.until.unwrap_or(report.until));
        let before = if a.since < report.since { " (before the window)" } else { "" };
        let services = if a.services.is_empty() { "all".to_owned() } else { a.services.join(", ") };
        let since = events::time(a.since) + before;
        [a.backend.clone(), services, since, until, length, a.reasons.join("; then "), or_dash(&a.by.join(", "))]
    });
    table(["Backend", "Services", "Out since", "Until", "For", "Why", "By"], rows)
}

fn timeline(report: &Report) -> String {
    if report.events.is_empty() {
        return "No event is known.\n".into();
    }
    let more = if report.more { "Older events of the window are left out: there are too many.\n\n" } else { "" };
    more.to_owned() + &event_table(report.events.iter())
}

fn traffic(report: &Report) -> String {
    let (Some(since), Some(until)) = (report.sampled_since, report.sampled_until) else {
        return "No counters are known of this time.\n".into();
    };
    let mut out = format!(
        "Of counters that are read once a minute and kept when they moved: from {} to {}.\n\n",
        events::time(since),
        events::time(until)
    );
    let backends = report.traffic.iter().filter(|t| t.backend.is_some());
    let rows = backends.map(|t: &TrafficReport| {
        let of_service = report.traffic.iter().filter(|o| o.service == t.service).map(|o| o.flows_opened).sum::<u64>();
        let share = if of_service == 0 { 0.0 } else { t.flows_opened as f64 * 100.0 / of_service as f64 };
        [
            t.service.clone(),
            t.backend.clone().unwrap_or_default(),
            t.flows_opened.to_string(),
            format!("{share:.0} %"),
            words::scaled(t.forward_bytes as f64, "B"),
            words::scaled(t.reverse_bytes as f64, "B"),
            t.unanswered.to_string(),
            t.syn_retransmits.to_string(),
            t.resets_backend.to_string(),
            t.ports_exhausted.to_string(),
        ]
    });
    out += &table(
        [
            "Service",
            "Backend",
            "New flows",
            "Share",
            "To backend",
            "To clients",
            "Unanswered",
            "SYNs again",
            "Resets by backend",
            "Without source port",
        ],
        rows,
    );
    let dropped = report.traffic.iter().filter(|t| t.dropped_packets > 0);
    for t in dropped {
        out += &format!("\n{}: {} packets dropped.\n", t.service, t.dropped_packets);
    }
    out
}

/// What the alerting wrote into the journal: kinds `alert_…`.
fn alerts(report: &Report) -> String {
    let fired: Vec<_> = report.events.iter().filter(|e| e.kind.starts_with("alert_")).collect();
    if fired.is_empty() { "No alert is in the journal.\n".into() } else { event_table(fired.into_iter()) }
}

fn deeds(report: &Report) -> String {
    let by_people = |e: &&EventRecord| e.by.as_ref().is_some_and(|by| by != DAEMON) && !e.kind.starts_with("alert_");
    let done: Vec<_> = report.events.iter().filter(by_people).collect();
    let commands =
        if done.is_empty() { "No command of a person is known.\n".into() } else { event_table(done.into_iter()) };
    commands + "\n*To be added: what was done elsewhere.*\n"
}

/// Events, those of one moment that say the same in several services as one.
fn event_table<'a>(all: impl Iterator<Item = &'a EventRecord>) -> String {
    let mut joined: Vec<(EventRecord, Vec<String>)> = Vec::new();
    for event in all {
        let same = joined.iter_mut().rev().take_while(|(other, _)| near(other, event)).find(|(other, _)| {
            (&other.kind, &other.backend, &other.by, &other.cause)
                == (&event.kind, &event.backend, &event.by, &event.cause)
        });
        let services = event.service.clone();
        match same {
            Some((_, known)) => known.extend(services),
            None => joined.push((event.clone(), services.into_iter().collect())),
        }
    }
    let rows = joined.into_iter().map(|(e, services)| {
        let services = match &e.backend {
            Some(_) if services.is_empty() => "all".to_owned(),
            _ => or_dash(&services.join(", ")),
        };
        let (backend, by) = (or_dash(&e.backend.unwrap_or_default()), or_dash(&e.by.unwrap_or_default()));
        [events::time(e.time), events::kind(&e.kind).1, backend, services, by, e.cause]
    });
    table(["Time", "Event", "Backend", "Services", "By", "Cause"], rows)
}

fn near(a: &EventRecord, b: &EventRecord) -> bool {
    (a.time.as_millisecond() - b.time.as_millisecond()).abs() <= TOGETHER_MS
}

fn or_dash(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { name.to_owned() }
}

fn table<const N: usize>(headers: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = line(&headers.map(str::to_owned)) + &line(&[(); N].map(|()| "---".to_owned()));
    for row in rows {
        // A bar would end the cell.
        out += &line(&row.map(|cell| cell.replace('|', "\\|")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::schema::{Facts, Traffic};
    use crate::core::api::Time;
    use crate::io::journal::{Counted, Recorded, Sample};

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// `time kind backend service by: cause`; `-` for none.
    fn recorded(lines: &str, first: i64) -> Vec<Recorded> {
        let named = |name: &str| (name != "-").then(|| name.to_owned());
        let event = |(line, id): (&str, i64)| {
            let (place, cause) = line.split_once(": ").unwrap();
            let [time, kind, backend, service, by] = place.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
            Recorded {
                id,
                time: Time { boot_ms: 0, wall_ms: at(time).as_millisecond() },
                kind: kind.to_owned(),
                backend: named(backend),
                service: named(service),
                by: named(by),
                cause: cause.to_owned(),
            }
        };
        lines.trim().lines().map(str::trim).zip(first..).map(event).collect()
    }

    /// The outage that this project comes from, as the journal would have told it.
    fn outage() -> Facts {
        let stood = "
            2022-08-26T14:00:00Z revision_applied - - ada: revision 7 by ada (reload): www: member web-02 removed
            2022-08-26T14:00:00Z removed web-02 www ada: by ada (reload); it stays in the roll call until it returns
            2022-08-26T14:00:01Z out_of_rotation web-02 www -: removed from the configuration
            2022-08-26T14:10:00Z overdue web-02 www -: removed by ada (reload) and not back; web team answers for it";
        let events = "
            2022-08-27T09:00:00Z alert_fired web-01 www -: handshakes of web-01 take 900 ms, usually 2 ms
            2022-08-27T09:00:02Z alert_delivered web-01 www -: mail to web team
            2022-08-27T09:04:10Z down web-01 www -: 3 probes failed: no answer within 1s
            2022-08-27T09:04:10Z out_of_rotation web-01 www -: probe_failed: no answer within 1s
            2022-08-27T09:04:10Z out_of_rotation web-01 www6 -: probe_failed: no answer within 1s
            2022-08-27T09:20:00Z maintenance web-01 - james: by james for 120 min 0 s: memory clean-up | swap
            2022-08-27T11:10:00Z restored web-01 - james: by james, before the end of the maintenance
            2022-08-27T11:10:05Z up web-01 www -: probe succeeded (2 in a row)
            2022-08-27T11:10:05Z in_rotation web-01 www -: nothing stands against it
            2022-08-27T11:10:06Z in_rotation web-01 www6 -: nothing stands against it
            2022-08-28T20:40:00Z revision_applied - - ada: revision 8 by ada (backend add web-02 to www)
            2022-08-28T20:40:00Z returned web-02 www ada: back in the configuration (backend add web-02 to www)
            2022-08-28T20:40:04Z in_rotation web-02 www -: nothing stands against it
            2022-08-28T20:50:00Z revision_applied - - james: revision 9 by james (reload): www: algorithm maglev -> round-robin
            2022-08-28T20:50:00Z configured - - -: reload";
        let sample = |time, backend: Option<&str>, opened, unanswered, dropped| Sample {
            wall_ms: at(time).as_millisecond(),
            service: "www".into(),
            backend: backend.map(Into::into),
            counted: Counted {
                opened,
                forward_bytes: opened * 600,
                reverse_bytes: opened * 40_000,
                unanswered,
                dropped,
                ..Counted::default()
            },
        };
        let (one, two) = (Some("web-01"), Some("web-02"));
        Facts {
            time: at("2022-08-28T22:00:00Z"),
            window: (at("2022-08-27T08:30:00Z"), at("2022-08-28T21:00:00Z")),
            known_since: Some(at("2022-06-01T00:00:00Z")),
            stood: recorded(stood, 1),
            events: (recorded(events, 5), false),
            traffic: [
                sample("2022-08-27T08:29:30Z", one, 1_000_000, 10, 0),
                sample("2022-08-27T08:29:30Z", None, 0, 0, 7),
                sample("2022-08-27T09:04:30Z", one, 1_090_000, 41_210, 0),
                sample("2022-08-27T11:00:30Z", None, 0, 0, 880_007),
                sample("2022-08-28T20:40:30Z", two, 0, 0, 0),
                sample("2022-08-28T20:59:30Z", two, 30_000, 0, 0),
                sample("2022-08-28T20:59:30Z", one, 2_400_000, 41_210, 0),
            ]
            .iter()
            .collect(),
        }
    }

    #[test]
    fn report_of_the_outage_is_as_approved() {
        let got = render(&Report::new(outage()), Paint::PLAIN).replace(env!("CARGO_PKG_VERSION"), "VERSION");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(crate::docs::root().join("lb-userspace/src/cli/golden/report.md"), &got).unwrap();
        }
        assert_eq!(got, include_str!("golden/report.md"));
    }

    #[test]
    fn report_of_nothing_says_what_is_not_known() {
        let (time, window) = (at("2022-08-28T22:00:00Z"), (at("2022-08-27T08:30:00Z"), at("2022-08-28T21:00:00Z")));
        let facts = Facts {
            time,
            window,
            known_since: None,
            stood: vec![],
            events: (vec![], false),
            traffic: Traffic::default(),
        };
        let text = render(&Report::new(facts), Paint::PLAIN);
        for part in ["The journal is empty", "Nobody.", "No counters are known", "No alert is in the journal"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let facts = Facts { known_since: Some(at("2022-08-28T09:00:00Z")), ..outage() };
        let text = render(&Report::new(facts), Paint::PLAIN);
        assert!(text.contains("The journal begins at 2022-08-28T09:00:00Z: what was before is not known."), "{text}");
    }
}
