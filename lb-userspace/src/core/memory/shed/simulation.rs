//! A day of a pool whose weights follow its memory, which follows its load: does it swing?

use std::time::Duration;

use super::super::models::{Noise, sample};
use super::super::tracker::{Settings, Tracker};
use super::*;

const STEP_S: u64 = 30;
const SEEDS: u64 = 100;
const DAY_S: u64 = 24 * 3600;

/// What a server's memory follows.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So much at rest, and so much more at its fair share of the highest load.
    Flows { base: f64, each: f64 },
    /// From `base` to the end in so many seconds at full load; then it is killed and begins again.
    Leak { base: f64, life: f64, by_load: bool },
    /// Up to a level, whatever the load.
    Cached { level: f64, tau: f64 },
}

struct Server {
    name: BackendName,
    kind: Kind,
    /// What its flows hold follows the load with this delay, s.
    lag: f64,
    load: f64,
    used: f64,
    tracker: Tracker,
    weight: u32,
    killed: u32,
    turns: u32,
    last: Option<bool>,
    lowest: u8,
}

pub(super) fn at(seconds: u64) -> Time {
    Time { boot_ms: 60_000_000, wall_ms: 0 } + Duration::from_secs(seconds)
}

pub(super) fn settings() -> Settings {
    Settings { thresholds: Thresholds::default(), interval: Duration::from_secs(STEP_S), silent_after: 3 }
}

impl Server {
    fn new(n: usize, kind: Kind, noise: &mut Noise) -> Self {
        let used = match kind {
            Kind::Flows { base, .. } | Kind::Leak { base, .. } => base,
            Kind::Cached { .. } => 0.1,
        };
        Self {
            name: BackendName::new(&format!("web-{n}")).unwrap(),
            kind,
            lag: noise.scale(30.0, 900.0),
            load: 0.3,
            used,
            tracker: Tracker::new(settings(), at(0)),
            weight: noise.between(1.0, 4.0) as u32,
            killed: 0,
            turns: 0,
            last: None,
            lowest: FULL,
        }
    }

    /// `load`: of its fair share of the highest load.
    fn live(&mut self, load: f64, seconds: f64) {
        self.load += (load - self.load) * (seconds / self.lag).min(1.0);
        match self.kind {
            Kind::Flows { base, each } => self.used = base + each * self.load,
            Kind::Leak { life, by_load, .. } => self.used += seconds / life * if by_load { self.load } else { 1.0 },
            Kind::Cached { level, tau } => self.used += (level - self.used) * (seconds / tau).min(1.0),
        }
        if self.used >= 1.0 {
            self.killed += 1;
            self.used = match self.kind {
                Kind::Flows { base, .. } | Kind::Leak { base, .. } => base,
                Kind::Cached { .. } => 0.1,
            };
            self.load = 0.0;
        }
    }
}

/// Runs a day; checks floor and pace at every step.
fn day(seed: u64, kind: impl Fn(&mut Noise) -> Kind) -> Vec<Server> {
    let mut noise = Noise::new(seed);
    let count = noise.between(2.0, 7.0) as usize;
    let mut servers: Vec<Server> = (0..count)
        .map(|n| {
            let kind = kind(&mut noise);
            Server::new(n, kind, &mut noise)
        })
        .collect();
    let (phase, rough) = (noise.even(), noise.between(0.0, 0.01));
    let mut drift = 0.0;
    let mut shedding = Shedding::default();
    let mut stepped: BTreeMap<BackendName, (u64, u8)> = BTreeMap::new();
    for s in (0..DAY_S).step_by(STEP_S as usize) {
        let now = at(s);
        // The day's wave, and slow chance.
        drift = drift * 0.995 + 0.003 * noise.normal();
        let wave = (std::f64::consts::TAU * (s as f64 / DAY_S as f64 + phase)).sin();
        let total = (0.65 + 0.35 * wave + drift).clamp(0.05, 1.3);
        let fair: f64 = servers.iter().map(|x| f64::from(x.weight)).sum();
        let sum: f64 = servers.iter().map(|x| f64::from(x.weight) * f64::from(shedding.factor(&x.name))).sum();
        for server in &mut servers {
            // Its share against its share if all had their whole weight.
            let load = total * f64::from(shedding.factor(&server.name)) * fair / sum;
            server.live(load, STEP_S as f64);
            let used = server.used + rough * noise.normal();
            let result = if noise.even() < 0.02 { Err("lost".to_owned()) } else { Ok(sample(used)) };
            server.tracker.record(result, now);
        }
        let members: Vec<Member<'_>> = servers
            .iter()
            .map(|x| Member {
                backend: &x.name,
                weight: x.weight,
                memory: x.tracker.memory(),
                headroom: x.tracker.headroom(),
                thresholds: x.tracker.thresholds(),
            })
            .collect();
        let steps = shedding.step(&members, now);
        for step in steps {
            let (before, factor) = stepped.insert(step.backend.clone(), (s, step.to)).unwrap_or((0, FULL));
            assert_eq!(step.from, factor);
            assert!((FLOOR..=FULL).contains(&step.to) && step.from.abs_diff(step.to) == 1, "{step:?}");
            let pace = if step.to < step.from { 60 } else { 300 };
            assert!(before == 0 || s - before >= pace, "{step:?} at {s}, last at {before}");
            let server = servers.iter_mut().find(|x| x.name == step.backend).unwrap();
            let up = step.to > step.from;
            server.turns += u32::from(server.last.is_some_and(|last| last != up));
            server.last = Some(up);
            server.lowest = server.lowest.min(step.to);
        }
    }
    servers
}

fn flows(noise: &mut Noise) -> Kind {
    let base = noise.between(0.1, 0.4);
    Kind::Flows { base, each: noise.between(0.2, 0.75 - base + 0.2) }
}

fn leak(noise: &mut Noise) -> Kind {
    Kind::Leak { base: noise.between(0.1, 0.6), life: noise.scale(3600.0, 100.0 * 3600.0), by_load: noise.even() < 0.5 }
}

fn cached(noise: &mut Noise) -> Kind {
    Kind::Cached { level: noise.between(0.5, 0.96), tau: noise.scale(300.0, 6.0 * 3600.0) }
}

fn turns(name: &str, kind: impl Fn(&mut Noise) -> Kind, allowed: u32) {
    let mut shed = 0;
    let mut histogram = [0; 12];
    for seed in 0..SEEDS {
        let servers = day(seed, &kind);
        // One that is killed begins again with all its memory, which is news for the whole pool.
        let allowed = allowed + 2 * servers.iter().map(|x| x.killed).sum::<u32>();
        for server in servers {
            shed += u32::from(server.lowest < FULL);
            histogram[(server.turns as usize).min(11)] += 1;
            assert!(server.turns <= allowed, "{name}, seed {seed}: {} turns, {:?}", server.turns, server.kind);
        }
    }
    println!("{name}: {shed} shed, turns {histogram:?}");
    assert!(shed > 20, "{name}: only {shed} were shed at all");
}

#[test]
fn flow_bound_memory_does_not_swing() {
    turns("flows", flows, 6);
}

#[test]
fn leaking_memory_does_not_swing() {
    turns("leak", leak, 4);
}

#[test]
fn cached_memory_does_not_swing() {
    turns("cached", cached, 2);
}

#[test]
fn mixed_pool_does_not_swing() {
    let any = |noise: &mut Noise| match noise.between(0.0, 3.0) as u32 {
        0 => flows(noise),
        1 => leak(noise),
        _ => cached(noise),
    };
    turns("mixed", any, 6);
}
