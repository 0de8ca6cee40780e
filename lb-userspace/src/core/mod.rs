//! The core: pure decisions. No clock, socket, file, thread, tokio or aya: the lint below refuses what `clippy.toml`
//! lists.
//!
//! `handle(input, now)` changes the state, `poll_output()` yields what to do, `poll_timeout()` says when to call again.
//! One step goes: take the fact; let due timers act; weigh every member ([`weight`]); plan what the kernel should hold
//! ([`desired`]); send the difference ([`diff`]), one list at a time ([`apply`]).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod advice;
pub mod alloc;
pub mod api;
pub mod apply;
pub mod capacity;
mod configure;
pub mod desired;
pub mod diff;
mod distribution;
pub mod drift;
mod encode;
mod facts;
pub mod frozen;
pub mod guard;
mod headroom;
pub mod health;
pub mod hops;
mod invariants;
pub mod kernel;
pub mod lease;
mod limit;
mod load;
pub mod memory;
pub mod ramp;
pub mod reason;
mod recall;
pub mod removed;
mod renamed;
mod resort;
mod review;
pub mod risk;
mod roll_call;
pub mod schedule;
pub mod streak;
mod suspicion;
pub mod tables;
mod trail;
mod watched;
mod weighing;
pub mod weight;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::abi::{Descriptor, MAX_LINKS};

use self::api::{Event, EventKind, Input, Leaving, MemberName, Output, Scope, Suspicion, Time};
use self::apply::Kernel;
use self::hops::Hops;
use self::kernel::{KernelState, MemberId};
use self::lease::{Lease, LeaseKind};
use self::removed::Removed;
use self::risk::Risk;
use self::schedule::Schedule;
use self::watched::Watched;
use crate::config::model::{BackendName, Config, Member, Service, ServiceName};

/// The core. See the module.
pub struct Core {
    kernel: Kernel,
    /// Whether the data plane was found running; settled by the first maps.
    adopted: bool,
    config: Option<Arc<Config>>,
    /// What an earlier daemon ran, until the first configuration.
    before: Option<Arc<Config>>,
    /// Whether `config` has become `members`: it waits for the first maps.
    configured: bool,
    macs: Option<[u64; MAX_LINKS]>,
    hops: Hops,
    members: BTreeMap<MemberName, Watched>,
    schedule: Schedule,
    /// Ends of the start's graces, CLOCK_BOOTTIME ms.
    graces: BTreeSet<(u64, MemberName)>,
    leases: BTreeMap<Scope, Lease>,
    /// Leases whose owners were told that they end soon.
    reminded: BTreeSet<Scope>,
    removed: BTreeMap<Scope, Removed>,
    /// Accepted risks, by service; `None`: of all.
    risks: BTreeMap<Option<ServiceName>, Risk>,
    /// When reasons are to be reviewed.
    reviews: BTreeSet<review::Review>,
    /// Removals that were told of as overdue.
    reviewed: BTreeSet<Scope>,
    /// Servers whose memory is read.
    monitors: BTreeMap<BackendName, headroom::Monitor>,
    /// When each is to be looked at next, CLOCK_BOOTTIME ms.
    reading_due: BTreeSet<(u64, BackendName)>,
    /// Servers whose agents are asked.
    asked: BTreeMap<BackendName, advice::Asking>,
    /// When each is asked next, CLOCK_BOOTTIME ms.
    question_due: BTreeSet<(u64, BackendName)>,
    last_reading: u64,
    /// This boot, for leases that the core grants itself.
    boot_id: String,
    /// What those were lately.
    trails: BTreeMap<MemberName, trail::Trail>,
    /// Members against which something was known since that count.
    touched: BTreeSet<MemberName>,
    /// Where new flows go, by service, and the table that they were picked from at that count.
    spreads: BTreeMap<ServiceName, (distribution::Spread, Option<Descriptor>)>,
    /// Flows of the members at the last count, and what servers carried.
    loads: load::Loads,
    /// What the guard says of each service.
    capacity: BTreeMap<ServiceName, capacity::Capacity>,
    /// Factors of weights, by service.
    shedding: BTreeMap<ServiceName, memory::shed::Shedding>,
    /// Services whose factors are to be looked at.
    shed_due: BTreeSet<ServiceName>,
    /// Members that shedding did not help, which people were told of.
    stuck: BTreeSet<MemberName>,
    /// Services with fewer in rotation than they need, which people were told of.
    short: BTreeSet<ServiceName>,
    /// Services of which something changed that a recall may depend on.
    recall_due: BTreeSet<ServiceName>,
    suspected: BTreeMap<ServiceName, Suspicion>,
    /// Services without a primary that serves, and how far each has gone.
    resorts: BTreeMap<ServiceName, resort::Resort>,
    /// Services with nobody in rotation that would panic.
    forsaken: BTreeSet<ServiceName>,
    /// Servers that have as many flows as they may.
    limits: limit::Limits,
    /// Services of which all members that could serve are at their limits, and since when.
    crowded: BTreeMap<ServiceName, Time>,
    /// When each member on its way to its full weight takes the next step, CLOCK_BOOTTIME ms.
    ramping: BTreeMap<MemberName, u64>,
    cache: tables::Cache,
    leaving: Leaving,
    drained: BTreeSet<MemberId>,
    leaving_addresses: BTreeSet<IpAddr>,
    unused: BTreeSet<IpAddr>,
    /// What did not fit at the last plan, and what people were told of it.
    shortages: Vec<String>,
    reported: Vec<String>,
    /// The cause of a `Configured` event that waits for the kernel.
    announce: Option<String>,
    /// Services with a changed fact: their members are to be weighed again.
    dirty: BTreeSet<ServiceName>,
    /// The plan may be out of date.
    replan: bool,
    now: Time,
    outputs: VecDeque<Output>,
}

