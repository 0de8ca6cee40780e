use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn settings() -> Settings {
    Settings { thresholds: Thresholds::default(), interval: Duration::from_secs(5), silent_after: 3 }
}

fn at(seconds: u64) -> Time {
    Time { boot_ms: 1_000_000, wall_ms: 0 } + Duration::from_secs(seconds)
}

fn percent(headroom: u64) -> Sample {
    Sample { total_bytes: 100 * GIB, available_bytes: headroom * GIB, pressure: None }
}

/// Feeds one headroom, in percent, every five seconds from `start` on; returns the facts that were entered, with times.
fn feed(tracker: &mut Tracker, start: u64, headrooms: impl IntoIterator<Item = u64>) -> Vec<(u64, &'static str)> {
    let samples = headrooms.into_iter().enumerate().map(|(i, headroom)| (start + 5 * i as u64, headroom));
    let changed =
        samples.filter_map(|(s, headroom)| Some((s, tracker.record(Ok(percent(headroom)), at(s))?.to.name())));
    changed.collect()
}

#[test]
fn first_sample_decides_alone() {
    let mut tracker = Tracker::new(settings(), at(0));
    assert_eq!(tracker.headroom(), None);
    assert_eq!(feed(&mut tracker, 0, [19]), [(0, "tight")]);
    assert_eq!(tracker.since(), at(0));
}

#[test]
fn one_odd_sample_changes_nothing_two_do() {
    let mut tracker = Tracker::new(settings(), at(0));
    assert_eq!(
        feed(&mut tracker, 0, [40, 40, 40, 2, 40, 40, 19, 19, 19, 3, 3]),
        [(0, "ample"), (35, "tight"), (50, "exhausted")]
    );
}

#[test]
fn better_needs_two_calm_minutes_above_the_higher_threshold() {
    let mut tracker = Tracker::new(settings(), at(0));
    feed(&mut tracker, 0, [19; 3]);
    // Above the threshold that was crossed, but not above the other one.
    assert_eq!(feed(&mut tracker, 100, [24; 100]), []);
    // Calm, but interrupted after 100 s.
    assert_eq!(feed(&mut tracker, 1000, [26; 20].into_iter().chain([24; 2])), []);
    // The median needs a second sample to get there: calm from 2005 on.
    assert_eq!(feed(&mut tracker, 2000, [26; 100]), [(2125, "ample")]);
}

#[test]
fn exhausted_goes_to_the_worst_of_the_calm_time() {
    let mut tracker = Tracker::new(settings(), at(0));
    feed(&mut tracker, 0, [4; 3]);
    assert_eq!(feed(&mut tracker, 100, [10; 5].into_iter().chain([60; 24])), [(225, "tight")]);
    // Calm again since 230: the next sample after the step.
    assert_eq!(feed(&mut tracker, 230, [60; 40]), [(350, "ample")]);
}

#[test]
fn sawtooth_of_a_collector_does_not_flap() {
    let mut tracker = Tracker::new(settings(), at(0));
    let teeth = (0..17_280).map(|i| 45 - (i % 12) * 3);
    assert_eq!(feed(&mut tracker, 0, teeth), [(0, "ample"), (50, "tight")]);
}

#[test]
fn silence_after_three_intervals_is_unknown_with_the_last_error() {
    let mut tracker = Tracker::new(settings(), at(0));
    feed(&mut tracker, 0, [40]);
    assert_eq!(tracker.next_ms(), Some(at(15).boot_ms));
    assert_eq!(tracker.record(Err("refused".into()), at(5)), None);
    assert_eq!(tracker.tick(at(14)), None);
    let change = tracker.tick(at(15)).unwrap();
    assert_eq!(change.to, Memory::Unknown { since: at(15), why: "refused".into() });
    assert_eq!(change.cause, "no good sample for 15 s: refused");
    assert_eq!((tracker.headroom(), tracker.next_ms()), (None, None));
    // A newer error is shown, but is no change.
    assert_eq!(tracker.record(Err("timeout".into()), at(20)), None);
    assert_eq!(*tracker.memory(), Memory::Unknown { since: at(15), why: "timeout".into() });
}

#[test]
fn hysteresis_outlives_a_silence() {
    let mut tracker = Tracker::new(settings(), at(0));
    feed(&mut tracker, 0, [19; 3]);
    tracker.tick(at(100)).unwrap();
    assert_eq!(feed(&mut tracker, 100, [22; 3]), [(100, "tight")]);
}

#[test]
fn samples_that_cannot_be_true_are_none() {
    let mut tracker = Tracker::new(settings(), at(0));
    for sample in [percent(101), Sample { total_bytes: 0, available_bytes: 0, pressure: None }] {
        assert_eq!(tracker.record(Ok(sample), at(1)), None);
        assert!(matches!(tracker.memory(), Memory::Unknown { why, .. } if why.ends_with("cannot be true")));
    }
}

proptest! {
    #[test]
    fn fact_of_any_samples_changes_for_the_better_at_most_once_in_two_minutes(
        samples in proptest::collection::vec(proptest::option::weighted(0.8, 0u64..=100), 1..400),
    ) {
        let mut tracker = Tracker::new(settings(), at(0));
        let mut level = None;
        let mut entered_ms = 0;
        for (i, sample) in samples.into_iter().enumerate() {
            let now = at(5 * i as u64);
            let change = tracker.record(sample.map(percent).ok_or_else(|| "none".to_owned()), now);
            // Of a source that never answered it is told that it is unknown still.
            let still = |c: &Change| c.from == c.to && tracker.last().is_none();
            let turns = |c: &Change| c.from != c.to && tracker.since() == now;
            prop_assert!(change.as_ref().is_none_or(|c| c.to == *tracker.memory() && (turns(c) || still(c))));
            prop_assert_eq!(tracker.headroom().is_none(), matches!(tracker.memory(), Memory::Unknown { .. }));
            if tracker.level != level {
                let better = level.is_some() && tracker.level > level;
                prop_assert!(!better || now.boot_ms - entered_ms >= CALM.as_millis() as u64);
                (level, entered_ms) = (tracker.level, now.boot_ms);
            }
        }
    }
}
