//! When a server's memory ends, if it goes on like this.
//!
//! Owns the extrapolation and the condition of its alarm; not what is done about it. Robust slopes ([`super::theil_sen`])
//! of used memory (reclaimable excluded) over 10 minutes, 40 minutes and two hours. Of these the longest is taken whose
//! confidence interval agrees with those of all shorter ones, so that a steady leak is measured by all its history, and
//! one that has just begun by the last minutes: the rule of the intersection of confidence intervals (A. Goldenshluger,
//! A. Nemirovski, "On spatially adaptive estimation of nonparametric regression", Math. Methods of Statistics 6, 1997).
//!
//! "No trend" is an answer, and it is the answer to two things that rise without being a leak:
//!
//! - *A collector's sawtooth.* Memory that came back from a level within the two hours has no trend until it is clearly
//!   above it. A level at which next to nothing was left does not count: there nothing was given back, the process was
//!   killed. A sawtooth slower than the half hour that must have been seen cannot be told from a leak while its first
//!   tooth grows.
//! - *A cache that fills, a process that warms up.* If the window's second half rises less than its first, by more than
//!   chance, the rise goes on shrinking by that ratio: the limit of such a geometric series (A. C. Aitken, "On Bernoulli's
//!   numerical solution of algebraic equations", Proc. Roy. Soc. Edinburgh 46, 1926) may lie within what there is.

use std::time::Duration;

use super::super::api::Time;
use super::sample::Sample;
use super::theil_sen::{self, Slope, median};
use super::window::Window;

/// The windows, shortest first.
const WINDOWS_MS: [u64; 3] = [10 * MINUTE_MS, 40 * MINUTE_MS, 120 * MINUTE_MS];
/// So much of each window must be there, s.
const ENOUGH_S: [f64; 3] = [5.0 * 60.0, 20.0 * 60.0, 30.0 * 60.0];
/// Time between two looks.
const LOOK_MS: u64 = 2 * MINUTE_MS;
/// Without a sample for so long there is no forecast.
const STALE_MS: u64 = 2 * MINUTE_MS;
/// An end nearer than this alarms.
const ALARM: Duration = Duration::from_mins(30);
/// So many looks running raise the alarm.
const RAISES: u32 = 3;
/// So many looks running without its condition end the alarm.
const CLEARS: u32 = 5;
/// A fall by so much of all memory means that it came back from where it was.
const FALL: f64 = 0.05;
/// A level with less than this left is no level to come back from.
const NOTHING_LEFT: f64 = 0.05;
/// An end farther away is no trend: two hours say nothing about it.
const HORIZON: Duration = Duration::from_hours(7 * 24);

const MINUTE_MS: u64 = 60_000;

/// When memory ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forecast {
    /// Less than half an hour of samples, or none of late.
    CannotTell,
    /// It does not rise, or not in a way that could be told from chance.
    NoTrend,
    /// It rises, and there is nothing left after so long, counted from the last look.
    Exhausts {
        /// By the upper end of the slope's 95 % confidence interval.
        near: Duration,
        /// By the slope.
        middle: Duration,
        /// By the lower end of the interval.
        far: Duration,
    },
}

/// The alarm was raised or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Both windows rise, and the near end was under 30 minutes three times running.
    Raised,
    /// Not so for five looks running.
    Cleared,
}

/// Samples of one server, thinned, and the forecast by the last look at them. Bounded in memory and in work: at most one
/// look in two minutes, each for at most fifteen slopes over at most 30 points.
#[derive(Clone, Debug)]
pub struct Forecaster {
    windows: [Window; 3],
    last_ms: Option<u64>,
    next_look_ms: u64,
    forecast: Forecast,
    /// Looks running that differ from what the alarm says.
    running: u32,
    raised: Option<Time>,
}

impl Default for Forecaster {
    fn default() -> Self {
        Self {
            windows: WINDOWS_MS.map(Window::new),
            last_ms: None,
            next_look_ms: 0,
            forecast: Forecast::CannotTell,
            running: 0,
            raised: None,
        }
    }
}

impl Forecaster {
    /// Takes a good sample; looks at all of them if the last look was two minutes ago.
    pub fn record(&mut self, sample: &Sample, now: Time) -> Option<Change> {
        let used = sample.used_bytes() as f64;
        for window in &mut self.windows {
            window.record(used, now.boot_ms);
        }
        self.last_ms = Some(now.boot_ms);
        if now.boot_ms < self.next_look_ms {
            return None;
        }
        self.next_look_ms = now.boot_ms + LOOK_MS;
        let (forecast, both_rise) = self.look(sample.total_bytes as f64, now.boot_ms);
        self.forecast = forecast;
        let soon = matches!(forecast, Forecast::Exhausts { near, .. } if near < ALARM) && both_rise;
        if soon == self.raised.is_some() {
            self.running = 0;
            return None;
        }
        self.running += 1;
        if self.running < if soon { RAISES } else { CLEARS } {
            return None;
        }
        self.running = 0;
        self.raised = soon.then_some(now);
        Some(if soon { Change::Raised } else { Change::Cleared })
    }

    /// The forecast by the last look.
    pub fn forecast(&self, now: Time) -> Forecast {
        let fresh = self.last_ms.is_some_and(|last| now.boot_ms.saturating_sub(last) <= STALE_MS);
        if fresh { self.forecast } else { Forecast::CannotTell }
    }

