use super::super::models::{Noise, sample};
use super::*;

const SEEDS: u64 = 20;
const STEP_S: u64 = 20;

fn at(seconds: u64) -> Time {
    Time { boot_ms: 5_000_000, wall_ms: 0 } + Duration::from_secs(seconds)
}

/// Runs `used` (share of memory at a time in seconds) over the hours; returns when the alarm was first raised.
fn first_alarm(hours: u64, mut used: impl FnMut(f64) -> f64) -> Option<u64> {
    let mut forecaster = Forecaster::default();
    let mut looks = (0..hours * 3600).step_by(STEP_S as usize);
    looks.find(|&s| forecaster.record(&sample(used(s as f64)), at(s)) == Some(Change::Raised))
}

#[test]
fn leak_with_noise_is_found_within_a_fifth_at_half_life() {
    let mut wrong = Vec::new();
    for seed in 0..150 {
        let mut noise = Noise::new(seed);
        // It begins after some quiet time, from some level, and takes from 40 minutes to 24 hours.
        let quiet = noise.between(3600.0, 4.0 * 3600.0);
        let base = noise.between(0.1, 0.6);
        let life = noise.scale(3600.0, 24.0 * 3600.0);
        // As much noise as one percent in samples every five seconds.
        let rough = noise.between(0.0, 0.005);
        let half = quiet + life / 2.0;
        // With the daemon just started there would be nothing to judge by.
        let begin = (half - 2.2 * 3600.0).max(0.0);
        let mut forecaster = Forecaster::default();
        let mut s = begin;
        while s <= half {
            let leaked = (s - quiet).max(0.0) / life * (1.0 - base);
            forecaster.record(&sample(base + leaked + rough * noise.normal()), at(s as u64));
            s += STEP_S as f64;
        }
        let left = life / 2.0;
        match forecaster.forecast(at(half as u64)) {
            Forecast::Exhausts { near, middle, far } => {
                assert!(near <= middle && middle <= far);
                let error = middle.as_secs_f64() / left - 1.0;
                if error.abs() > 0.2 {
                    wrong.push((seed, quiet, life, rough, error));
                }
            }
            other => wrong.push((seed, quiet, life, rough, if other == Forecast::NoTrend { 99.0 } else { 98.0 })),
        }
    }
    assert!(wrong.is_empty(), "{} {wrong:#?}", wrong.len());
}

#[test]
fn collector_raises_nothing_in_a_day() {
    let mut wrong = Vec::new();
    for seed in 0..SEEDS {
        let mut noise = Noise::new(1000 + seed);
        let period = noise.scale(20.0, 1800.0);
        let low = noise.between(0.1, 0.5);
        let high = noise.between(low + 0.1, 0.92);
        let rough = noise.between(0.0, 0.01);
        let jitter = noise.between(0.0, 0.03);
        let mut value = noise.between(low, high);
        let mut top = high;
        let alarm = first_alarm(24, |_| {
            value += (high - low) * STEP_S as f64 / period * noise.between(0.5, 1.5);
            if value >= top {
                value = low + jitter * noise.normal();
                top = high + jitter * noise.even();
            }
            value + rough * noise.normal()
        });
        if let Some(s) = alarm {
            wrong.push((seed, s, period, low, high, rough, jitter));
        }
    }
    assert!(wrong.is_empty(), "{} {wrong:#?}", wrong.len());
}

#[test]
fn saturating_rise_raises_nothing_in_a_day() {
    let mut wrong = Vec::new();
    for seed in 0..SEEDS {
        let mut noise = Noise::new(2000 + seed);
        let from = noise.between(0.0, 0.3);
        let to = noise.between(from + 0.2, 0.9);
        let tau = noise.scale(120.0, 6.0 * 3600.0);
        let start = noise.between(0.0, 3.0 * 3600.0);
        let rough = noise.between(0.0, 0.01);
        let alarm = first_alarm(24, |s| {
            let risen = 1.0 - (-(s - start).max(0.0) / tau).exp();
            from + (to - from) * risen + rough * noise.normal()
        });
        if let Some(s) = alarm {
            wrong.push((seed, s, from, to, tau, start, rough));
        }
    }
    assert!(wrong.is_empty(), "{} {wrong:#?}", wrong.len());
}

