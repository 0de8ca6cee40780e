//! The world around the core: a virtual clock, backends, neighbours, the daemon's part of the dialogue, and the checks
//! that hold after every step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{Hop, MAX_LINKS};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall::config::model::{BackendName, Config, ServiceName};
use rollcall::core::Core;
use rollcall::core::api::{Author, Event, EventKind, Input, MemberCall, MemberName, Output, Scope, Store, Time};
use rollcall::core::guard::peak::Peak;
use rollcall::core::lease::{Asked, Lease, Mark, Owner, Refusal};
use rollcall::core::memory::advice::Advice;
use rollcall::core::memory::sample::Sample;
use rollcall::core::removed::Removed;
use rollcall::core::risk::Risk;

use crate::allocations;
use crate::check::Reasons;
use crate::kernel::Kernel;
use crate::renames;

/// How often, in percent, things go wrong.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// A list of operations fails somewhere; at 100, every list at once.
    pub apply: u32,
    /// A probe's answer is lost.
    pub lost: u32,
    /// A probe's answer comes after its timeout.
    pub late: u32,
}

/// What is on its way to the core.
enum Post {
    Input(Input),
    /// A probe is about to be answered, by what the backend is then.
    Answer {
        address: IpAddr,
        input: Box<Input>,
    },
    /// A server's memory is about to be read, as it is then.
    Memory {
        backend: BackendName,
        id: u64,
    },
    /// A server's agent is about to answer, as it is then.
    Advice {
        backend: BackendName,
        id: u64,
    },
    ReadBack,
    /// A neighbour is about to be asked for.
    Hop(IpAddr),
}

pub struct World {
    pub core: Core,
    pub kernel: Kernel,
    pub now: Time,
    pub rng: StdRng,
    pub faults: Faults,
    pub events: Vec<Event>,
    /// Addresses that refuse probes.
    pub dead: BTreeSet<IpAddr>,
    /// Addresses without a neighbour.
    pub lost_hops: BTreeSet<IpAddr>,
    /// Headroom of the servers whose memory answers.
    pub memory: BTreeMap<BackendName, f64>,
    /// What agents say, of the servers whose agents answer.
    pub advice: BTreeMap<BackendName, &'static str>,
    pub probes: usize,
    pub applies: usize,
    /// Operations on maps.
    pub operations: usize,
    /// The core's own.
    pub allocations: u64,
    /// Leaves the checks out, where only work is counted: they look at everything in every step.
    pub unchecked: bool,
    /// What outlives the daemon.
    pub leases: BTreeMap<Scope, Lease>,
    pub removed: BTreeMap<Scope, Removed>,
    pub risks: BTreeMap<Option<ServiceName>, Risk>,
    pub peaks: BTreeMap<BackendName, Peak>,
    /// Counts boots of the host.
    pub boot: u32,
    /// Whether the kernel picks members from its tables.
    pub honest: bool,
    mark: Mark,
    config: Option<Arc<Config>>,
    followed: Vec<IpAddr>,
    post: BinaryHeap<(Reverse<(u64, u64)>, usize)>,
    letters: BTreeMap<usize, Post>,
    sent: usize,
    /// Since when each reason stands.
    pub reasons: Reasons,
    /// When they were last looked at.
    pub checked: Time,
    /// What was seen of tiers and ramps.
    pub seen_of_tiers: crate::resort::Seen,
}

impl World {
    pub fn new(seed: u64, arena_slots: u32) -> Self {
        Self {
            core: Core::new(seed),
            kernel: Kernel::new(arena_slots),
            now: Time { boot_ms: 10_000, wall_ms: 1_700_000_000_000 },
            rng: StdRng::seed_from_u64(seed),
            faults: Faults::default(),
            events: Vec::new(),
            dead: BTreeSet::new(),
            lost_hops: BTreeSet::new(),
            memory: BTreeMap::new(),
            advice: BTreeMap::new(),
            probes: 0,
            applies: 0,
            operations: 0,
            allocations: 0,
            unchecked: false,
            leases: BTreeMap::new(),
            removed: BTreeMap::new(),
            risks: BTreeMap::new(),
            peaks: BTreeMap::new(),
            boot: 1,
            honest: true,
            mark: Mark { time: Time { boot_ms: 0, wall_ms: 0 }, boot_id: String::new() },
            config: None,
            followed: Vec::new(),
            post: BinaryHeap::new(),
            letters: BTreeMap::new(),
            sent: 0,
            reasons: BTreeMap::new(),
            checked: Time { boot_ms: 0, wall_ms: 0 },
            seen_of_tiers: crate::resort::Seen::default(),
        }
    }

