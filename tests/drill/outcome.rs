//! What came of one story, and whether it is what Rollcall promises.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::NAMES;
use crate::story::Kind;

/// The least share of its memory that a server may have left: below it Rollcall calls memory exhausted.
pub const EXHAUSTED: f64 = 0.05;

/// The result. Times are seconds since the beginning.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whose story.
    pub kind: Kind,
    /// When `web-02` was taken out.
    pub out: Option<f64>,
    /// What the balancer said against it.
    pub warning: Option<String>,
    /// When the journal reminded of the end.
    pub reminded: Option<f64>,
    /// The last word on its way back, with the cause.
    pub return_of: Option<(String, String)>,
    /// When and how it came back.
    pub back: Option<Return>,
    /// The least headroom of `web-01`, and when.
    pub least: (f64, f64),
    /// When the kernel killed each server.
    pub killed: [Option<f64>; 2],
    /// Messages that people got.
    pub told: Vec<Told>,
    /// Requests answered.
    pub answered: u64,
    /// Requests that failed: when, and why.
    pub failures: Vec<(f64, String)>,
    /// Time that the slowest answer took.
    pub slowest: Duration,
    /// When it was over.
    pub ended: f64,
    /// What `rollcall report` wrote.
    pub report: Option<String>,
}

/// How `web-02` came back.
#[derive(Clone, Debug)]
pub struct Return {
    /// When it was in rotation again.
    pub at: f64,
    /// In short.
    pub how: String,
    /// The cause that the journal gives.
    pub why: String,
}

/// A message to a person.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it arrived.
    pub at: f64,
    /// Who got it.
    pub route: String,
    /// `firing` or `resolved`.
    pub status: String,
    /// How bad it is.
    pub severity: String,
    /// What it is about.
    pub condition: String,
    /// In a sentence.
    pub summary: String,
}

impl Told {
    /// From what a webhook got.
    pub fn new(at: f64, alert: &Value) -> Self {
        let text = |key: &str| alert[key].as_str().unwrap_or("?").to_owned();
        let [route, status, severity] = ["route", "status", "severity"].map(text);
        let [condition, summary] = ["condition", "summary"].map(text);
        Self { at, route, status, severity, condition, summary }
    }

    /// In a line.
    pub fn in_words(&self) -> String {
        let Self { route, status, severity, condition, summary, .. } = self;
        match status.as_str() {
            "resolved" => format!("to {route}: {condition} is over: {summary}"),
            _ => format!("to {route} ({severity}): {condition}: {summary}"),
        }
    }
}

impl Outcome {
    /// Nothing has happened yet.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            out: None,
            warning: None,
            reminded: None,
            return_of: None,
            back: None,
            least: (1.0, 0.0),
            killed: [None; 2],
            told: Vec::new(),
            answered: 0,
            failures: Vec::new(),
            slowest: Duration::ZERO,
            ended: 0.0,
            report: None,
        }
    }

    /// What is not as it must be, in sentences.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.kind == Kind::Plain {
            if self.killed[0].is_none() {
                faults.push(
                    "the plain balancer's web-01 lived, so nothing was shown: the machine was too busy to send the load"
                        .to_owned(),
                );
            }
            return faults;
        }
        for (name, at) in NAMES.iter().zip(self.killed).filter_map(|(name, at)| Some((name, at?))) {
            faults.push(format!("{name}'s memory ran out: the kernel killed it at {at:.1} s"));
        }
        if self.least.0 < EXHAUSTED {
            let (least, at) = self.least;
            faults.push(format!("only {:.1} % of web-01's memory were free at {at:.1} s", 100.0 * least));
        }
        if let Some((at, why)) = self.failures.first() {
            faults.push(format!("{} requests failed, the first at {at:.1} s: {why}", self.failures.len()));
        }
        if self.back.is_none() {
            faults.push("web-02 did not come back".to_owned());
        }
        if self.told.is_empty() && self.warning.is_none() {
            faults.push("nobody was told anything".to_owned());
        }
        faults
    }

    /// How long `web-02` was out, if it came back.
    pub fn out_for(&self) -> Option<f64> {
        Some(self.back.as_ref()?.at - self.out?)
    }

    /// The first message to a person.
    pub fn first_word(&self) -> Option<&Told> {
        self.told.iter().find(|told| told.status == "firing")
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let told = self.told.iter().map(|told| {
            json!({
                "at_s": told.at,
                "route": told.route,
                "status": told.status,
                "severity": told.severity,
                "condition": told.condition,
                "summary": told.summary,
            })
        });
        json!({
            "story": self.kind.name(),
            "faults": self.faults(),
            "out_at_s": self.out,
            "warning": self.warning,
            "reminded_at_s": self.reminded,
            "back_at_s": self.back.as_ref().map(|back| back.at),
            "back_by": self.back.as_ref().map(|back| &back.how),
            "back_because": self.back.as_ref().map(|back| &back.why),
            "out_for_s": self.out_for(),
            "least_headroom_ratio": self.least.0,
            "least_headroom_at_s": self.least.1,
            "killed_at_s": { NAMES[0]: self.killed[0], NAMES[1]: self.killed[1] },
            "requests_answered": self.answered,
            "requests_failed": self.failures.len(),
            "slowest_ms": self.slowest.as_secs_f64() * 1e3,
            "ended_at_s": self.ended,
            "told": told.collect::<Vec<_>>(),
            "report": self.report,
        })
    }
}
