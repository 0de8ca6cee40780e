//! `rollcall events`: what happened, from the journal; with `--follow` also what happens next.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::output::{Format, Paint, Reader, Tone, say};
use super::table::{Cell, Table};
use super::{Context, Outcome, plain, source, words};
use crate::config::model::{BackendName, ServiceName};
use crate::control::schema::{EventRecord, Events};
use crate::control::{DEFAULT_EVENTS, EventParams, MAX_EVENTS};
use crate::core::api::EventKind;

const HELP: &str = "\
Examples:
  rollcall events                              the newest hundred, the newest last
  rollcall events --since 2h --backend web-02
  rollcall events --follow --output json       one event a line, as it happens, until Ctrl-C

It works without the daemon, too, for those who may read the state directory.";

/// Between two looks with `--follow`.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which events.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Not before: a duration before now, such as 2h, or a time, such as 2026-11-21T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = source::moment)]
    since: Option<Timestamp>,
    /// Before, given as in --since.
    #[arg(long, value_name = "TIME", value_parser = source::moment, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// Only of this backend.
    #[arg(long, value_name = "NAME", value_parser = super::backend::name::<BackendName>)]
    backend: Option<BackendName>,
    /// Only of this service.
    #[arg(long, value_name = "NAME", value_parser = super::backend::name::<ServiceName>)]
    service: Option<ServiceName>,
    /// At most so many, the newest; of what follows, all.
    #[arg(long, default_value_t = DEFAULT_EVENTS as u64,
          value_parser = clap::value_parser!(u64).range(1..=MAX_EVENTS as u64))]
    limit: u64,
    /// Go on with events as they happen, one a line.
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Outcome {
    let params = EventParams {
        since: args.since,
        until: args.until,
        backend: args.backend.map(String::from),
        service: args.service.map(String::from),
        after: None,
        limit: usize::try_from(args.limit).ok(),
    };
    let events = source::events(context, &params).await?;
    if args.follow { follow(context, params, events).await } else { context.output.show(events, render) }
}

/// Prints events one a line, and then each second those that have come.
async fn follow(context: &Context, mut params: EventParams, first: Events) -> Outcome {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let mut events = first;
    let mut last = 0;
    loop {
        for event in events.events {
            last = event.id;
            let reader = match context.output.format {
                Format::Json => context.output.show_line(event)?,
                Format::Table => context.output.print(&line(&plain::document(&event)?, context.output.paint()))?,
            };
            if reader == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
            }
        }
        // What is behind a limit is not waited for.
        if !(events.more && params.after.is_some()) {
            ticks.tick().await;
        }
        // Once there is a number to go on from, the clock may be set back without hiding anything.
        let since = params.since.filter(|_| last == 0);
        params = EventParams { since, after: Some(last), limit: Some(MAX_EVENTS), ..params };
        events = source::events(context, &params).await?;
        if begun_anew(&events, last) {
            say("the journal was begun anew; what follows is from its beginning\n");
            last = 0;
            params.after = Some(last);
            events = source::events(context, &params).await?;
        }
    }
}

/// Whether the journal's numbers began again after `last` was seen: its file was removed, or put aside as damaged.
fn begun_anew(events: &Events, last: i64) -> bool {
    events.newest < last
}

fn render(events: &Events, paint: Paint) -> String {
    if events.events.is_empty() {
        return "no events match\n".into();
    }
    let more = if events.more { "older events match, too; --limit shows more of them\n" } else { "" };
    more.to_owned() + &table(&events.events).render(0, paint)
}

/// A table of events, in their order.
fn table(events: &[EventRecord]) -> Table {
    let mut table = Table::new(["TIME", "EVENT", "BACKEND", "SERVICE", "BY", "CAUSE"]).narrow(Some("CAUSE"), &["BY"]);
    for e in events {
        let (tone, kind) = kind(&e.kind);
        table.row([
            Cell::new(Tone::Plain, time(e.time)),
            Cell::new(tone, kind),
            e.backend.as_deref().unwrap_or_default().into(),
            e.service.as_deref().unwrap_or_default().into(),
            e.by.as_deref().unwrap_or_default().into(),
            e.cause.as_str().into(),
        ]);
    }
    table
}

/// One event on one line; columns cannot be as wide as what is not known yet.
fn line(event: &EventRecord, paint: Paint) -> String {
    let (tone, kind) = kind(&event.kind);
    let place = match (&event.backend, &event.service) {
        (Some(backend), Some(service)) => format!("{backend} in {service}: "),
        (Some(backend), None) => format!("{backend}: "),
        (None, Some(service)) => format!("{service}: "),
        (None, None) => String::new(),
    };
    format!("{}  {}  {place}{}\n", time(event.time), paint.text(tone, &format!("{kind:<16}")), event.cause)
}

/// To the second, in UTC.
pub(super) fn time(time: Timestamp) -> String {
    time.round(jiff::Unit::Second).map_or_else(|_| time.to_string(), |t| t.to_string())
}

/// A kind in words; its own name, if this version does not know it.
pub(super) fn kind(name: &str) -> (Tone, String) {
    let known: Option<EventKind> = serde_json::from_value(name.into()).ok();
    (
        known.map_or(Tone::Plain, words::event_tone),
        known.map_or_else(|| name.replace('_', " "), |k| words::event(k).into()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn render_of_events_is_in_their_order_and_says_that_there_are_more() {
        let expected = "\
older events match, too; --limit shows more of them
TIME                  EVENT            BACKEND  SERVICE  BY  CAUSE
2026-03-01T11:10:00Z  configured                             start
2026-03-01T11:10:00Z  in rotation      web-01   www          2 probes succeeded
2026-03-01T11:56:00Z  down             web-02   www          3 probes failed: connection refused
2026-03-01T11:56:00Z  OUT of rotation  web-02   www          probe failed: connection refused
";
        assert_eq!(render(&testing::events(), Paint::PLAIN), expected);
        let none = Events { events: vec![], ..testing::events() };
        assert_eq!(render(&none, Paint::PLAIN), "no events match\n");
    }

    #[test]
    fn line_of_an_event_names_its_place_and_an_unknown_kind_by_its_own_name() {
        let event = testing::events().events[2].clone();
        let text = line(&event, Paint::PLAIN);
        assert_eq!(
            text,
            "2026-03-01T11:56:00Z  down              web-02 in www: 3 probes failed: connection refused\n"
        );
        let later = EventRecord { kind: "comet_passed".into(), service: None, ..event };
        assert!(
            line(&later, Paint::PLAIN).contains("comet passed      web-02: 3 probes"),
            "{}",
            line(&later, Paint::PLAIN)
        );
    }

    #[test]
    fn journal_with_lower_numbers_than_were_seen_was_begun_anew() {
        let events = Events { newest: 7, ..testing::events() };
        assert!(begun_anew(&events, 8) && !begun_anew(&events, 7));
    }
}
