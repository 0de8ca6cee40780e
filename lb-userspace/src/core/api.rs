//! What goes into the core and what comes out of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::abi::{Hop, MAX_LINKS, Meta};
use serde::{Deserialize, Serialize};

use super::guard::Verdict;
use super::guard::peak::Peak;
use super::kernel::{KernelState, MapOp, MemberId};
use super::lease::Lease;
use super::memory::advice::Advice;
use super::memory::forecast::Forecast;
use super::memory::sample::Sample;
use super::memory::tracker::Memory;
use super::reason::{self, Reason};
use super::removed::Removed;
use super::risk::Risk;
use crate::config::memory::{AgentCheck, MemorySource};
use crate::config::model::{BackendName, Config, Listen, Member, Probe, Service, ServiceName, Tier};

/// A wall clock that departs so far from the other was set.
const SET_AT_LEAST_MS: u64 = 2000;

/// A moment: for durations by CLOCK_BOOTTIME, for people by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time {
    /// CLOCK_BOOTTIME, ms; 0 for a moment of an earlier boot, of which only the wall clock is known.
    pub boot_ms: u64,
    /// Unix time, ms.
    pub wall_ms: i64,
}

impl Time {
    /// This moment as people see it at `now`. Where the wall clock was set since (a host without a clock of its own, at its
    /// first contact with a time server), what was read before it is wrong: then the time since counts, back from `now`.
    #[must_use]
    pub fn seen_at(self, now: Self) -> Self {
        if self.boot_ms == 0 {
            return self;
        }
        let since = i128::from(now.boot_ms) - i128::from(self.boot_ms);
        let wall_ms = i64::try_from(i128::from(now.wall_ms) - since).unwrap_or(self.wall_ms);
        // Less is the two clocks' reading, and must not make a time flicker.
        if wall_ms.abs_diff(self.wall_ms) < SET_AT_LEAST_MS { self } else { Self { wall_ms, ..self } }
    }
}

/// A duration in ms; what is longer than they can count is as long as they can.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        let ms = millis(d);
        Self {
            boot_ms: self.boot_ms.saturating_add(ms),
            wall_ms: self.wall_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)),
        }
    }
}

/// A member by its names: the identity that reloads keep.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberName {
    /// The service.
    pub service: ServiceName,
    /// The backend.
    pub backend: BackendName,
}

impl MemberName {
    /// The name of a service's configured member.
    pub fn of(service: &Service, member: &Member) -> Self {
        Self { service: service.name.clone(), backend: member.backend.clone() }
    }
}

impl std::fmt::Display for MemberName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

/// A server, everywhere or in one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The server.
    pub backend: BackendName,
    /// In this service only.
    pub service: Option<ServiceName>,
}

impl Scope {
    /// Whether it concerns `backend` in `service`.
    pub fn covers(&self, member: &MemberName) -> bool {
        self.backend == member.backend && self.service.as_ref().is_none_or(|s| *s == member.service)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{} in {service}", self.backend),
            None => write!(f, "{}", self.backend),
        }
    }
}

/// Who acts where no person does.
pub const DAEMON: &str = "the daemon";

