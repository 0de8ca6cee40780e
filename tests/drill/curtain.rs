//! When it is over: all stories end together, once each is told. One that does not come to its point ends all the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::story::Kind;

/// A story that has no point by then has none.
const LONGEST: Duration = Duration::from_secs(150);

/// Shared by the stories of one run.
pub struct Curtain {
    begun: Instant,
    /// Whether each story is told.
    told: Mutex<BTreeMap<&'static str, bool>>,
}

impl Curtain {
    /// Before the stories begin.
    pub fn new(kinds: &[Kind]) -> Self {
        let told = kinds.iter().map(|kind| (kind.name(), false)).collect();
        Self { begun: Instant::now(), told: Mutex::new(told) }
    }

    /// This story is told.
    pub fn done(&self, kind: Kind) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.name(), true);
    }

    /// Whether it is over.
    pub fn is_down(&self) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.values().all(|told| *told) || self.begun.elapsed() >= LONGEST
    }
}
