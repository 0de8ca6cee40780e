//! How a server's memory follows its flows.
//!
//! A robust slope ([`theil_sen`]) of used memory (reclaimable excluded) on active flows, over means of five minutes, at
//! most five hours of them. It is used only if it is narrow and rising: neighbouring means are not independent, so the
//! interval is rather too small, and a leak or a cache would hide in it. It says nothing far from what was seen.

use std::collections::VecDeque;

use super::super::api::Time;
use super::super::memory::sample::Sample;
use super::super::memory::theil_sen::{self, Slope};

const BIN_MS: u64 = 5 * 60_000;
const BINS: usize = 60;
/// Fewer means give no line.
const ENOUGH: usize = 12;
/// The upper end of the slope may be so many times the lower one.
const NARROW: f64 = 2.0;
/// The flows that were seen must differ by this factor.
const SPREAD: f64 = 1.25;
/// How far beyond the most flows that were seen it is believed.
const BEYOND: f64 = 2.0;

/// A line through what is now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Bytes of each flow more.
    slope: Slope,
    /// The last mean: flows and bytes.
    flows: f64,
    used_bytes: f64,
    total_bytes: f64,
    /// The most flows that were seen.
    most: f64,
}

impl Line {
    /// Headroom at so many active flows, by the upper and by the lower end of the slope; 0 to 1, below 0 if there would be
    /// none. `None`: farther from what was seen than it is believed.
    pub fn headroom_at(&self, flows: u64) -> Option<(f64, f64)> {
        let flows = flows as f64;
        if flows > self.most * BEYOND {
            return None;
        }
        let at = |slope: f64| 1.0 - (self.used_bytes + slope * (flows - self.flows)) / self.total_bytes;
        let (a, b) = (at(self.slope.high), at(self.slope.low));
        Some((a.min(b), a.max(b)))
    }

    /// Bytes that each flow takes.
    pub fn bytes_per_flow(&self) -> Slope {
        self.slope
    }
}

#[derive(Clone, Copy, Debug)]
struct Bin {
    index: u64,
    flows: f64,
    used: f64,
    count: f64,
}

/// Flows and memory of one server over the last five hours. Bounded; not kept across a restart.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    bins: VecDeque<Bin>,
    total_bytes: f64,
}

impl Follower {
    /// Takes the active flows of the whole server, of all its services, and a good sample of about the same time. Another
    /// limit begins afresh.
    pub fn record(&mut self, flows: u64, sample: &Sample, now: Time) {
        let total = sample.total_bytes as f64;
        if total != self.total_bytes {
            (self.bins, self.total_bytes) = (VecDeque::new(), total);
        }
        let index = now.boot_ms / BIN_MS;
        if self.bins.back().is_none_or(|bin| bin.index < index) {
            self.bins.push_back(Bin { index, flows: 0.0, used: 0.0, count: 0.0 });
        }
        let Some(bin) = self.bins.back_mut() else { return };
        bin.flows += flows as f64;
        bin.used += sample.used_bytes() as f64;
        bin.count += 1.0;
        while self.bins.front().is_some_and(|bin| bin.index + BINS as u64 <= index) {
            self.bins.pop_front();
        }
    }

    /// The line, if there is one that can be relied on. All pairs of points are compared: ask when a bin is new, not with
    /// each packet.
    pub fn line(&self) -> Option<Line> {
        let points: Vec<(f64, f64)> =
            self.bins.iter().map(|bin| (bin.flows / bin.count, bin.used / bin.count)).collect();
        let flows = |f: fn(f64, f64) -> f64, none: f64| points.iter().map(|p| p.0).fold(none, f);
        let (least, most) = (flows(f64::min, f64::INFINITY), flows(f64::max, 0.0));
        if points.len() < ENOUGH || most < least * SPREAD {
            return None;
        }
        let slope = theil_sen::slope(&points)?;
        let &(flows, used_bytes) = points.last()?;
        let narrow = slope.low > 0.0 && slope.high <= slope.low * NARROW;
        narrow.then_some(Line { slope, flows, used_bytes, total_bytes: self.total_bytes, most })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::memory::models::{Noise, TOTAL, sample};
    use super::*;

    /// A server over some hours: `used` by active flows and hour, flows between the two over a wave of four hours.
    fn follow(hours: u64, flows: (f64, f64), used: impl Fn(f64, f64) -> f64) -> Option<Line> {
        let mut noise = Noise::new(3);
        let mut follower = Follower::default();
        for s in (0..hours * 3600).step_by(30) {
            let hour = s as f64 / 3600.0;
            let wave = 0.5 - 0.5 * (std::f64::consts::TAU * hour / 4.0).cos();
            let now = flows.0 + (flows.1 - flows.0) * wave;
            let time = Time { boot_ms: 1000 * s, wall_ms: 0 };
            follower.record(now as u64, &sample(used(now, hour) + 0.005 * noise.normal()), time + Duration::ZERO);
        }
        follower.line()
    }

    #[test]
    fn memory_that_follows_flows_is_predicted() {
        let line = follow(6, (1000.0, 4000.0), |flows, _| 0.2 + flows / 10_000.0).unwrap();
        let per_flow = TOTAL / 10_000.0;
        assert!((line.bytes_per_flow().middle / per_flow - 1.0).abs() < 0.05);
        let (low, high) = line.headroom_at(6000).unwrap();
        assert!(low <= 0.2 && 0.2 <= high + 0.02 && high - low < 0.1, "{low} {high}");
        assert_eq!(line.headroom_at(8100), None);
    }

    #[test]
    fn memory_that_does_not_follow_flows_has_no_line() {
        assert_eq!(follow(6, (1000.0, 4000.0), |_, _| 0.5), None);
        // The same flows all the time say nothing, nor do fifty minutes.
        assert_eq!(follow(6, (1000.0, 1100.0), |flows, _| 0.2 + flows / 10_000.0), None);
        assert_eq!(follow(1, (1000.0, 4000.0), |flows, _| 0.2 + flows / 10_000.0).map(|_| ()), Some(()));
        // A leak over it makes the interval wide.
        assert_eq!(follow(6, (1000.0, 1500.0), |flows, hour| 0.1 + flows / 10_000.0 + 0.1 * hour), None);
    }
}