impl Core {
    /// A core that knows nothing yet. The seed fixes the jitter of probes.
    pub fn new(seed: u64) -> Self {
        Self {
            kernel: Kernel::default(),
            adopted: false,
            config: None,
            before: None,
            configured: false,
            macs: None,
            hops: Hops::default(),
            members: BTreeMap::new(),
            schedule: Schedule::new(seed),
            graces: BTreeSet::new(),
            leases: BTreeMap::new(),
            reminded: BTreeSet::new(),
            removed: BTreeMap::new(),
            risks: BTreeMap::new(),
            reviews: BTreeSet::new(),
            reviewed: BTreeSet::new(),
            monitors: BTreeMap::new(),
            reading_due: BTreeSet::new(),
            asked: BTreeMap::new(),
            question_due: BTreeSet::new(),
            last_reading: 0,
            boot_id: String::new(),
            trails: BTreeMap::new(),
            touched: BTreeSet::new(),
            spreads: BTreeMap::new(),
            loads: load::Loads::default(),
            capacity: BTreeMap::new(),
            shedding: BTreeMap::new(),
            shed_due: BTreeSet::new(),
            stuck: BTreeSet::new(),
            short: BTreeSet::new(),
            recall_due: BTreeSet::new(),
            suspected: BTreeMap::new(),
            resorts: BTreeMap::new(),
            forsaken: BTreeSet::new(),
            limits: limit::Limits::default(),
            crowded: BTreeMap::new(),
            ramping: BTreeMap::new(),
            cache: tables::Cache::default(),
            leaving: Leaving::new(),
            drained: BTreeSet::new(),
            leaving_addresses: BTreeSet::new(),
            unused: BTreeSet::new(),
            shortages: Vec::new(),
            reported: Vec::new(),
            announce: None,
            dirty: BTreeSet::new(),
            replan: false,
            now: Time { boot_ms: 0, wall_ms: 0 },
            outputs: VecDeque::new(),
        }
    }

