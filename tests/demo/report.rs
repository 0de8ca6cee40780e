//! What the demo found, for people and for scripts.

use std::fmt::Write;
use std::time::Instant;

use lb_tests::testbed::load::{Failure, Tally};
use serde_json::{Value, json};

/// The life of the server that died.
pub struct Outage {
    /// Its name.
    pub backend: String,
    /// When it was killed.
    pub killed: Instant,
    /// When it was seen out of rotation.
    pub out: Instant,
    /// When it served again.
    pub restarted: Instant,
    /// When it was seen in rotation again.
    pub back: Instant,
}

/// The result.
pub struct Report {
    /// What came of HTTP before the failure, while the server was out of rotation, and after its return.
    parts: [Tally; 3],
    total: Tally,
    datagrams: Tally,
    outage: Outage,
    /// Failures that the killed server explains: on its connections, or new ones while it was still in rotation.
    explained: usize,
    settled: bool,
}

impl Report {
    /// From the three steady parts, and the whole.
    pub fn new(parts: [Tally; 3], total: Tally, datagrams: Tally, outage: Outage, status: &Value) -> Self {
        let explained = total.failures.iter().filter(|failure| outage.explains(failure)).count();
        Self { parts, total, datagrams, outage, explained, settled: status["settled"] == true }
    }

    /// Whether all is as Rollcall promises.
    pub fn is_good(&self) -> bool {
        self.unexplained() == 0 && self.datagrams.failures.is_empty() && self.settled
    }

    fn unexplained(&self) -> usize {
        self.total.failures.len() - self.explained
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Outage { backend, .. } = &self.outage;
        writeln!(text, "\nHTTP requests   {} answered, {} failed", self.total.answered, self.total.failures.len())?;
        writeln!(
            text,
            "                of those, {} were on {backend} when it was killed, {} were not",
            self.explained,
            self.unexplained()
        )?;
        for failure in self.total.failures.iter().filter(|failure| !self.outage.explains(failure)).take(5) {
            writeln!(text, "                unexplained: {failure:?}")?;
        }
        let answered = self.datagrams.answered;
        writeln!(text, "UDP             {answered} answered, {} not", self.datagrams.failures.len())?;
        writeln!(text, "out of rotation {:.2} s after the kill", self.outage.out_after())?;
        writeln!(text, "back            {:.2} s after it served again", self.outage.back_after())?;
        writeln!(text, "\nnew connections {:>9}  {:>9}  {:>9}", "before", "without", "after")?;
        for name in self.total.backends.keys() {
            let [before, without, after] =
                self.parts.each_ref().map(|part| format!("{:.1} %", 100.0 * part.share(name)));
            writeln!(text, "  {name:<14}{before:>9}  {without:>9}  {after:>9}")?;
        }
        writeln!(text, "\n{}", if self.is_good() { "All as promised." } else { "NOT as promised." })
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let backends: Vec<Value> = (self.total.backends.iter())
            .map(|(name, n)| {
                let [before, without, after] = self.parts.each_ref().map(|part| part.share(name));
                json!({
                    "backend": name,
                    "requests_answered": n,
                    "share_before": before,
                    "share_without": without,
                    "share_after": after,
                })
            })
            .collect();
        json!({
            "schema": "rollcall.demo/v1",
            "good": self.is_good(),
            "requests_answered": self.total.answered,
            "requests_failed": self.total.failures.len(),
            "requests_failed_unexplained": self.unexplained(),
            "connections": self.total.connections,
            "slowest_ms": self.total.slowest.as_secs_f64() * 1e3,
            "backends": backends,
            "udp_answered": self.datagrams.answered,
            "udp_failed": self.datagrams.failures.len(),
            "killed_backend": self.outage.backend,
            "out_of_rotation_after_ms": self.outage.out_after() * 1e3,
            "back_in_rotation_after_ms": self.outage.back_after() * 1e3,
            "settled": self.settled,
        })
    }
}

impl Outage {
    fn out_after(&self) -> f64 {
        self.out.duration_since(self.killed).as_secs_f64()
    }

    fn back_after(&self) -> f64 {
        self.back.duration_since(self.restarted).as_secs_f64()
    }

    /// A failure on the killed server's own connection, or of one opened between its death and its leaving.
    fn explains(&self, failure: &Failure) -> bool {
        match &failure.backend {
            Some(backend) => *backend == self.backend,
            None => (self.killed..=self.out).contains(&failure.at),
        }
    }
}
