use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A service whose new flows are drawn at random.
struct Scene {
    spread: Spread,
    seats: Vec<Seat>,
    /// Where flows really go: weights that need not be the table's.
    truth: Vec<f64>,
    now: Time,
    rng: StdRng,
}

fn name(n: usize) -> BackendName {
    BackendName::new(&format!("b{n}")).unwrap()
}

impl Scene {
    fn new(seed: u64, weights: &[u16]) -> Self {
        let seats = weights.iter().zip(0u32..).map(|(&weight, n)| Seat {
            backend: name(n as usize),
            id: Some(n),
            opened: Some(0),
            slots: u32::from(weight) * 1000,
            weight,
            excused: false,
        });
        let truth = weights.iter().map(|w| f64::from(*w)).collect();
        let now = Time { boot_ms: 1_000_000, wall_ms: 0 };
        Self { spread: Spread::default(), seats: seats.collect(), truth, now, rng: StdRng::seed_from_u64(seed) }
    }

    /// `flows` at random by the truth.
    fn draw(&mut self, flows: u64) {
        let total: f64 = self.truth.iter().sum();
        for _ in 0..flows {
            let mut at = self.rng.random::<f64>() * total;
            let hit = self.truth.iter().position(|weight| {
                at -= weight;
                at < 0.0
            });
            let seat = &mut self.seats[hit.unwrap_or(0)];
            seat.opened = seat.opened.map(|opened| opened + 1);
        }
    }

    /// Ten seconds with so many flows; what is found then.
    fn step(&mut self, flows: u64) -> Vec<(Option<String>, String)> {
        self.step_if(flows, true)
    }

    fn step_if(&mut self, flows: u64, steady: bool) -> Vec<(Option<String>, String)> {
        self.draw(flows);
        self.now = self.now + Duration::from_secs(10);
        self.spread.count(&self.seats, 100_003, steady, self.now);
        self.spread.found().map(|(who, _, words)| (who.map(|w| w.to_string()), words.to_owned())).collect()
    }

    /// Seconds until something is found, at most a day.
    fn found_after(&mut self, flows: u64) -> Option<u64> {
        (1..=8640).find(|_| !self.step(flows).is_empty()).map(|n| n * 10)
    }
}

#[test]
fn honest_traffic_raises_nothing_in_ten_thousand_windows() {
    let mut windows = 0;
    for (seed, weights) in [(1, &[1, 1][..]), (2, &[1, 1, 1]), (3, &[3, 1, 2, 1]), (4, &[1; 20]), (5, &[50, 1, 1])] {
        let mut scene = Scene::new(seed, weights);
        let per_window = (ENOUGH * f64::from(weights.iter().sum::<u16>())) as u64;
        scene.step(0);
        for _ in 0..2000 {
            for _ in 0..6 {
                let found = scene.step(per_window / 5);
                assert!(found.is_empty(), "{weights:?}: {found:?}");
            }
            windows += 1;
        }
    }
    assert_eq!(windows, 10_000);
}

#[test]
fn windows_are_judged_and_a_single_bad_one_is_not_told() {
    let mut scene = Scene::new(1, &[1, 1]);
    scene.step(0);
    for _ in 0..6 {
        scene.step(100);
    }
    assert!(scene.spread.table.found().is_none());
    scene.truth = vec![1.0, 0.5];
    let bad = (0..12).filter(|_| !scene.step(200).is_empty()).count();
    scene.truth = vec![1.0, 1.0];
    let after = (0..60).filter(|_| !scene.step(200).is_empty()).count();
    assert_eq!((bad, after), (0, 0), "two windows are not three");
}

#[test]
fn member_that_gets_nothing_is_found_in_three_windows_by_both() {
    for weights in [&[1, 1][..], &[1, 1, 1], &[1; 10], &[10, 1]] {
        let mut scene = Scene::new(7, weights);
        let last = weights.len() - 1;
        scene.step(0);
        scene.truth[last] = 0.0;
        let found = (0..18).map(|_| scene.step(2000)).find(|found| !found.is_empty()).unwrap_or_default();
        let who = name(last).to_string();
        assert!(
            found.iter().any(|(backend, words)| backend.as_ref() == Some(&who) && words.contains("got 0.0 %")),
            "{weights:?}: {found:?}"
        );
        let both = scene.step(20_000);
        let table = both.iter().chain(&found).any(|(backend, _)| backend.is_none());
        assert!(table || weights.len() > 2, "{weights:?}: {both:?}");
    }
}

