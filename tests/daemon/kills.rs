//! SIGKILL at random moments of drain, extend, restore, removal and return: after the restart, what was asked for either
//! happened as a whole or not at all, what was answered did happen, and file, records and kernel agree.
//!
//! `ROLLCALL_KILLS=n` kills n times instead of a dozen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lb_tests::testbed::rollcall::{Answer, members};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::stage::{START, Stage};

const SERVICES: [&str; 4] = ["echo4", "echo6", "web4", "web6"];
/// In the file as long as `b1` is.
const MEMBER: &str = "backend = \"b1\"";
const EXTENSION_MS: i64 = 60_000;
const LENGTH_MS: i64 = 3_600_000;
/// Delays go up to so many times what the action takes unkilled: among others' work, it may take longer.
const BEYOND: f64 = 3.0;

/// What is asked for when the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Drain,
    Extend,
    Restore,
    Remove,
    /// The file has `b1` again, and is reloaded.
    Return,
}

impl Deed {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Drain => &[
                "backend",
                "drain",
                "b1",
                "--for",
                "1h",
                "--reason",
                "kills",
                "--owner",
                "ada",
                "--yes",
                "--no-recall",
            ],
            Self::Extend => &["backend", "extend", "b1", "--for", "1m", "--owner", "ada"],
            Self::Restore => &["backend", "restore", "b1", "--owner", "ada"],
            Self::Remove => &["backend", "remove", "b1", "--yes"],
            Self::Return => &["reload"],
        }
    }
}

/// What there is of `b1`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// Its lease's end, ms of Unix time.
    lease: Option<i64>,
    /// Whether the file has it.
    configured: bool,
}

impl State {
    fn of(stage: &Stage, status: &Value) -> Self {
        let leases = status["leases"].as_array().expect("a list");
        assert!(leases.len() <= 1, "{leases:#?}");
        let ends = |lease: &Value| -> Timestamp { lease["ends"].as_str().expect("a time").parse().expect("a time") };
        let lease = leases.first().map(|lease| ends(lease).as_millisecond());
        Self { lease, configured: stage.file_text().contains(MEMBER) }
    }

    /// What may be done next.
    fn deeds(&self) -> &'static [Deed] {
        match (self.configured, self.lease) {
            (false, _) => &[Deed::Return],
            (true, None) => &[Deed::Drain, Deed::Drain, Deed::Remove],
            (true, Some(_)) => &[Deed::Extend, Deed::Restore, Deed::Restore, Deed::Remove],
        }
    }

    /// Whether `self` is what `deed`, asked for between two moments, makes of `before`.
    fn follows(&self, deed: Deed, before: &Self, asked: (Timestamp, Timestamp)) -> bool {
        let same_lease = self.lease == before.lease;
        let same_place = self.configured == before.configured;
        match deed {
            Deed::Drain => {
                let (first, last) = (asked.0.as_millisecond() + LENGTH_MS, asked.1.as_millisecond() + LENGTH_MS);
                same_place && self.lease.is_some_and(|ends| (first..=last).contains(&ends))
            }
            Deed::Extend => same_place && self.lease == before.lease.map(|ends| ends + EXTENSION_MS),
            Deed::Restore => same_place && self.lease.is_none(),
            Deed::Remove => same_lease && !self.configured,
            Deed::Return => same_lease && self.configured,
        }
    }
}

struct Story {
    stage: Stage,
    /// The file with both servers.
    text: String,
    rng: StdRng,
    /// How long each deed takes, unkilled.
    takes: BTreeMap<Deed, Duration>,
    /// How often each was answered; in force without an answer; not in force.
    tally: BTreeMap<Deed, [u32; 3]>,
}

impl Story {
    fn new() -> Self {
        let stage = Stage::new();
        let text = stage.file_text();
        let mut story =
            Self { stage, text, rng: StdRng::seed_from_u64(1), takes: BTreeMap::new(), tally: BTreeMap::new() };
        for deed in [Deed::Drain, Deed::Extend, Deed::Restore, Deed::Remove, Deed::Return] {
            story.prepare(deed);
            let begun = Instant::now();
            let done = story.stage.rollcall.cli(&story.stage.bed, deed.arguments());
            assert_eq!(done.code, 0, "{deed:?}: {done:?}");
            story.takes.insert(deed, begun.elapsed());
        }
        story
    }

    fn prepare(&self, deed: Deed) {
        if deed == Deed::Return {
            self.stage.rollcall.write_text(&self.text);
        }
    }