    /// The daemon starts: maps, configuration, links.
    pub fn start(&mut self, config: Arc<Config>, adopted: bool) {
        let before = self.config.replace(config.clone());
        let (boot, now) = (self.boot_id(), self.now);
        for lease in self.leases.values_mut() {
            lease.carry_over(Some(&self.mark), &boot, now);
        }
        let (leases, removed) = (self.leases.values().cloned().collect(), self.removed.values().cloned().collect());
        for risk in self.risks.values_mut() {
            risk.carry_over(Some(&self.mark), &boot, now);
        }
        let (risks, peaks) = (self.risks.values().cloned().collect(), self.peaks.clone().into_iter().collect());
        self.give(Input::Resume { leases, removed, before, boot_id: boot, risks, peaks });
        let state = Box::new(self.kernel.read_state());
        self.give(Input::Maps { meta: self.kernel.meta, state, adopted });
        self.give(Input::Configure(config, author("start")));
        let mut macs = [0; MAX_LINKS];
        macs[0] = 0x0102_0304_0506;
        self.give(Input::Links(macs));
    }

    /// SIGKILL and a new daemon, which finds the maps as they are.
    pub fn restart(&mut self, config: Arc<Config>) {
        self.forget_daemon();
        self.start(config, true);
    }

    pub fn configure(&mut self, config: Arc<Config>) {
        let before = self.config.replace(config.clone()).expect("started");
        let (narrowed, told) = (renames::narrowed(self, &before, &config), self.events.len());
        self.give(Input::Configure(config, author("reload")));
        for scope in narrowed {
            // It may be called back at once, by the new configuration.
            let over = |e: &Event| {
                e.kind == EventKind::Recalled
                    && (e.backend.as_ref(), &e.service) == (Some(&scope.backend), &scope.service)
            };
            let stands = self.leases.contains_key(&scope) || self.events[told..].iter().any(over);
            assert!(stands, "the lease of {scope} is lost with the service's old name");
        }
    }

    /// The core follows a change, but nothing else does: what was recorded before is recorded again.
    pub fn fail_to_configure(&mut self, config: Arc<Config>, pause: Duration) {
        let (before, removed) = (self.config(), self.removed.clone());
        self.configure(config);
        self.run(pause);
        self.config = Some(before.clone());
        let records = removed.values().cloned().collect();
        self.give(Input::Revert { config: before, removed: records, by: author("reload") });
        assert_eq!(self.removed, removed, "a change that failed left its traces");
    }

    /// As `/proc/sys/kernel/random/boot_id`.
    fn boot_id(&self) -> String {
        format!("boot {}", self.boot)
    }

    /// The host restarts, `pause` later; its wall clock shows `set_ms` more than it should.
    pub fn reboot(&mut self, config: Arc<Config>, pause: Duration, set_ms: i64) {
        self.mark = Mark { time: self.now, boot_id: self.boot_id() };
        self.boot += 1;
        let wall_ms = (self.now + pause).wall_ms + set_ms;
        self.now = Time { boot_ms: 10_000, wall_ms };
        self.kernel = Kernel::new(self.kernel.meta.arena_slots);
        self.forget_daemon();
        self.start(config, false);
    }

    fn forget_daemon(&mut self) {
        self.core = Core::new(self.rng.random());
        self.post.clear();
        self.letters.clear();
        self.followed.clear();
        self.reasons.clear();
        self.checked = self.now;
        self.seen_of_tiers = crate::resort::Seen::default();
    }

    /// Takes a server out, as the daemon does: granted by the core, stored, then in force.
    pub fn take(&mut self, asked: Asked) -> Result<(), Refusal> {
        let lease = self.core.grant(asked, &self.boot_id(), self.now)?;
        let by = lease.owner.in_words();
        self.begin(lease, &by);
        Ok(())
    }

    /// Accepts a risk, as the daemon does: stored, then in force.
    pub fn accept(&mut self, service: Option<ServiceName>, length: Duration) -> Result<(), Refusal> {
        let owner = Owner { name: "ada".to_owned(), claimed: false, uid: 0, loginuid: Some(1000) };
        let risk = self.core.acceptable(service, length, owner, "known".to_owned(), &self.boot_id(), self.now)?;
        self.risks.insert(risk.service.clone(), risk.clone());
        self.give(Input::Accept(Box::new(risk)));
        Ok(())
    }

    /// Stores a lease that someone granted or extended, then lets it begin.
    pub fn begin(&mut self, lease: Lease, by: &str) {
        self.leases.insert(lease.scope.clone(), lease.clone());
        self.give(Input::Lease(Box::new(lease), by.to_owned()));
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.clone().expect("started")
    }