    /// Since when the alarm stands. It outlives a silence of the source, which has an alarm of its own.
    pub fn raised(&self) -> Option<Time> {
        self.raised
    }

    /// The forecast, and whether both the shortest and the longest window rise.
    fn look(&self, total: f64, now_ms: u64) -> (Forecast, bool) {
        let now = now_ms as f64 / 1000.0;
        let points = self.windows.each_ref().map(Window::points);
        let enough = points.iter().zip(ENOUGH_S).all(|(points, enough)| span(points) >= enough);
        let fits = points.each_ref().map(|points| theil_sen::slope(points));
        let ([Some(near), Some(middle), Some(far)], true) = (fits, enough) else {
            return (Forecast::CannotTell, false);
        };
        let chosen = longest_that_agrees(&[(near, &points[0]), (middle, &points[1]), (far, &points[2])]);
        let slope = [near, middle, far][chosen];
        let level = level(&points[0], near.middle, now);
        let left = (total - level).max(0.0);
        let after = |slope: f64| Duration::try_from_secs_f64(left / slope).unwrap_or(Duration::MAX);
        let rises = slope.low > 0.0 && far.low > 0.0 && after(slope.middle) <= HORIZON;
        let below = |top: f64| level < top + FALL * total;
        let levels_off = || {
            points.iter().any(|points| {
                let parts = [&points[..], &points[points.len() / 2..]];
                parts.into_iter().any(|part| still_to_come(part).is_some_and(|rise| rise < left))
            })
        };
        if !rises || came_back(&points[2], total).is_some_and(below) || levels_off() {
            return (Forecast::NoTrend, false);
        }
        let exhausts =
            Forecast::Exhausts { near: after(slope.high), middle: after(slope.middle), far: after(slope.low) };
        // Not only its end: what began within it has risen for too short a time.
        let begun = |points: &[(f64, f64)]| theil_sen::slope(&points[..points.len() / 2]).is_some_and(|s| s.low > 0.0);
        (exhausts, near.low > 0.0 && (begun(&points[0]) || begun(&points[1])))
    }
}

/// Seconds from the first to the last point.
fn span(points: &[(f64, f64)]) -> f64 {
    points.first().zip(points.last()).map_or(0.0, |(first, last)| last.0 - first.0)
}

/// Which of these windows, shortest first, is the longest whose slope agrees with those of all shorter ones, as much
/// again as their intervals allowed, and whose halves agree with each other.
fn longest_that_agrees(windows: &[(Slope, &[(f64, f64)])]) -> usize {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    let agrees = |(slope, points): &&(Slope, &[(f64, f64)])| {
        let agrees = slope.low <= high && low <= slope.high && (high == f64::INFINITY || is_straight(points));
        let slack = (slope.high - slope.low) / 2.0;
        (low, high) = (low.max(slope.low - slack), high.min(slope.high + slack));
        agrees
    };
    windows.iter().take_while(agrees).count() - 1
}

/// Whether both halves may have the same slope.
fn is_straight(points: &[(f64, f64)]) -> bool {
    let (first, second) = points.split_at(points.len() / 2);
    let slopes = theil_sen::slope(first).zip(theil_sen::slope(second));
    slopes.is_none_or(|(first, second)| {
        let slack = slack(first, second);
        first.low <= second.high + slack && second.low <= first.high + slack
    })
}

/// So much further apart must two intervals lie to differ by more than chance: there are many looks a day.
fn slack(a: Slope, b: Slope) -> f64 {
    (a.high - a.low + b.high - b.low) / 8.0
}

/// If the rise shrinks from the first half of the points to the second, by more than chance: by how much it still rises
/// when it goes on shrinking at this rate.
fn still_to_come(points: &[(f64, f64)]) -> Option<f64> {
    let (first, second) = points.split_at(points.len() / 2);
    let (before, after) = (theil_sen::slope(first)?, theil_sen::slope(second)?);
    if before.low <= after.high + slack(before, after) || before.middle <= 0.0 {
        return None;
    }
    let ratio = (after.middle / before.middle).max(0.0);
    // The second half's slope is its rise at its middle; the series goes on from its end.
    Some(after.middle.max(0.0) * span(points) / 2.0 * ratio.sqrt() / (1.0 - ratio))
}

/// What is used now: the line through the near points, at this moment.
fn level(points: &[(f64, f64)], slope: f64, now: f64) -> f64 {
    median(points.iter().map(|(x, y)| y + slope * (now - x)).collect()).unwrap_or(0.0)
}

/// The highest level from which memory came back.
fn came_back(points: &[(f64, f64)], total: f64) -> Option<f64> {
    let (mut top, mut last, mut falling) = (f64::NEG_INFINITY, f64::INFINITY, false);
    let mut highest: Option<f64> = None;
    for &(_, used) in points {
        falling &= used < last;
        last = used;
        if falling || used > top {
            top = used;
        } else if top - used >= FALL * total {
            if top <= (1.0 - NOTHING_LEFT) * total {
                highest = Some(highest.map_or(top, |h| h.max(top)));
            }
            (top, falling) = (used, true);
        }
    }
    highest
}

#[cfg(test)]
mod tests;