    /// Takes what happened at `now`, which never goes back (by `boot_ms`).
    pub fn handle(&mut self, input: Input, now: Time) {
        self.now = now;
        match input {
            Input::Maps { meta, state, adopted } => self.take_maps(meta, *state, adopted),
            Input::Resume { leases, removed, before, boot_id, risks, peaks } => {
                self.boot_id = boot_id;
                self.take_leases(leases);
                self.take_removed(removed);
                self.take_risks(risks);
                self.take_peaks(peaks);
                self.before = before;
            }
            Input::Configure(config, by) => self.take_config(config, by),
            Input::Revert { config, removed, by } => self.revert_config(config, removed, &by),
            Input::Memory { backend, id, result } => self.take_memory(&backend, id, result),
            Input::Advice { backend, id, result } => self.take_advice(&backend, id, result),
            Input::Load(loads) => self.take_load(loads),
            Input::Lease(lease, by) => self.take_lease(*lease, &by),
            Input::Restore(scope, by) => self.restore(&scope, by),
            Input::Accept(risk) => self.accept(*risk),
            Input::Withdraw(service, by) => self.withdraw(&service, by),
            Input::Forget(scope, by) => self.forget(&scope, &by),
            Input::Links(macs) => self.take_links(macs),
            Input::NextHop(ip, answer) => {
                if self.hops.record(ip, answer) {
                    let to = self.members.iter().filter(|(_, member)| member.endpoint.address == ip);
                    self.dirty.extend(to.map(|(name, _)| name.service.clone()));
                    self.replan = true;
                }
            }
            Input::Probe { member, id, result, took } => {
                if self.schedule.answer(&member, id, now.boot_ms) {
                    self.record(&member, result, took);
                }
            }
            Input::Applied { id, result } => self.take_applied(id, result),
            Input::Drained(ids) => self.take_drained(&ids),
            Input::Unused(addresses) => self.take_unused(&addresses),
            Input::Tick => {}
        }
        self.run_leases();
        self.run_risks();
        self.run_timers();
        self.run_readings();
        self.run_agents();
        self.run_resorts();
        self.run_ramps();
        self.run_limits();
        self.weigh();
        self.run_shedding();
        self.run_recalls();
        self.run_last_resort();
        self.run_reviews();
    }