/// Who changed the configuration, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// A name for people.
    pub name: String,
    /// The command, a reload, a start.
    pub how: String,
    /// Servers that were removed for good, each with the reason.
    pub decommissioned: BTreeMap<BackendName, String>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The maps are open: what they are, and what they hold. First input of every run, and again after a failed write.
    /// `adopted`: they outlived an earlier daemon.
    Maps {
        /// Sizes, HZ, seed.
        meta: Meta,
        /// Read back from the kernel.
        state: Box<KernelState>,
        /// Whether they were found pinned.
        adopted: bool,
    },
    /// What an earlier daemon left: leases, carried over into this boot; servers that were removed; the configuration that
    /// ran last. Before the first [`Input::Configure`].
    Resume {
        /// Leases.
        leases: Vec<Lease>,
        /// Removed servers.
        removed: Vec<Removed>,
        /// This boot (`/proc/sys/kernel/random/boot_id`).
        boot_id: String,
        /// Accepted risks, carried over into this boot.
        risks: Vec<Risk>,
        /// What servers are known to have carried.
        peaks: Vec<(BackendName, Peak)>,
        /// What ran last, so that what is missing from the next configuration is noticed.
        before: Option<Arc<Config>>,
    },
    /// A checked configuration is to run from now on.
    Configure(Arc<Config>, Author),
    /// The last [`Input::Configure`] failed outside the core: the configuration before it is in force again, and so is what
    /// was recorded of removed servers.
    Revert {
        /// What ran before.
        config: Arc<Config>,
        /// Who was missed before.
        removed: Vec<Removed>,
        /// Who made the change that failed, and how.
        by: Author,
    },
    /// A reading of memory ended.
    Memory {
        /// Whose.
        backend: BackendName,
        /// The number that [`Output::ReadMemory`] carried; others are ignored.
        id: u64,
        /// The sample, or why there is none.
        result: Result<Sample, String>,
    },
    /// An agent was asked.
    Advice {
        /// Whose.
        backend: BackendName,
        /// The number that [`Output::AskAgent`] carried; others are ignored.
        id: u64,
        /// Its answer, or why there is none.
        result: Result<Advice, String>,
    },
    /// A lease that [`super::Core::grant`] or [`super::Core::extended`] made for someone, by name, begins; it is stored
    /// already.
    Lease(Box<Lease>, String),
    /// Flows were counted: of each configured member whose counters could be read. To be said about every ten seconds.
    Load(BTreeMap<MemberName, Load>),
    /// Someone, by name, ends a lease before its time.
    Restore(Scope, String),
    /// Someone, by name, lets go of what was removed.
    Forget(Scope, String),
    /// A risk that [`super::Core::acceptable`] made is accepted; it is stored already.
    Accept(Box<Risk>),
    /// Someone, by name, no longer accepts the risk of this service, or of all.
    Withdraw(Option<ServiceName>, String),
    /// MACs of the attached interfaces; empty while unknown.
    Links([u64; MAX_LINKS]),
    /// The next hop towards a backend's address; `Err` says why there is none.
    NextHop(IpAddr, Result<Hop, String>),
    /// A probe ended.
    Probe {
        /// Whose.
        member: MemberName,
        /// The number that [`Output::Probe`] carried; results of older probes are ignored.
        id: u64,
        /// Success, or why not.
        result: Result<(), String>,
        /// How long it took.
        took: Duration,
    },
    /// The operations of [`Output::Apply`] with this number were carried out, or failed at one.
    Applied {
        /// The number.
        id: u64,
        /// What failed; a new [`Input::Maps`] follows.
        result: Result<(), String>,
    },
    /// These leaving members ([`super::Core::leaving`]) have no flow any more: as many closed as opened, by counters read
    /// after they were listed. Ids that are not leaving are ignored, so it may be repeated.
    Drained(Vec<MemberId>),
    /// These leaving addresses ([`super::Core::leaving_addresses`]) are the source of no flow any more, by a look at the
    /// flows that began after they were listed. Others are ignored, so it may be repeated.
    Unused(Vec<IpAddr>),
    /// Nothing but time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Carry these out, in order; answer with [`Input::Applied`]. At most one such list is under way.
    Apply {
        /// Number of the list.
        id: u64,
        /// The steps.
        ops: Vec<MapOp>,
    },
    /// Start one probe; answer with [`Input::Probe`] within its timeout.
    Probe {
        /// Whose.
        member: MemberName,
        /// Its number.
        id: u64,
        /// The backend's address in the service's family.
        address: IpAddr,
        /// The port to check.
        port: u16,
        /// What to check.
        probe: Arc<Probe>,
    },
    /// Resolve these next hops and keep them fresh; replaces the earlier set.
    Resolve(Vec<IpAddr>),
    /// Read a server's memory once; answer with [`Input::Memory`].
    ReadMemory {
        /// Whose.
        backend: BackendName,
        /// Its number.
        id: u64,
        /// Where.
        source: Arc<MemorySource>,
    },
    /// Ask a server's agent once; answer with [`Input::Advice`].
    AskAgent {
        /// Whose.
        backend: BackendName,
        /// Its number.
        id: u64,
        /// Where.
        check: Arc<AgentCheck>,
    },
    /// Keep this for the next daemon.
    Store(Store),
    /// Something that people should see.
    Event(Event),
}

