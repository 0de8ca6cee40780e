use proptest::prelude::*;

use super::simulation::{at, settings};
use super::*;

struct Row {
    name: BackendName,
    weight: u32,
    memory: Memory,
    headroom: Option<f64>,
}

fn row(name: &str, memory: Memory, headroom: f64) -> Row {
    let known = !matches!(memory, Memory::Unknown { .. } | Memory::NotMonitored);
    Row { name: BackendName::new(name).unwrap(), weight: 1, memory, headroom: known.then_some(headroom) }
}

fn members(rows: &[Row]) -> Vec<Member<'_>> {
    let thresholds = settings().thresholds;
    let rows = rows.iter();
    rows.map(|Row { name, weight, memory, headroom }| Member {
        backend: name,
        weight: *weight,
        memory,
        headroom: *headroom,
        thresholds,
    })
    .collect()
}

/// Steps every 15 s from `start` for so many minutes; returns each backend's factor after.
fn run(shedding: &mut Shedding, rows: &[Row], start: u64, minutes: u64) -> Vec<u8> {
    for s in (start..start + 60 * minutes).step_by(15) {
        shedding.step(&members(rows), at(s));
    }
    rows.iter().map(|r| shedding.factor(&r.name)).collect()
}

#[test]
fn short_member_gives_up_a_sixteenth_a_minute_and_stops_where_it_does_not_help() {
    let rows = [row("a", Memory::Tight, 0.1), row("b", Memory::Ample, 0.9), row("c", Memory::Ample, 0.9)];
    let mut shedding = Shedding::default();
    assert_eq!(run(&mut shedding, &rows, 0, 1), [15, 16, 16]);
    assert_eq!(run(&mut shedding, &rows, 60, 4), [11, 16, 16]);
    assert_eq!(shedding.stuck(&rows[0].name), None);
    assert_eq!(run(&mut shedding, &rows, 300, 30), [5, 16, 16]);
    let stuck = shedding.stuck(&rows[0].name).unwrap();
    assert!((600..=630).map(at).any(|time| time == stuck.since));
    assert_eq!(shedding.cause(&rows[0].name), Some("memory is tight (10.0 % headroom)"));
}

#[test]
fn member_that_shedding_helps_goes_down_to_the_floor_and_no_further() {
    let mut rows = [row("a", Memory::Exhausted, 0.0), row("b", Memory::Ample, 0.9)];
    let mut shedding = Shedding::default();
    for minute in 0..16 {
        rows[0].headroom = Some(0.002 * minute as f64);
        run(&mut shedding, &rows, 60 * minute, 1);
        assert_eq!(shedding.stuck(&rows[0].name), None);
    }
    assert_eq!(shedding.factor(&rows[0].name), FLOOR);
}

#[test]
fn others_without_room_get_nothing_more() {
    // Half as much again would leave b just 25 %: a may give up a third of the whole, 2/3 of the other's.
    let rows = [row("a", Memory::Tight, 0.1), row("b", Memory::Ample, 0.38)];
    let mut shedding = Shedding::default();
    let factors = run(&mut shedding, &rows, 0, 9);
    // b carries 1/(1 + a/16) · 2 times its load: 0.62 · that ≤ 0.75, so a ≥ 10.5.
    assert_eq!(factors, [11, 16]);
}

#[test]
fn members_that_are_all_short_are_not_shed_and_get_back_what_was() {
    let mut rows = [row("a", Memory::Tight, 0.1), row("b", Memory::Tight, 0.15), row("c", Memory::Exhausted, 0.01)];
    let mut shedding = Shedding::default();
    assert_eq!(run(&mut shedding, &rows, 0, 60), [16; 3]);
    rows[1] = row("b", Memory::Ample, 0.9);
    assert_eq!(run(&mut shedding, &rows, 3600, 5), [11, 16, 11]);
    rows[1] = row("b", Memory::Tight, 0.15);
    assert_eq!(run(&mut shedding, &rows, 3900, 29), [16, 16, 16]);
}

#[test]
fn short_member_beside_others_that_nobody_sees_is_shed_hardly() {
    let unseen = |name: &str| row(name, Memory::NotMonitored, 0.0);
    // Without one that is known to be ample, not at all.
    let rows = [row("a", Memory::Tight, 0.1), unseen("b"), unseen("c")];
    assert_eq!(run(&mut Shedding::default(), &rows, 0, 30), [16; 3]);
    // With one, until the unseen ones have a sixteenth more.
    let rows = [row("a", Memory::Tight, 0.1), row("b", Memory::Ample, 0.9), unseen("c")];
    assert_eq!(run(&mut Shedding::default(), &rows, 0, 9), [14, 16, 16]);
}