    /// Backends die or recover; neighbours too. Neighbours are told at once.
    pub fn set_hop(&mut self, ip: IpAddr, there: bool) {
        let changed = if there { self.lost_hops.remove(&ip) } else { self.lost_hops.insert(ip) };
        if changed && self.followed.contains(&ip) {
            self.give(Input::NextHop(ip, self.hop(ip)));
        }
    }

    fn hop(&self, ip: IpAddr) -> Result<Hop, String> {
        if self.lost_hops.contains(&ip) {
            return Err("no neighbour answers".to_owned());
        }
        let last = match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        };
        Ok(Hop::new([2, 0, 0, 0, 0, last], [2, 0, 0, 0, 1, 0], 3))
    }

    /// Lets virtual time pass.
    pub fn run(&mut self, time: Duration) {
        let end = (self.now + time).boot_ms;
        while self.step(end) {}
        self.advance(end);
        self.give(Input::Tick);
    }

    /// Runs until `done`, at most `limit`; how long it took.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now.boot_ms;
        let end = (self.now + limit).boot_ms;
        while !done(self) {
            assert!(self.step(end), "not reached within {limit:?}: {:#?}", self.core.roll_call(self.now));
        }
        Duration::from_millis(self.now.boot_ms - start)
    }

    /// The next thing that happens before `end`.
    fn step(&mut self, end: u64) -> bool {
        let timer = self.core.poll_timeout().map(|t| t.boot_ms);
        let letter = self.post.peek().map(|(Reverse((at, _)), _)| *at);
        let at = [timer, letter].into_iter().flatten().min();
        let Some(at) = at.filter(|&at| at <= end) else { return false };
        assert!(letter == Some(at) || at > self.now.boot_ms, "the core wants to be called again at once");
        self.advance(at);
        if letter == Some(at) {
            let (_, id) = self.post.pop().expect("peeked");
            match self.letters.remove(&id).expect("each letter is opened once") {
                Post::Input(input) => self.give(input),
                Post::Answer { address, input } => self.answer(address, *input),
                Post::Memory { backend, id } => {
                    let result = self.memory.get(&backend).map_or(Err("connection refused".to_owned()), |free| {
                        let total_bytes = 1 << 30;
                        let available_bytes = (total_bytes as f64 * free) as u64;
                        Ok(Sample { total_bytes, available_bytes, pressure: None })
                    });
                    self.give(Input::Memory { backend, id, result });
                }
                Post::Advice { backend, id } => {
                    let line = self.advice.get(&backend);
                    let result = line.map(|line| Advice::parse(line)).ok_or_else(|| "connection refused".to_owned());
                    self.give(Input::Advice { backend, id, result });
                }
                Post::Hop(ip) => self.give(Input::NextHop(ip, self.hop(ip))),
                Post::ReadBack => {
                    let state = Box::new(self.kernel.read_state());
                    self.give(Input::Maps { meta: self.kernel.meta, state, adopted: true });
                }
            }
        } else {
            self.give(Input::Tick);
        }
        true
    }

    fn advance(&mut self, to: u64) {
        let ms = to.saturating_sub(self.now.boot_ms);
        self.now = self.now + Duration::from_millis(ms);
    }

    fn answer(&mut self, address: IpAddr, input: Input) {
        let Input::Probe { member, id, took, .. } = input else { unreachable!("only probes are answered") };
        let dead = self.dead.contains(&address);
        let result = if dead { Err("connection refused".to_owned()) } else { Ok(()) };
        self.give(Input::Probe { member, id, result, took });
    }

    fn send(&mut self, after_ms: u64, post: Post) {
        self.sent += 1;
        self.letters.insert(self.sent, post);
        self.post.push((Reverse((self.now.boot_ms + after_ms, self.sent as u64)), self.sent));
    }

    pub fn send_input(&mut self, after_ms: u64, input: Input) {
        self.send(after_ms, Post::Input(input));
    }

    /// Hands the core an input, carries its outputs out, and checks everything.
    pub fn give(&mut self, input: Input) {
        let steady = matches!(input, Input::Probe { .. } | Input::Tick);
        let allocated = allocations::so_far();
        self.core.handle(input, self.now);
        self.allocations += allocations::so_far() - allocated;
        let events = self.events.len();
        let writes = self.carry_out();
        if self.unchecked {
            return;
        }
        self.check(!steady || writes || self.events.len() > events);
        self.core.handle(Input::Tick, self.now);
        assert!(self.core.poll_output().is_none(), "output without a change");
    }

    /// Whether it wrote maps.
    fn carry_out(&mut self) -> bool {
        let applies = self.applies;
        // A list is over once its answer is given.
        let mut applying = self.letters.values().any(|p| matches!(p, Post::Input(Input::Applied { .. })));
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Apply { id, ops } => {
                    assert!(!std::mem::replace(&mut applying, true), "two lists at once");
                    assert!(!ops.is_empty());
                    self.applies += 1;
                    self.operations += ops.len();
                    if self.chance(self.faults.apply) {
                        let always = self.faults.apply == 100;
                        self.kernel.fail_in = Some(if always { 0 } else { self.rng.random_range(0..ops.len()) });
                    }
                    let result = ops.iter().try_for_each(|op| self.kernel.apply(op));
                    let delay = self.rng.random_range(0..30);
                    let failed = result.is_err();
                    self.send(delay, Post::Input(Input::Applied { id, result }));
                    if failed {
                        self.send(delay + 5, Post::ReadBack);
                    }
                }
                Output::Probe { member, id, address, probe, .. } => {
                    self.probes += 1;
                    if self.chance(self.faults.lost) {
                        continue;
                    }
                    let timeout = probe.timeout.as_millis() as u64;
                    let late = if self.chance(self.faults.late) { timeout + 1500 } else { 0 };
                    let delay = late + self.rng.random_range(0..20).min(timeout);
                    let took = Duration::from_millis(delay);
                    let input = Box::new(Input::Probe { member, id, result: Ok(()), took });
                    self.send(delay, Post::Answer { address, input });
                }
                Output::Resolve(addresses) => {
                    for &ip in addresses.iter().filter(|ip| !self.followed.contains(ip)).collect::<Vec<_>>() {
                        let delay = self.rng.random_range(0..50);
                        self.send(delay, Post::Hop(ip));
                    }
                    self.followed = addresses;
                }
                Output::AskAgent { backend, id, .. } => {
                    let delay = self.rng.random_range(0..200);
                    self.send(delay, Post::Advice { backend, id });
                }
                Output::ReadMemory { backend, id, .. } => {
                    let delay = self.rng.random_range(0..200);
                    self.send(delay, Post::Memory { backend, id });
                }
                Output::Store(store) => self.store(store),
                Output::Event(event) => self.events.push(event),
            }
        }
        self.applies > applies
    }

    fn store(&mut self, store: Store) {
        match store {
            Store::PutLease(lease) => drop(self.leases.insert(lease.scope.clone(), lease)),
            Store::DropLease(scope) => drop(self.leases.remove(&scope)),
            Store::PutRemoved(removed) => drop(self.removed.insert(removed.scope.clone(), removed)),
            Store::DropRemoved(scope) => drop(self.removed.remove(&scope)),
            Store::DropRisk(service) => drop(self.risks.remove(&service)),
            Store::PutPeaks(peaks) => self.peaks.extend(peaks),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// Ids that left and have no flows any more, as the daemon reports them: late.
    pub fn report_drained(&mut self) {
        let leaving = self.core.leaving();
        let drained: Vec<u32> = leaving.into_keys().filter(|&id| self.kernel.flows(id) == 0).collect();
        if !drained.is_empty() {
            let delay = self.rng.random_range(0..500);
            self.send_input(delay, Input::Drained(drained));
        }
        let leaving = self.core.leaving_addresses().iter();
        let unused: Vec<IpAddr> = leaving.copied().filter(|&ip| !self.kernel.is_source(ip)).collect();
        if !unused.is_empty() {
            self.give(Input::Unused(unused));
        }
    }

    /// Flows of all members, as the daemon counts them now and then.
    pub fn count_flows(&mut self) {
        let call = self.core.roll_call(self.now);
        let members = call.services.iter().flat_map(|s| s.members.iter().map(move |m| (s, m)));
        let load = members.filter_map(|(service, m)| {
            let name = MemberName { service: service.name.clone(), backend: m.backend.clone() };
            Some((name, self.kernel.load(m.id?)))
        });
        let loads = load.collect();
        self.give(Input::Load(loads));
    }

    pub fn members(&self) -> Vec<MemberCall> {
        self.core.roll_call(self.now).services.into_iter().flat_map(|s| s.members).collect()
    }

    pub fn settled(&self) -> bool {
        self.core.roll_call(self.now).settled
    }

    /// How often an event of this kind was seen.
    pub fn seen(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|e| e.kind == kind).count()
    }
}

fn author(how: &str) -> Author {
    Author { name: "test".to_owned(), how: how.to_owned(), ..Author::default() }
}
