//! Says what happens as it happens, on standard error: seconds since the story began, whose story, what. All stories run on
//! one clock.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

/// The clock, and what was said by it.
pub struct Narrator {
    begun: Instant,
    begun_wall: Timestamp,
    said: Mutex<Vec<Line>>,
}

/// One thing that was said.
#[derive(Clone, Debug)]
pub struct Line {
    /// Seconds since the beginning.
    pub at: f64,
    /// Whose story.
    pub story: &'static str,
    /// What.
    pub text: String,
}

impl Narrator {
    /// The story begins now.
    pub fn begin() -> Self {
        Self { begun: Instant::now(), begun_wall: Timestamp::now(), said: Mutex::default() }
    }

    /// Seconds since the beginning.
    pub fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// When the story began, by the wall clock.
    pub fn begun(&self) -> Timestamp {
        self.begun_wall
    }

    /// Seconds from the beginning to a moment.
    pub fn at(&self, moment: Instant) -> f64 {
        moment.saturating_duration_since(self.begun).as_secs_f64()
    }

    /// Seconds from the beginning to a moment of a document.
    pub fn at_time(&self, time: &str) -> Option<f64> {
        let time: Timestamp = time.parse().ok()?;
        Some(time.duration_since(self.begun_wall).as_secs_f64())
    }

    /// Says something now.
    pub fn say(&self, story: &'static str, text: &str) {
        self.say_at(self.now(), story, text);
    }

    /// Says something that happened a moment ago.
    pub fn say_at(&self, at: f64, story: &'static str, text: &str) {
        eprintln!("{at:6.1} s  {story:<9}  {text}");
        let line = Line { at, story, text: text.to_owned() };
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// All that was said, in the order of its times.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lines.sort_by(|a, b| a.at.total_cmp(&b.at));
        lines
    }
}