    /// The next thing to do, until there is none. What the kernel should hold is decided here, once for all inputs since
    /// the last call: many that come together cost one plan and one list.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.plan();
        }
        self.outputs.pop_front()
    }

    /// When to call `handle` with [`Input::Tick`] if nothing else happens before; `boot_ms` decides.
    pub fn poll_timeout(&self) -> Option<Time> {
        let grace = self.graces.first().map(|(at, _)| *at);
        let retry = if self.replan { self.kernel.next(self.now.boot_ms) } else { None };
        let at = [
            self.schedule.next(),
            grace,
            retry,
            self.next_lease(),
            self.next_risk(),
            self.next_review(),
            self.next_memory(),
            self.next_question(),
            self.hops.next_ms(),
            self.next_resort(),
            self.next_ramp(),
            self.next_limit(),
        ];
        let at = at.into_iter().flatten().min()?;
        Some(self.now + std::time::Duration::from_millis(at.saturating_sub(self.now.boot_ms)))
    }

    /// What the kernel should hold, by the last plan.
    pub fn desired(&self) -> &KernelState {
        self.kernel.target()
    }

    /// What of the last plan did not fit into the maps, in words; the old tables stay instead.
    pub fn shortages(&self) -> &[String] {
        &self.shortages
    }

    /// Members that are no longer configured, kept for their flows, in no table any more. When one has as many flows
    /// closed as opened, say so by [`Input::Drained`]; then its id becomes free.
    pub fn leaving(&self) -> Leaving {
        let gone = |id: &MemberId| !self.kernel.is_in_a_table(*id);
        self.leaving.iter().filter(|(id, _)| gone(id)).map(|(&id, name)| (id, name.clone())).collect()
    }

    /// Source addresses that are no longer configured, kept for the flows that use them: the program must know them, and
    /// the host must answer for them, or those flows' answers are lost. When one has no flow, say so by
    /// [`Input::Unused`].
    pub fn leaving_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.leaving_addresses
    }

    /// Brings the kernel nearer to what was decided, unless a list is under way.
    fn plan(&mut self) {
        let now_ms = self.now.boot_ms;
        if !self.replan || !self.configured || !self.kernel.is_ready(now_ms) {
            return;
        }
        let (Some(config), Some(meta)) = (&self.config, self.kernel.meta()) else { return };
        self.replan = false;
        let weights = self.members.iter().map(|(name, member)| (name.clone(), member.effective)).collect();
        let shut =
            |name: &&MemberName| self.leases.values().any(|l| l.kind == LeaseKind::Maintenance && l.scope.covers(name));
        let closed = self.members.keys().chain(self.leaving.values()).filter(shut).cloned().collect();
        let request = desired::Request {
            meta,
            config,
            kernel: self.kernel.held(),
            macs: self.macs,
            hops: &self.hops,
            weights: &weights,
            closed: &closed,
            drained: &self.drained,
            unused: &self.unused,
        };
        let plan = desired::plan(&request, &mut self.cache);
        for (name, member) in &mut self.members {
            member.id = plan.members.get(name).copied();
        }
        self.leaving = plan.leaving;
        self.leaving_addresses = plan.leaving_addresses;
        self.unused.retain(|ip| !plan.state.locals.contains_key(ip));
        self.drained.retain(|id| !plan.state.members.contains_key(id));
        self.shortages = plan.shortages;
        match self.kernel.make(plan.state) {
            Some((id, ops)) => self.outputs.push_back(Output::Apply { id, ops }),
            None => self.report(),
        }
        self.follow_hops();
    }

    /// Nothing more can be done for now: says what did not fit, or that the configuration runs.
    fn report(&mut self) {
        if self.reported != self.shortages {
            for shortage in self.shortages.clone() {
                if !self.reported.contains(&shortage) {
                    self.event(None, EventKind::ApplyFailed, shortage);
                }
            }
            self.reported = self.shortages.clone();
        }
        self.refresh_rotation();
        if self.shortages.is_empty()
            && let Some(cause) = self.announce.take()
        {
            self.event(None, EventKind::Configured, cause);
        }
    }

    /// A configured member, as it is watched.
    fn watched(&self, service: &Service, member: &Member) -> Option<&Watched> {
        self.members.get(&MemberName::of(service, member))
    }

    /// Whether someone took the member out.
    fn is_leased(&self, name: &MemberName) -> bool {
        self.leases.keys().any(|scope| scope.covers(name))
    }

    fn event(&mut self, member: Option<&MemberName>, kind: EventKind, cause: String) {
        let (backend, service) = member.map(|m| (m.backend.clone(), m.service.clone())).unzip();
        self.outputs.push_back(Output::Event(Event { time: self.now, backend, service, kind, by: None, cause }));
    }

    /// What happened to a whole service.
    fn event_in(&mut self, service: &ServiceName, kind: EventKind, cause: String) {
        let service = Some(service.clone());
        self.outputs.push_back(Output::Event(Event { time: self.now, backend: None, service, kind, by: None, cause }));
    }

    fn event_of(&mut self, scope: &Scope, kind: EventKind, cause: String) {
        self.event_by(scope, kind, None, cause);
    }

    /// What a person did.
    fn event_by(&mut self, scope: &Scope, kind: EventKind, by: Option<&str>, cause: String) {
        let Scope { backend, service } = scope.clone();
        let (backend, by) = (Some(backend), by.map(str::to_owned));
        self.outputs.push_back(Output::Event(Event { time: self.now, backend, service, kind, by, cause }));
    }
}