/// Something that must outlive this daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// A lease that the core granted, for an agent.
    PutLease(Lease),
    /// The lease of this scope is over.
    DropLease(Scope),
    /// A server was removed.
    PutRemoved(Removed),
    /// It is back, or let go.
    DropRemoved(Scope),
    /// The risk of this service, or of all, is no longer accepted.
    DropRisk(Option<ServiceName>),
    /// What servers are known to have carried: evidence that may be lost.
    PutPeaks(Vec<(BackendName, Peak)>),
}

/// A transition, with its cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Time,
    /// Which server, if one.
    pub backend: Option<BackendName>,
    /// In which service, if in one.
    pub service: Option<ServiceName>,
    /// What.
    pub kind: EventKind,
    /// Who did it, by name, if a person did.
    pub by: Option<String>,
    /// Why, in words.
    pub cause: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The configuration was applied.
    Configured,
    /// Health became up.
    Up,
    /// Health became down.
    Down,
    /// No primary member can serve: backups take new flows from now on.
    BackupInUse,
    /// They no longer do; or a backup is ready to.
    BackupStandby,
    /// Nobody can serve: all take new flows from now on, although down.
    Panic,
    /// It is over.
    PanicOver,
    /// A server has as many flows as it may.
    AtLimit,
    /// It is well below that again.
    BelowLimit,
    /// All members of a service that could serve are at their limits.
    ServiceAtLimit,
    /// Not all are any more.
    ServiceBelowLimit,
    /// A member came into rotation and gets its weight in steps.
    Ramping,
    /// It has its full weight.
    Ramped,
    /// Takes new flows from now on.
    InRotation,
    /// Takes no new flows from now on.
    OutOfRotation,
    /// Over half of three or more failed within one interval: the table is held, the edge suspected.
    EdgeSuspected,
    /// The suspicion ended.
    EdgeCleared,
    /// A list of map operations failed.
    ApplyFailed,
    /// The start's grace ended without a result; in rotation unverified.
    Unverified,
    /// A drain began.
    Drained,
    /// A maintenance began.
    Maintenance,
    /// A lease ends later than it did.
    LeaseExtended,
    /// A service has another name: what is on it goes by that.
    Renamed,
    /// A lease's service is gone from the configuration.
    LeaseIdle,
    /// The last flow of a member that was taken out has ended.
    Emptied,
    /// A lease ends soon.
    LeaseEnding,
    /// A lease's time is over.
    LeaseEnded,
    /// A lease was ended before its time.
    Restored,
    /// A drained server was called back, because too few were left.
    Recalled,
    /// Too few are left, and nobody can be called back.
    TooFew,
    /// The others can no longer carry the load of a server that is out, and nobody can be called back.
    Outgrown,
    /// Something was done that the capacity guard refuses.
    GuardOverridden,
    /// The loss of one server of a service could not be borne.
    #[serde(rename = "n_minus_1_unmet")]
    NMinusOneUnmet,
    /// It could be borne again, or that is no longer known.
    #[serde(rename = "n_minus_1_met")]
    NMinusOneMet,
    /// After a lease, the first probe failed.
    ReturnFailed,
    /// Somebody accepted, for a time, that a service is without N-1.
    RiskAccepted,
    /// Somebody no longer does.
    RiskWithdrawn,
    /// Its time is over.
    RiskEnded,
    /// A server left the configuration.
    Removed,
    /// A removed server is back in the configuration.
    Returned,
    /// Someone let go of a removed server.
    Forgotten,
    /// A server was removed for good.
    Decommissioned,
    /// A server's memory is tight or exhausted.
    MemoryShort,
    /// A server's memory is ample again.
    MemoryAmple,
    /// A server's memory cannot be read any more.
    MemoryUnknown,
    /// A server's memory is going to end.
    MemoryEnds,
    /// It is no longer going to.
    MemoryHolds,
    /// A server's agent advises something else than before, or wants what is not granted.
    Advised,
    /// A server's agent no longer answers.
    AdviceSilent,
    /// A member's weight was lowered or raised for its memory.
    Shed,
    /// Less weight did not give a server more memory.
    SheddingStuck,
    /// New flows do not go where they should: by the live table, or by the configured weights.
    DistributionOff,
    /// They do again.
    DistributionWell,
    /// A reason or a removal stands past its review.
    Overdue,
    /// Something else changed the maps, or took the program off.
    DriftFound,
    /// What was changed is as it was decided again.
    DriftRepaired,
    /// What was changed is left so: it was repaired too often within too short a time.
    DriftLeft,
    /// The daemon started: with a new data plane, or with the one that it found.
    DaemonStarted,
    /// The daemon was stopped; the data plane stays, unless it was taken down.
    DaemonStopped,
    /// A configuration runs from now on.
    RevisionApplied,
    /// The program is on the interfaces.
    ProgramAttached,
    /// A warning stands from now on, or changed.
    WarningRaised,
    /// A warning is over.
    WarningCleared,
    /// Events could not be kept.
    EventsLost,
    /// An alert fired.
    AlertFired,
    /// What it was about is over.
    AlertResolved,
    /// It was sent by one of its routes.
    AlertDelivered,
    /// Somebody works on it: nobody further is called for a time.
    AlertAcknowledged,
    /// That time is over, and it still stands: it escalates again.
    AlertAckEnded,
}

