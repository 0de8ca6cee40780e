//! A window of time, thinned to a fixed number of bins: bounded memory however often samples come.

use std::collections::VecDeque;

/// Bins of a window. All pairs of them are 435: what one slope costs.
pub const BINS: u64 = 30;

#[derive(Clone, Debug)]
struct Bin {
    /// Its number since boot.
    index: u64,
    /// Sum of the samples' times after the bin's beginning, ms.
    offsets_ms: u64,
    /// Sum of the samples.
    sum: f64,
    count: u32,
}

/// The means of what was recorded in the last while, in equal bins by time.
#[derive(Clone, Debug)]
pub struct Window {
    bin_ms: u64,
    bins: VecDeque<Bin>,
}

impl Window {
    /// An empty window of so many ms, a multiple of [`BINS`].
    pub fn new(length_ms: u64) -> Self {
        Self { bin_ms: length_ms / BINS, bins: VecDeque::new() }
    }

    /// Takes a value. Time does not go back; a value of an earlier bin counts for the last one.
    pub fn record(&mut self, value: f64, now_ms: u64) {
        let index = now_ms / self.bin_ms;
        match self.bins.back_mut() {
            Some(bin) if bin.index >= index => {
                bin.offsets_ms += now_ms.saturating_sub(bin.index * self.bin_ms);
                bin.sum += value;
                bin.count += 1;
            }
            _ => self.bins.push_back(Bin { index, offsets_ms: now_ms % self.bin_ms, sum: value, count: 1 }),
        }
        while self.bins.front().is_some_and(|bin| bin.index + BINS <= index) {
            self.bins.pop_front();
        }
    }

    /// Mean time (seconds since boot) and mean value of each bin that is not empty, oldest first.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let point = |bin: &Bin| {
            let count = f64::from(bin.count);
            let ms = (bin.index * self.bin_ms) as f64 + bin.offsets_ms as f64 / count;
            (ms / 1000.0, bin.sum / count)
        };
        self.bins.iter().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_keeps_the_means_of_its_last_bins_only() {
        let mut window = Window::new(30_000);
        for ms in (0..60_000_u64).step_by(250) {
            window.record(ms as f64, ms);
        }
        let points = window.points();
        assert_eq!(points.len(), 30);
        assert_eq!(points[0], (30.375, 30_375.0));
        assert_eq!(points[29], (59.375, 59_375.0));
    }

    #[test]
    fn window_after_a_gap_forgets_what_lies_too_far_back() {
        let mut window = Window::new(30_000);
        window.record(1.0, 500);
        window.record(2.0, 20_500);
        assert_eq!(window.points(), [(0.5, 1.0), (20.5, 2.0)]);
        window.record(3.0, 31_500);
        assert_eq!(window.points(), [(20.5, 2.0), (31.5, 3.0)]);
    }
}
