//! What was usual: the median of a day's windows, which neither a bad hour nor a single outlier moves.

use std::collections::VecDeque;

/// Windows kept.
const KEPT: usize = 288;
/// Fewer say nothing yet.
const LEAST: usize = 6;

/// Values of past windows, the oldest first. Bad ones are kept, too: what lasts for half of what is remembered is usual.
#[derive(Clone, Debug, Default)]
pub(super) struct Past(VecDeque<f64>);

impl Past {
    /// What was usual before `value`, which is kept for the next.
    pub(super) fn usual_before(&mut self, value: f64) -> Option<f64> {
        let usual = (self.0.len() >= LEAST).then(|| median(self.0.iter().copied().collect()));
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(value);
        usual.flatten()
    }
}

/// The middle value; of two, the lower.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}