/// What consecutive probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No result yet.
    Unknown,
    /// Up, or not probed by configuration.
    Up,
    /// Down.
    Down,
}

/// The roll call: every configured member, in rotation or with the reason why not.
#[derive(Clone, Debug, PartialEq)]
pub struct RollCall {
    /// When it was taken.
    pub time: Time,
    /// Services in the configuration's order.
    pub services: Vec<ServiceCall>,
    /// Whether the kernel holds all that was decided.
    pub settled: bool,
    /// Services whose members failed in a way that makes the edge itself suspect; their tables are held.
    pub suspicions: Vec<Suspicion>,
    /// Leases, by what they are on.
    pub leases: Vec<Lease>,
    /// Servers that left the configuration and were neither brought back nor let go.
    pub removed: Vec<Removed>,
    /// Memory of the servers that are monitored.
    pub memory: Vec<MemoryCall>,
    /// Risks that are accepted.
    pub risks: Vec<Risk>,
    /// Members that less weight has not given more memory.
    pub stuck: Vec<MemberName>,
    /// Agents that are asked for advice and do not answer.
    pub silent_agents: Vec<SilentAgent>,
    /// Where new flows do not go where they should.
    pub skews: Vec<Skew>,
}

/// A server's agent that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentAgent {
    /// The server.
    pub backend: BackendName,
    /// When it answered last, or was first to be asked.
    pub since: Time,
    /// Why the last question had no answer.
    pub why: String,
}

/// New flows that do not go where they should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Of which service.
    pub service: ServiceName,
    /// Who gets less than its configured weight, with nothing known against it; `None`: the live table is not followed.
    pub backend: Option<BackendName>,
    /// Since when.
    pub since: Time,
    /// What was counted, in words.
    pub words: String,
}

/// Flows of a member at a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Flows opened since the member got its id. Only grows, but begins again with another id or a new data plane.
    pub opened: u64,
    /// Active flows: opened less closed.
    pub active: u64,
    /// Bytes of frames both ways, counted as `opened`.
    pub bytes: u64,
}

/// What a member got in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The span; at most about five minutes.
    pub over: std::time::Duration,
    /// New flows.
    pub opened: u64,
    /// Bytes of frames both ways.
    pub bytes: u64,
}

