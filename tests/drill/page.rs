//! The page that the drill ends with, for people and for scripts.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::model;
use crate::narrator::Line;
use crate::outcome::Outcome;
use crate::stage::NAMES;
use crate::story::Kind;
use crate::trainee::Deed;

/// Requests of the last so many seconds are told apart, since they show how it stands at the end.
const LATELY_S: f64 = 10.0;

/// Width of a column of the table.
const COLUMN: usize = 30;

/// All that the drill found.
pub struct Page {
    outcomes: Vec<Outcome>,
    lines: Vec<Line>,
    /// What the trainee did, if there was one.
    deeds: Option<Vec<Deed>>,
}

impl Page {
    /// From the stories.
    pub fn new(outcomes: Vec<Outcome>, lines: Vec<Line>, deeds: Option<Vec<Deed>>) -> Self {
        Self { outcomes, lines, deeds }
    }

    /// Whether all is as Rollcall promises, and the plain balancer showed why.
    pub fn is_good(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.faults().is_empty())
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\n# The drill: a server taken out for a test, and forgotten\n\n{}", model::text())?;
        self.write_table(text)?;
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.told.is_empty()) {
            writeln!(text, "\n## Who was told what ({})\n", heading(outcome.kind))?;
            for told in &outcome.told {
                writeln!(text, "{:6.1} s  {}", told.at, told.in_words())?;
            }
        }
        if let Some(deeds) = &self.deeds {
            self.write_deeds(text, deeds)?;
        }
        let reported = self.outcomes.iter().find_map(|outcome| Some((outcome.kind, outcome.report.as_ref()?)));
        if let Some((kind, report)) = reported {
            writeln!(text, "\n## What `rollcall report` wrote ({})\n", heading(kind))?;
            report.lines().try_for_each(|line| writeln!(text, "    {line}"))?;
        }
        self.write_verdict(text)
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        let mut row = |label: &str, cell: &dyn Fn(&Outcome) -> String| {
            let cells: Vec<String> = self.outcomes.iter().map(|o| format!("{:<COLUMN$}", cell(o))).collect();
            writeln!(text, "{}", format!("{label:<26}{}", cells.join("  ")).trim_end())
        };
        row("", &|o| heading(o.kind).to_owned())?;
        row("web-02 taken out", &|o| moment(o.out))?;
        row("  the balancer said", &|o| {
            if o.warning.is_some() { "sure? (exit code 75)" } else { "nothing" }.to_owned()
        })?;
        row("  reminder of the end", &|o| moment(o.reminded))?;
        row("first word to a person", &|o| match o.first_word() {
            Some(told) => format!("at {:.1} s: {}", told.at, told.condition),
            None => "none".to_owned(),
        })?;
        row("web-02 back", &|o| match &o.back {
            Some(back) => format!("at {:.1} s: {}", back.at, back.how),
            None => "never".to_owned(),
        })?;
        row("  out for", &|o| o.out_for().map_or_else(|| "ever".to_owned(), |s| format!("{s:.1} s")))?;
        row("web-01's least headroom", &|o| match o.killed[0] {
            Some(at) => format!("none: killed at {at:.1} s"),
            None => format!("{:.1} % at {:.1} s", 100.0 * o.least.0, o.least.1),
        })?;
        row("requests answered", &|o| o.answered.to_string())?;
        row("requests failed", &|o| o.failures.len().to_string())?;
        row("  of those, the first", &|o| moment(o.failures.first().map(|(at, _)| *at)))?;
        row("  in the last 10 s", &|o| lately(o).to_string())?;
        row("slowest answer", &|o| format!("{} ms", o.slowest.as_millis()))
    }

    fn write_deeds(&self, text: &mut String, deeds: &[Deed]) -> std::fmt::Result {
        writeln!(text, "\n## What you did\n")?;
        if deeds.is_empty() {
            writeln!(text, "Nothing in this terminal: the story went on by itself.")?;
        }
        for Deed { at, command, code } in deeds {
            let result = if *code == 0 { String::new() } else { format!("   (exit code {code})") };
            writeln!(text, "{at:6.1} s  rollcall {command}{result}")?;
        }
        let restored = self.outcomes.iter().filter_map(|o| o.back.as_ref()).find(|back| back.how == "restored by hand");
        match (restored, self.outcomes.iter().find_map(Outcome::first_word)) {
            (Some(back), Some(told)) if back.at >= told.at => {
                writeln!(text, "\nweb-02 was back {:.1} s after the first word to you.", back.at - told.at)
            }
            (Some(_), _) => writeln!(text, "\nweb-02 was back before anybody had to be told."),
            (None, _) => Ok(()),
        }
    }

    fn write_verdict(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\n## Verdict\n")?;
        for outcome in &self.outcomes {
            let faults = outcome.faults();
            if !faults.is_empty() {
                writeln!(text, "NOT as promised ({}): {}.", heading(outcome.kind), faults.join("; "))?;
            } else if outcome.kind == Kind::Plain {
                writeln!(
                    text,
                    "Plain balancer: web-01 took every request until its memory ran out{}; from then on every\n\
                     request failed, and nobody had been told. It stays so until somebody finds out: that took 36 hours.",
                    outcome.killed[0].map(|at| format!(" at {at:.1} s")).unwrap_or_default()
                )?;
            } else if let Some(back) = &outcome.back {
                let for_s = outcome.out_for().unwrap_or_default();
                let least = 100.0 * outcome.least.0;
                writeln!(
                    text,
                    "{}: as promised. web-02 was back after {for_s:.1} s\n\
                     ({}), no request failed, and web-01 never had less than {least:.0} % of its memory free.",
                    heading(outcome.kind),
                    back.how
                )?;
            }
        }
        Ok(())
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let line = |line: &Line| json!({ "at_s": line.at, "story": line.story, "text": line.text });
        let deed = |deed: &Deed| json!({ "at_s": deed.at, "command": deed.command, "exit_code": deed.code });
        json!({
            "schema": "rollcall.drill/v1",
            "good": self.is_good(),
            "model": {
                "limit_bytes": model::LIMIT,
                "in_flight_bytes": model::IN_FLIGHT,
                "work_ms": model::WORK.as_millis(),
                "retained_bytes": model::RETAINED,
                "retained_mean_s": model::RETAINED_FOR.as_secs(),
                "users_quiet": model::QUIET,
                "users_peak": model::PEAK,
                "servers": NAMES,
            },
            "stories": self.outcomes.iter().map(Outcome::json).collect::<Vec<_>>(),
            "trainee": self.deeds.as_ref().map(|deeds| deeds.iter().map(deed).collect::<Vec<_>>()),
            "timeline": self.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }
}

fn heading(kind: Kind) -> &'static str {
    match kind {
        Kind::Plain => "plain balancer",
        Kind::Recall => "Rollcall, drained for 30 m",
        Kind::LeaseEnd => "Rollcall, drained for 30 s",
    }
}

fn moment(at: Option<f64>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("at {at:.1} s"))
}

fn lately(outcome: &Outcome) -> usize {
    outcome.failures.iter().filter(|(at, _)| *at > outcome.ended - LATELY_S).count()
}
