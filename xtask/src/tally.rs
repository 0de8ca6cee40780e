//! What test binaries run by `cargo test` say of themselves, added up: cargo prints no sum over several of them.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::sys;

/// Counted tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Runs a command with its output shown, and counts. Whether it succeeded is its own word.
    pub fn run(&mut self, command: &mut Command) -> Result<bool> {
        let what = sys::line(command);
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {what}"))?;
        let mut counted = Self::default();
        for line in BufReader::new(child.stdout.take().expect("it is piped")).split(b'\n') {
            let line = line.with_context(|| format!("cannot read what {what} prints"))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            counted.read(&line);
        }
        let success = child.wait().with_context(|| format!("cannot wait for {what}"))?.success();
        if !success && counted.failed == 0 {
            eprintln!("{what} failed though no test did: it did not build, or a test binary died. This counts as one.");
            counted.failed = 1;
        }
        self.passed += counted.passed;
        self.failed += counted.failed;
        Ok(success)
    }

    /// Counts a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for (number, name) in counts.split("; ").filter_map(|count| count.split_once(' ')) {
            let number = number.parse().unwrap_or(0);
            match name {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_are_added_up() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tally.read("test case::passed ... ok");
        tally.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!(tally.to_string(), "15 passed, 2 failed");
    }

    #[test]
    fn a_command_that_fails_without_a_result_counts_as_a_failure() {
        let mut tally = Tally::default();
        let good = tally.run(Command::new("sh").args(["-c", "echo 'test result: ok. 4 passed; 0 failed'; exit 101"]));
        assert!(!good.expect("a shell runs"));
        assert_eq!(tally, Tally { passed: 4, failed: 1 });
    }
}