/// What is known of a server's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryCall {
    /// The server.
    pub backend: BackendName,
    /// The fact.
    pub memory: Memory,
    /// Since when.
    pub since: Time,
    /// Available memory as a share of all, 0 to 1; `None` while unknown.
    pub headroom: Option<f64>,
    /// The last sample.
    pub sample: Option<Sample>,
    /// When it ends.
    pub forecast: Forecast,
    /// Since when the alarm stands that it is going to end, if it does.
    pub ends: Option<Time>,
}

/// Most of a service's members failed at once: the edge itself is suspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The service whose table is held.
    pub service: ServiceName,
    /// Since when.
    pub since: Time,
    /// What raised it, in words.
    pub cause: String,
}

/// One service of the roll call.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceCall {
    /// Its name.
    pub name: ServiceName,
    /// Its id in the kernel.
    pub id: u32,
    /// What it listens on.
    pub listen: Listen,
    /// Since when its backups take new flows, because no primary member can.
    pub backup_in_use: Option<Time>,
    /// Since when all take new flows although down, because no member can serve.
    pub panic: Option<Time>,
    /// Since when all its members that could serve are at their limits.
    pub at_limit: Option<Time>,
    /// Members in the configuration's order.
    pub members: Vec<MemberCall>,
    /// Whether the loss of any one server could be borne; `None` until flows have been counted.
    pub n_minus_1: Option<NMinusOne>,
    /// Set while the others cannot carry the load of a server that is out and is not called back.
    pub outgrown: Option<Outgrown>,
}

/// Whether a service could lose any one server: the worst case.
#[derive(Clone, Debug, PartialEq)]
pub struct NMinusOne {
    /// Whether the others would carry it.
    pub verdict: Verdict,
    /// The server whose loss would be worst; `None`: nobody is in rotation.
    pub lost: Option<BackendName>,
    /// What the verdict rests on, in words.
    pub evidence: String,
    /// Since when the verdict has been this one.
    pub since: Time,
    /// Since when the alarm stands that it does not fit, if it does.
    pub alarm: Option<Time>,
}

/// The others cannot carry the load of a server that is out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgrown {
    /// Since when.
    pub since: Time,
    /// Who would have how much, in words.
    pub evidence: String,
    /// What the lease is on that keeps it out.
    pub scope: Scope,
}

/// One member of the roll call.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberCall {
    /// Its backend.
    pub backend: BackendName,
    /// Its id in the kernel, if it has one yet.
    pub id: Option<u32>,
    /// Address and port.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Takes new flows.
    pub in_rotation: bool,
    /// Whether it serves always or only when no primary can.
    pub tier: Tier,
    /// Configured weight.
    pub weight: u16,
    /// Effective weight in 1/256 of the configured unit.
    pub effective: u32,
    /// Its share of the service's slots, 0 to 1.
    pub share: f64,
    /// Health.
    pub health: Health,
    /// Consecutive results equal to the last one.
    pub streak: u32,
    /// The last probe: when, how long, and its error if it failed.
    pub last_probe: Option<LastProbe>,
    /// Since when it has been in or out.
    pub since: Time,
    /// Why its weight is lowered (or unverified).
    pub reasons: Vec<Reason>,
    /// Next hop, if resolved.
    pub hop: Option<Hop>,
    /// Its flows when they were last counted; `None` before.
    pub load: Option<Load>,
    /// What it really got lately; `None` before the second count.
    pub observed: Option<Observed>,
    /// If it was taken out: since when it has had no flow, as far as it was looked.
    pub empty_since: Option<Time>,
    /// Why it was last taken in or out, in words.
    pub why: String,
}

impl MemberCall {
    /// Whether it is out of rotation as configured: of the backup tier, with nothing against it.
    pub fn is_standby(&self) -> bool {
        !self.in_rotation && reason::is_standby(self.reasons.iter().map(|r| r.kind))
    }
}

/// The last probe of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastProbe {
    /// When it ended.
    pub time: Time,
    /// How long it took.
    pub took: Duration,
    /// Its error.
    pub error: Option<String>,
}

/// Members that left the configuration but whose flows still live, by kernel id.
pub type Leaving = BTreeMap<u32, MemberName>;
