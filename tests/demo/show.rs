//! The live picture: one line a second on standard error.

use std::time::{Duration, Instant};

use lb_tests::testbed::interrupt::{self, Interrupted};
use lb_tests::testbed::load::{Load, Tally};

const SECOND: Duration = Duration::from_secs(1);

/// Prints what goes where.
pub struct Show {
    begun: Instant,
    last: Tally,
    printed: Instant,
}

impl Show {
    /// Begins now.
    pub fn begin() -> Self {
        Self { begun: Instant::now(), last: Tally::default(), printed: Instant::now() }
    }

    /// Time since the beginning.
    pub fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.begun)
    }

    /// Says what happens.
    pub fn say(&self, text: &str) {
        eprintln!("{:6.1} s  {text}", self.at(Instant::now()).as_secs_f64());
    }

    /// Shows the load for a while.
    pub fn watch(&mut self, load: &[Load], length: Duration) -> Result<(), Interrupted> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            interrupt::wait_until((self.printed + SECOND).min(end))?;
            self.tick(load);
        }
        Ok(())
    }

    /// Prints a line if a second has passed since the last.
    pub fn tick(&mut self, load: &[Load]) {
        let passed = self.printed.elapsed();
        if passed < SECOND {
            return;
        }
        let now = sum(load);
        let answered = now.answered - self.last.answered;
        let new = now.since(&self.last);
        let shares: Vec<String> =
            now.chosen.keys().map(|name| format!("{name} {:3.0} %", 100.0 * new.share(name))).collect();
        let failed = now.failures.len() - self.last.failures.len();
        self.say(&format!(
            "{:6.0} requests/s   new connections: {}   {failed} failed",
            answered as f64 / passed.as_secs_f64(),
            shares.join("   ")
        ));
        self.last = now;
        self.printed = Instant::now();
    }
}

/// All of it so far.
pub fn sum(load: &[Load]) -> Tally {
    load.iter().fold(Tally::default(), |mut sum, load| {
        sum.add(&load.so_far());
        sum
    })
}
