//! What the balancer itself writes down, as it happens: its journal, followed by `rollcall events --follow`.

use std::path::PathBuf;

use lb_tests::testbed::process::Process;
use lb_tests::testbed::rollcall::binary;
use serde_json::Value;

use crate::stage::Stage;

/// Begins the kinds that the story shows where they arrive.
const ALERTS: &str = "alert_";

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

    /// Events since the last call, each once; the first ones are from before the story.
    pub fn new_events(&mut self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let new = text.get(self.read..whole).unwrap_or_default();
        self.read = whole;
        let events = new.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["kind"].as_str().is_some_and(|kind| !kind.starts_with(ALERTS))).collect()
    }
}

/// One line of an event.
pub fn in_words(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let subject = match (text("backend"), text("service")) {
        ("", "") => "the balancer",
        ("", service) => service,
        (backend, _) => backend,
    };
    let by = match text("by") {
        "" | "the daemon" => String::new(),
        who => format!(" (by {who})"),
    };
    format!("{subject} {}: {}{by}", text("kind").replace('_', " "), text("cause"))
}
