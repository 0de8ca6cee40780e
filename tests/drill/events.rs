//! What the balancer itself writes down, as it happens: its journal, followed by `rollcall events --follow`.

use std::path::PathBuf;

use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::binary;
use serde_json::Value;

use crate::stage::Stage;

/// Kinds that belong to the story. The others are how a balancer starts, and alerts, which the story shows where they arrive.
const TOLD: [&str; 21] = [
    "drained",
    "maintenance",
    "lease_extended",
    "lease_ending",
    "lease_ended",
    "restored",
    "recalled",
    "too_few",
    "return_failed",
    "in_rotation",
    "out_of_rotation",
    "removed",
    "returned",
    "memory_short",
    "memory_ample",
    "memory_ends",
    "memory_unknown",
    "shed",
    "shedding_stuck",
    "down",
    "overdue",
];

/// A journal that is followed.
pub struct Journal {
    _follower: Process,
    log: PathBuf,
    read: usize,
}

impl Journal {
    /// Begins to follow.
    pub fn follow(stage: &Stage) -> Self {
        let log = stage.bed.scratch.path("events.jsonl");
        let mut command = stage.bed.edge.command(binary());
        command.arg("--config").arg(stage.rollcall.file()).arg("--socket").arg(stage.rollcall.socket());
        command.args(["events", "--follow", "--output", "json"]);
        Self { _follower: Process::spawn("rollcall events --follow", &mut command, &log), log, read: 0 }
    }

    /// Events of the story since the last call, each once.
    pub fn new_events(&mut self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let new = text.get(self.read..whole).unwrap_or_default();
        self.read = whole;
        let events = new.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["kind"].as_str().is_some_and(|kind| TOLD.contains(&kind))).collect()
    }
}

/// One line of an event.
pub fn in_words(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let by = match text("by") {
        "" | "the daemon" => String::new(),
        who => format!(" (by {who})"),
    };
    format!("{} {}: {}{by}", text("backend"), text("kind").replace('_', " "), text("cause"))
}