    /// One deed and one kill; `before` is how things stand, what is returned is how they stand then.
    fn kill_in(&mut self, deed: Deed, before: &State) -> State {
        self.prepare(deed);
        let most = self.takes[&deed].mul_f64(BEYOND);
        let delay = most.mul_f64(self.rng.random());
        let asked = Timestamp::now();
        let pid = nix::unistd::Pid::from_raw(self.stage.rollcall.pid().expect("it runs").cast_signed());
        let (bed, rollcall) = (&self.stage.bed, &self.stage.rollcall);
        let answer: Answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| rollcall.cli(bed, deed.arguments()));
            // Not a wait for something: the moment of the kill is what is drawn.
            std::thread::sleep(delay);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it is ours");
            asking.join().expect("asking does not panic")
        });
        self.stage.rollcall.kill();
        let asked = (asked, Timestamp::now());
        let point = format!("{deed:?} killed after {delay:?} of {most:?}: {answer:?}");
        assert!([0, 69].contains(&answer.code), "{point}");

        // What is recorded is what the next daemon puts in force.
        let frozen = self.stage.rollcall.cli(&self.stage.bed, &["status", "--output", "json"]);
        let frozen: Value = serde_json::from_str(&frozen.stdout).unwrap_or_else(|e| panic!("{point}: {e}: {frozen:?}"));
        let recorded = State::of(&self.stage, &frozen);
        self.stage.rollcall.run(&self.stage.bed);
        let status = self.agreeing(&point);
        let after = State::of(&self.stage, &status);
        assert_eq!(after, recorded, "{point}: what was recorded, and what is in force: {frozen:#}");

        let happened = after.follows(deed, before, asked);
        // What only the file says is in force by the restart, whether it was reloaded or not.
        let unchanged = after == *before && deed != Deed::Return;
        assert!(happened || unchanged, "{point}: {before:?} became {after:?}");
        assert!(happened || answer.code != 0, "{point}: it was answered, and did not happen: {after:?}");
        let kind = if answer.code == 0 { 0 } else { 1 + usize::from(!happened) };
        self.tally.entry(deed).or_default()[kind] += 1;
        after
    }

    /// Waits until all that is wanted is in force, and looks whether everything says the same.
    fn agreeing(&mut self, point: &str) -> Value {
        let configured = self.stage.file_text().contains(MEMBER);
        let Stage { rollcall, bed, configuration, .. } = &mut self.stage;
        let status = rollcall.wait_for(bed, START, point, |status| {
            let leased = status["leases"].as_array().is_some_and(|leases| !leases.is_empty());
            let out = |m: &Value| m["backend"] == "b1" && leased;
            let attached = status["attached"].as_array().is_some_and(|a| !a.is_empty());
            attached && members(status).all(|m| m["in_rotation"] == !out(m))
        });
        let there = members(&status).filter(|m| m["backend"] == "b1").count();
        assert_eq!(there, if configured { SERVICES.len() } else { 0 }, "{point}: file and members");
        let removed = status["removed"].as_array().expect("a list");
        let missed: Vec<&str> = removed.iter().filter_map(|r| r["service"].as_str()).collect();
        assert_eq!(missed, if configured { &[][..] } else { &SERVICES[..] }, "{point}: file and removals");
        for member in members(&status).filter(|m| m["backend"] == "b1") {
            let share = member["share"].as_f64().expect("a number");
            let leased = status["leases"] != serde_json::json!([]);
            assert!(if !leased { (0.4..0.6).contains(&share) } else { share == 0.0 }, "{point}: {member:#}");
        }
        assert_eq!(status["daemon"]["file_differs"], false, "{point}");
        assert_eq!(status["warnings"], serde_json::json!([]), "{point}");
        if configured {
            rollcall.assert_kernel_agrees(bed, configuration);
        } else {
            rollcall.assert_shares_agree(bed, configuration);
        }
        status
    }
}

#[test]
fn daemon_killed_at_random_moments_did_what_was_asked_as_a_whole_or_not_at_all() {
    let kills = std::env::var("ROLLCALL_KILLS").map_or(12, |n| n.parse().expect("ROLLCALL_KILLS is a number"));
    let mut story = Story::new();
    let status = story.stage.rollcall.wait_for_all(&story.stage.bed, START);
    let mut state = State::of(&story.stage, &status);
    for _ in 0..kills {
        let deeds = state.deeds();
        let deed = deeds[story.rng.random_range(0..deeds.len())];
        state = story.kill_in(deed, &state);
    }
    println!("{kills} kills; answered, in force without an answer, not in force:");
    for (deed, tally) in &story.tally {
        println!("  {deed:?} (takes {:?}): {tally:?}", story.takes[deed]);
    }
}