#[test]
fn leak_is_alarmed_in_its_last_half_hour_but_in_time() {
    for seed in 0..SEEDS {
        let mut noise = Noise::new(3000 + seed);
        let base = noise.between(0.1, 0.6);
        let life = noise.scale(2.0 * 3600.0, 6.0 * 3600.0);
        let rough = noise.between(0.0, 0.003);
        let alarm = first_alarm(7, |s| base + (1.0 - base) * (s - 3600.0).max(0.0) / life + rough * noise.normal());
        let left = 3600.0 + life - alarm.unwrap_or(u64::MAX) as f64;
        assert!((900.0..2700.0).contains(&left), "seed {seed}: {left} s before the end");
    }
}

#[test]
fn killed_and_leaking_again_is_alarmed_each_time() {
    let mut forecaster = Forecaster::default();
    let changes = (0..38_000).step_by(20).filter_map(|s| {
        // Two and a half hours to the end, and again.
        let phase = f64::from(s % 9000) / 9000.0;
        forecaster.record(&sample(0.2 + 0.8 * phase), at(s as u64))
    });
    let changes: Vec<Change> = changes.collect();
    assert_eq!(changes.iter().filter(|&&change| change == Change::Raised).count(), 4);
    assert_eq!(changes.iter().filter(|&&change| change == Change::Cleared).count(), 4);
}

#[test]
fn forecast_without_samples_of_late_cannot_tell() {
    let mut forecaster = Forecaster::default();
    for s in (0..7200).step_by(20) {
        forecaster.record(&sample(0.2 + 0.5 * s as f64 / 7200.0), at(s));
    }
    let Forecast::Exhausts { near, middle, far } = forecaster.forecast(at(7200)) else { panic!() };
    assert!(near <= middle && middle <= far && (middle.as_secs_f64() / (0.3 / 0.5 * 7200.0) - 1.0).abs() < 0.05);
    assert_eq!(forecaster.forecast(at(7400)), Forecast::CannotTell);
}

#[test]
fn forecast_before_half_an_hour_cannot_tell() {
    let mut forecaster = Forecaster::default();
    for s in (0..1790).step_by(20) {
        forecaster.record(&sample(0.1 + 0.8 * s as f64 / 1800.0), at(s));
        assert_eq!(forecaster.forecast(at(s)), Forecast::CannotTell, "at {s}");
    }
}

#[test]
fn memory_came_back_from_the_top_before_a_fall_unless_nothing_was_left() {
    let top = |levels: &[f64]| came_back(&levels.iter().map(|&y| (0.0, y)).collect::<Vec<_>>(), 1.0);
    assert_eq!(top(&[0.2, 0.5, 0.8]), None);
    assert_eq!(top(&[0.5, 0.8, 0.76, 0.82]), None);
    assert_eq!(top(&[0.5, 0.8, 0.6, 0.4, 0.7, 0.6, 0.9]), Some(0.8));
    // Killed, and the bin in which it was.
    assert_eq!(top(&[0.5, 0.9, 0.97, 0.6, 0.2, 0.5]), None);
}

#[test]
fn slow_collector_that_grows_to_its_old_top_raises_nothing() {
    let mut forecaster = Forecaster::default();
    for s in (0..24_000).step_by(20) {
        // From 30 % to 90 % and back every 100 minutes. The first tooth cannot be told from a leak.
        let used = 0.3 + 0.6 * (s % 6000) as f64 / 6000.0;
        let change = forecaster.record(&sample(used), at(s));
        assert!(s < 6000 || change != Some(Change::Raised), "raised at {s}");
    }
}
