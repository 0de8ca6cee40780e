//! Waiting for something to become true, with a deadline instead of a sleep.

use std::time::{Duration, Instant};

/// Time between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Looks until `look` returns a value; panics after `deadline`, saying `what` did not happen and what was seen last.
#[track_caller]
pub fn until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= end => {
                panic!("{what}: not within {:.1} s; last seen: {seen}", deadline.as_secs_f64())
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}