#[test]
fn silent_member_is_held_five_minutes_and_then_given_back_step_by_step() {
    let mut rows = [row("a", Memory::Tight, 0.1), row("b", Memory::Ample, 0.9)];
    let mut shedding = Shedding::default();
    assert_eq!(run(&mut shedding, &rows, 0, 4), [12, 16]);
    rows[0] = row("a", Memory::Unknown { since: at(240), why: "refused".into() }, 0.0);
    assert_eq!(run(&mut shedding, &rows, 240, 5), [12, 16]);
    assert_eq!(run(&mut shedding, &rows, 540, 1), [13, 16]);
    assert_eq!(run(&mut shedding, &rows, 600, 4), [13, 16]);
    assert_eq!(run(&mut shedding, &rows, 840, 60), [16, 16]);
    assert_eq!(shedding.next_ms(), None);
}

#[test]
fn member_that_would_be_tight_again_waits_two_hours_for_each_step() {
    let mut rows = [row("a", Memory::Tight, 0.1), row("b", Memory::Ample, 0.9)];
    let mut shedding = Shedding::default();
    assert_eq!(run(&mut shedding, &rows, 0, 4), [12, 16]);
    rows[0] = row("a", Memory::Ample, 0.26);
    // The last step was at 180 s. The change of direction doubles the wait after it.
    assert_eq!(run(&mut shedding, &rows, 240, 119), [12, 16]);
    assert_eq!(run(&mut shedding, &rows, 240 + 119 * 60, 240), [13, 16]);
    assert_eq!(run(&mut shedding, &rows, 240 + 359 * 60, 2), [14, 16]);
    rows[0] = row("a", Memory::Ample, 0.7);
    assert_eq!(run(&mut shedding, &rows, 240 + 361 * 60, 30), [16, 16]);
}

#[test]
fn member_out_of_rotation_keeps_its_factor_and_carries_nothing() {
    let mut rows = [row("a", Memory::Tight, 0.1), row("b", Memory::Ample, 0.9), row("c", Memory::Ample, 0.9)];
    let mut shedding = Shedding::default();
    assert_eq!(run(&mut shedding, &rows, 0, 3), [13, 16, 16]);
    rows[0].weight = 0;
    rows[0].memory = Memory::Ample;
    rows[0].headroom = Some(0.9);
    assert_eq!(run(&mut shedding, &rows, 180, 60), [13, 16, 16]);
    // Nobody else is there to carry: what was shed is given back.
    rows[0] = row("a", Memory::Tight, 0.1);
    (rows[1].weight, rows[2].weight) = (0, 0);
    assert_eq!(run(&mut shedding, &rows, 3780, 4), [14, 16, 16]);
}

proptest! {
    #[test]
    fn any_facts_keep_floor_and_pace_and_turn_seldom(
        facts in proptest::collection::vec((0usize..3, 0u8..5, 0.0f64..1.0), 1..1440),
    ) {
        let mut rows = ["a", "b", "c"].map(|name| row(name, Memory::Ample, 0.9));
        let mut shedding = Shedding::default();
        let mut last = [(0u64, None::<bool>, 0u32); 3];
        for (minute, (index, fact, headroom)) in facts.into_iter().enumerate() {
            let now = at(60 * minute as u64);
            let memory = match fact {
                0 => Memory::Unknown { since: now, why: "no".into() },
                1 => Memory::NotMonitored,
                _ if headroom < 0.05 => Memory::Exhausted,
                _ if headroom < 0.2 => Memory::Tight,
                _ => Memory::Ample,
            };
            rows[index] = row(rows[index].name.as_str(), memory, headroom);
            for step in shedding.step(&members(&rows), now) {
                prop_assert!((FLOOR..=FULL).contains(&step.to) && step.from.abs_diff(step.to) == 1);
                let (up, i) = (step.to > step.from, rows.iter().position(|r| r.name == step.backend).unwrap());
                let (at_ms, before, turns) = last[i];
                let pace_ms = if up { 300_000 } else { 60_000 };
                prop_assert!(before.is_none() || now.boot_ms - at_ms >= pace_ms);
                last[i] = (now.boot_ms, Some(up), turns + u32::from(before.is_some_and(|b| b != up)));
            }
            // In a day, 5 + 10 + 20 + 40 + 80 + ... minutes are 21 waits.
            prop_assert!(last.iter().all(|&(_, _, turns)| turns <= 42));
        }
    }
}
