//! When it is over: all stories end together, once each has come to its point and that was watched for a while. One that
//! does not come to its point ends all the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::story::Kind;

/// A story that has no point by then has none.
const LONGEST: Duration = Duration::from_secs(150);

/// Shared by the stories of one run.
pub struct Curtain {
    begun: Instant,
    /// When each story came to its point.
    points: Mutex<BTreeMap<&'static str, Option<Instant>>>,
}

impl Curtain {
    /// Before the stories begin.
    pub fn new(kinds: &[Kind]) -> Self {
        let points = kinds.iter().map(|kind| (kind.name(), None)).collect();
        Self { begun: Instant::now(), points: Mutex::new(points) }
    }

    /// This story has come to its point.
    pub fn done(&self, kind: Kind) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        points.entry(kind.name()).or_default().get_or_insert_with(Instant::now);
    }

    /// Whether it is over, with an epilogue of this length.
    pub fn is_down(&self, epilogue: Duration) -> bool {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let last = points.values().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        last.is_some_and(|at| at.elapsed() >= epilogue) || self.begun.elapsed() >= LONGEST
    }
}