#[test]
fn member_with_half_its_share_is_found_also_where_flows_are_few() {
    for (weights, flows, within) in [
        (&[1, 1][..], 1000, 210),
        (&[1, 1, 1], 1000, 210),
        (&[1; 10], 1000, 300),
        (&[1; 100], 2000, 1000),
        // One a second.
        (&[1, 1], 10, 1800),
    ] {
        let mut scene = Scene::new(9, weights);
        scene.step(0);
        scene.truth[0] = 0.5;
        let after = scene.found_after(flows);
        assert!(after.is_some_and(|after| after <= within), "{weights:?}, {flows} in 10 s: {after:?}");
        assert!(scene.spread.found().next().is_some());
        // And it is over when that is.
        scene.truth[0] = 1.0;
        assert!((0..within / 5).any(|_| scene.step(flows).is_empty()), "{weights:?}");
    }
}

#[test]
fn reason_excuses_too_few_and_the_table_explains_them() {
    let mut scene = Scene::new(11, &[1, 1, 1]);
    scene.step(0);
    (scene.seats[2].excused, scene.seats[2].slots, scene.truth[2]) = (true, 0, 0.0);
    for _ in 0..600 {
        let found = scene.step(500);
        assert!(found.is_empty(), "{found:?}");
    }
    // The reason goes, the table stays: the outage.
    scene.seats[2].excused = false;
    let after = scene.found_after(500);
    assert!(after.is_some_and(|after| after <= 200), "{after:?}");
    let found: Vec<_> = scene.spread.found().map(|(who, _, words)| (who.cloned(), words.to_owned())).collect();
    assert_eq!(found.len(), 1, "the table is followed: {found:?}");
    assert!(found[0].1.contains("nothing is known against it"), "{found:?}");
    // Somebody says why: that ends it at once.
    scene.seats[2].excused = true;
    assert!(scene.step(500).is_empty());
}

#[test]
fn changes_of_the_table_and_of_counters_are_no_evidence() {
    let mut scene = Scene::new(13, &[1, 1]);
    scene.step(0);
    for round in 0..300u32 {
        // Each ten seconds another table; flows go by the one before.
        let slots = if round.is_multiple_of(2) { 100 } else { 1000 };
        scene.seats[0].slots = slots;
        scene.seats[0].excused = true;
        let found = scene.step_if(1000, false);
        scene.truth[0] = f64::from(slots) / 1000.0;
        assert!(found.is_empty(), "{found:?}");
    }
    let mut scene = Scene::new(13, &[1, 1]);
    scene.step(0);
    for round in 0..300 {
        if round % 3 == 0 {
            // Another id, another counter; or the kernel began anew.
            scene.seats[0].id = Some(10 + round);
            scene.seats[0].opened = Some(u64::from(round) * 1000);
            scene.seats[1].opened = Some(0);
        }
        let found = scene.step(1000);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn member_that_the_kernel_does_not_know_opens_no_flow() {
    let mut scene = Scene::new(17, &[1, 1]);
    scene.step(0);
    scene.truth[1] = 0.0;
    let mut found = Vec::new();
    for _ in 0..30 {
        scene.seats[1].opened = None;
        found = scene.step(500);
    }
    assert!(found.iter().any(|(who, _)| who.as_deref() == Some("b1")), "{found:?}");
}

#[test]
fn what_was_found_is_forgotten_when_no_flow_comes_any_more() {
    let mut scene = Scene::new(19, &[1, 1]);
    scene.step(0);
    scene.truth[1] = 0.0;
    assert!(scene.found_after(500).is_some());
    let steps = (0..361).filter(|_| !scene.step(0).is_empty()).count();
    assert!((300..361).contains(&steps), "{steps}");
}
