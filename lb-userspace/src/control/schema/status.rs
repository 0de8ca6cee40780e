//! `rollcall.status/v1`, and the views of it by backend and by service.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AlertStatus, Document, EventRecord, LeaseStatus, MemoryStatus, NMinusOneStatus, OutgrownStatus, RemovedStatus,
    RiskStatus, timestamp,
};
use crate::alert::Board;
use crate::config::defaults;
use crate::config::is_deaf;
use crate::config::model::{Algorithm, Backend, BackendName, Mode, Protocol, Service, ServiceName, Tier};
use crate::control::daemon::View;
use crate::core::api::{Event, EventKind, Health, MemberCall, ServiceCall, Suspicion};
use crate::core::reason::{Reason, ReasonKind};
use crate::io::bpf::types::{Attached, Counters, MemberCounters};

/// The roll call: every configured backend of every service, in rotation or with the reason why not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// When the roll call was taken.
    pub time: Timestamp,
    /// The daemon.
    pub daemon: DaemonStatus,
    /// Where the program is attached, and how.
    pub attached: Vec<Attachment>,
    /// What people should know, worst first.
    pub warnings: Vec<String>,
    /// Those of `warnings` that do not mend themselves and need someone now.
    #[serde(default)]
    pub critical: Vec<String>,
    /// Whether the kernel holds all that was decided.
    pub settled: bool,
    /// Whether so many backends failed at once that the edge itself is suspected; tables are held meanwhile.
    pub edge_suspected: bool,
    /// The services for which it is suspected.
    #[serde(default)]
    pub suspicions: Vec<SuspicionStatus>,
    /// Services in the configuration's order.
    pub services: Vec<ServiceStatus>,
    /// Configured backends that no service uses.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub unused_backends: Vec<BackendName>,
    /// Backends that were taken out on purpose, for a time.
    #[serde(default)]
    pub leases: Vec<LeaseStatus>,
    /// Backends that left the configuration and are expected back.
    #[serde(default)]
    pub removed: Vec<RemovedStatus>,
    /// Whether no alert route is configured, so that nobody is told of anything.
    #[serde(default)]
    pub nobody_told: bool,
    /// Alerts that fire, worst first. Of a daemon that does not run only that it is down, if `watch` told anybody.
    #[serde(default)]
    pub alerts: Vec<AlertStatus>,
    /// Risks that are accepted.
    #[serde(default)]
    pub risks: Vec<RiskStatus>,
}

/// A service whose members failed at once, so that the edge itself is suspected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SuspicionStatus {
    /// The service whose table is held.
    #[cfg_attr(test, schemars(with = "String"))]
    pub service: ServiceName,
    /// Since when.
    pub since: Timestamp,
    /// What raised it, in words.
    pub cause: String,
}

/// The daemon that answers; or, where none runs, what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DaemonStatus {
    /// Whether it runs. If not, this is what it left, as maps and `state.db` say: leases and health are frozen, `health` is
    /// `unknown`, `weight_effective` is the configured weight or 0, and `since` is when the daemon was last seen.
    #[serde(default = "runs")]
    pub running: bool,
    /// If it does not run: when it was last seen alive (a mark of each minute, and of an orderly end); null if that is not
    /// known.
    #[serde(default)]
    pub down_since: Option<Timestamp>,
    /// Its version; the command's, if it does not run.
    pub version: String,
    /// Its process; 0 if it does not run.
    pub pid: u32,
    /// When it started; if it does not run, when it was last seen.
    pub started: Timestamp,
    /// Whether it found a running data plane and took it over.
    pub adopted: bool,
    /// When the data plane was created.
    pub data_plane_created: Timestamp,
    /// The configuration file.
    pub config_path: String,
    /// Whether the file differs from what runs.
    pub file_differs: bool,
}

/// The program on one interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attachment {
    /// The interface.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// `native` or `generic`.
    pub mode: String,
    /// Why it is not native, if that was wanted.
    pub fallback: Option<String>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// Its name.
    #[cfg_attr(test, schemars(with = "String"))]
    pub name: ServiceName,
    /// What clients connect to.
    pub listen: Listener,
    /// How packets reach its backends: `nat`, `dsr-l2` or `dsr-ipip`.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "String"))]
    pub mode: Mode,
    /// How flows are spread: `maglev`, `round-robin`, `least-conn` or `source`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub algorithm: Algorithm,
    /// Who is called.
    pub owner: Option<String>,
    /// Backends that take new flows.
    pub in_rotation: usize,
    /// Since when its backups take new flows, because no primary member can serve; null while they stand by, or if there are
    /// none.
    #[serde(default)]
    pub backup_in_use_since: Option<Timestamp>,
    /// Since when all its members take new flows although down, because none can serve (`panic = "all"`); null if it is not
    /// so.
    #[serde(default)]
    pub panic_since: Option<Timestamp>,
    /// Since when all its backends that could serve have as many flows as they may (`max_flows`); null if it is not so.
    #[serde(default)]
    pub at_limit_since: Option<Timestamp>,
    /// Its backends in the configuration's order.
    pub backends: Vec<BackendStatus>,
    /// Whether it could lose any one server; null until flows have been counted.
    #[serde(default)]
    pub n_minus_1: Option<NMinusOneStatus>,
    /// Set while the others cannot carry the load of a server that is out and is not called back.
    #[serde(default)]
    pub outgrown: Option<OutgrownStatus>,
}

/// What a service listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listener {
    /// The virtual address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// `tcp` or `udp`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub protocol: Protocol,
}

/// One backend in one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BackendStatus {
    /// Its name.
    #[cfg_attr(test, schemars(with = "String"))]
    pub backend: BackendName,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Who is called: the backend's owner, else the service's.
    pub owner: Option<String>,
    /// `primary` or `backup`.
    #[serde(default = "primary")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub tier: Tier,
    /// Whether it takes new flows.
    pub in_rotation: bool,
    /// Whether it is out of rotation as configured: of the backup tier, with nothing against it.
    #[serde(default)]
    pub standby: bool,
    /// Since when it has been in or out.
    pub since: Timestamp,
    /// Why, in words; empty if it is as this daemon found it.
    #[serde(default)]
    pub since_cause: String,
    /// `unknown`, `up` or `down`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub health: Health,
    /// Consecutive probes with the result of the last one.
    pub streak: u32,
    /// Its server's memory; null if that is not monitored.
    #[serde(default)]
    pub memory: Option<MemoryStatus>,
    /// The weight in the configuration.
    pub weight_configured: u16,
    /// The weight in force, in the same unit.
    pub weight_effective: f64,
    /// Its share of the service's configured weights, 0 to 1.
    #[serde(default)]
    pub share_configured: f64,
    /// Its share of the service's new flows by the live table, 0 to 1.
    pub share: f64,
    /// What it really got lately; null until flows were counted twice.
    #[serde(default)]
    pub observed: Option<ObservedStatus>,
    /// Flows that are open now.
    pub flows_active: u64,
    /// Flows opened since the data plane was created.
    pub flows_opened: u64,
    /// If it was drained or is in maintenance: since when it has had no flow. Looked at every ten seconds.
    #[serde(default)]
    pub empty_since: Option<Timestamp>,
    /// Why its weight is lowered, or what is unverified.
    pub reasons: Vec<ReasonStatus>,
    /// The last probe; null if there was none.
    pub last_probe: Option<LastProbe>,
    /// Where its frames go; null while unresolved.
    pub next_hop: Option<NextHop>,
}

/// What a backend got of a service lately.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ObservedStatus {
    /// In so many seconds; at most about 300.
    pub seconds: f64,
    /// New flows.
    pub flows_opened: u64,
    /// Their share of the service's, 0 to 1; null if it had none.
    pub share_flows: Option<f64>,
    /// Bytes of frames both ways.
    pub bytes: u64,
    /// Their share of the service's, 0 to 1; null if it had none.
    pub share_bytes: Option<f64>,
}

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NextHop {
    /// MAC address of the neighbour.
    pub mac: String,
    /// Index of the interface towards it.
    pub ifindex: u32,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReasonStatus {
    /// Its kind: `probe_failed`, `not_yet_probed`, `no_next_hop`, `unverified`, `drained`,
    /// `maintenance`, `returning`, `memory_short`, `advised`, `agent_down`, `ramping`, `at_limit`, `backup`, `panic`; later versions add
    /// kinds.
    #[cfg_attr(test, schemars(with = "String"))]
    pub kind: ReasonKind,
    /// Since when it holds.
    pub since: Timestamp,
    /// What caused it, in words.
    pub cause: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// When it escalates if it still stands; null: never, it is as it was configured.
    pub review_at: Option<Timestamp>,
}

/// The last probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastProbe {
    /// When it ended.
    pub time: Timestamp,
    /// How long it took, ms.
    pub duration_ms: f64,
    /// Its error; null if it succeeded.
    pub error: Option<String>,
}

/// All backends, each with its place in every service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Backends {
    /// When the roll call was taken.
    pub time: Timestamp,
    /// Backends by name.
    pub backends: Vec<BackendReport>,
}

/// One backend and its services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BackendReport {
    /// Its name.
    #[cfg_attr(test, schemars(with = "String"))]
    pub name: BackendName,
    /// Its addresses, at most one for each family.
    pub addresses: Vec<IpAddr>,
    /// Who is called when it is out.
    pub owner: Option<String>,
    /// The services that use it, each with this backend alone in `backends`.
    pub services: Vec<ServiceStatus>,
    /// What happened to it, oldest first: the newest 100 of its events in the journal for `backend show`; for all backends,
    /// or where the journal cannot be read, those of the daemon's newest 256 events that are its own.
    #[serde(default)]
    pub events: Vec<EventStatus>,
}

/// One event of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EventStatus {
    /// When it happened.
    pub time: Timestamp,
    /// What it was, as the table of events in docs/operations.md names it; later versions add kinds.
    #[cfg_attr(test, schemars(with = "String"))]
    pub kind: EventKind,
    /// Why, in words.
    pub cause: String,
    /// In which service; null if in all.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub service: Option<ServiceName>,
}

/// All services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Services {
    /// When the roll call was taken.
    pub time: Timestamp,
    /// Services in the configuration's order.
    pub services: Vec<ServiceStatus>,
}

/// Of a daemon that knows no tiers.
fn primary() -> Tier {
    defaults::TIER
}

/// Of a daemon that does not say it: whoever answers runs.
fn runs() -> bool {
    true
}

impl EventStatus {
    /// An event of the journal; `None` if it is of a kind that this version does not know.
    pub fn of(event: EventRecord) -> Option<Self> {
        let kind = serde_json::from_value(event.kind.into()).ok()?;
        let service = event.service.as_deref().and_then(ServiceName::new);
        Some(Self { time: event.time, kind, cause: event.cause, service })
    }
}

impl Document for Status {
    const SCHEMA: &'static str = "rollcall.status/v1";
}

impl Document for Backends {
    const SCHEMA: &'static str = "rollcall.backends/v1";
}

impl Document for Services {
    const SCHEMA: &'static str = "rollcall.services/v1";
}

impl SuspicionStatus {
    fn new(suspicion: &Suspicion) -> Self {
        let Suspicion { service, since, cause } = suspicion;
        Self { service: service.clone(), since: timestamp(*since), cause: cause.clone() }
    }
}

impl Status {
    /// From the daemon's picture and counters.
    pub fn new(view: &View, counters: &Counters) -> Self {
        let age = view.roll_call.time.boot_ms.saturating_sub(view.created_boot_ms);
        let mut created = view.roll_call.time;
        created.wall_ms = created.wall_ms.saturating_sub_unsigned(age);
        Self {
            time: timestamp(view.roll_call.time),
            daemon: DaemonStatus {
                running: view.frozen.is_none(),
                down_since: view.frozen.and_then(|frozen| frozen.since).map(timestamp),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: if view.frozen.is_none() { std::process::id() } else { 0 },
                started: timestamp(view.started),
                adopted: view.adopted,
                data_plane_created: timestamp(created),
                config_path: view.config_path.display().to_string(),
                file_differs: view.file_differs,
            },
            attached: view.attached.iter().map(Attachment::new).collect(),
            warnings: view.warnings.iter().map(|w| w.text.clone()).collect(),
            critical: view.warnings.iter().filter(|w| w.topic.is_critical()).map(|w| w.text.clone()).collect(),
            settled: view.roll_call.settled,
            edge_suspected: !view.roll_call.suspicions.is_empty(),
            suspicions: view.roll_call.suspicions.iter().map(SuspicionStatus::new).collect(),
            services: services(view, counters),
            leases: view.roll_call.leases.iter().map(LeaseStatus::from).collect(),
            removed: view.roll_call.removed.iter().map(RemovedStatus::from).collect(),
            risks: view.roll_call.risks.iter().map(RiskStatus::from).collect(),
            unused_backends: (view.config.backends.keys())
                .filter(|b| !view.config.services.iter().any(|s| s.members.iter().any(|m| m.backend == **b)))
                .cloned()
                .collect(),
            nobody_told: is_deaf(&view.config),
            alerts: Vec::new(),
        }
    }

    /// With the alerts that fire.
    #[must_use]
    pub fn with_alerts(self, board: &Board) -> Self {
        Self { alerts: board.firing.iter().map(AlertStatus::from).collect(), ..self }
    }
}

impl Backends {
    /// From the daemon's picture and counters.
    pub fn new(view: &View, counters: &Counters) -> Self {
        let services = services(view, counters);
        let backends = view.config.backends.values().map(|b| BackendReport::new(b, &services, &view.events)).collect();
        Self { time: timestamp(view.roll_call.time), backends }
    }
}

impl Services {
    /// From the daemon's picture and counters.
    pub fn new(view: &View, counters: &Counters) -> Self {
        Self { time: timestamp(view.roll_call.time), services: services(view, counters) }
    }
}

fn services(view: &View, counters: &Counters) -> Vec<ServiceStatus> {
    view.roll_call.services.iter().map(|call| ServiceStatus::new(call, view, counters)).collect()
}

impl BackendReport {
    fn new(backend: &Backend, services: &[ServiceStatus], events: &[Event]) -> Self {
        let events = events.iter().filter_map(|event| {
            event.backend.as_ref().filter(|name| **name == backend.name)?;
            Some(EventStatus {
                time: timestamp(event.time),
                kind: event.kind,
                cause: event.cause.clone(),
                service: event.service.clone(),
            })
        });
        let services = services.iter().filter_map(|s| {
            let own: Vec<_> = s.backends.iter().filter(|m| m.backend == backend.name).cloned().collect();
            (!own.is_empty()).then(|| ServiceStatus { backends: own, ..s.clone() })
        });
        Self {
            name: backend.name.clone(),
            addresses: backend.ipv4.map(IpAddr::V4).into_iter().chain(backend.ipv6.map(IpAddr::V6)).collect(),
            owner: backend.owner.clone(),
            services: services.collect(),
            events: events.collect(),
        }
    }
}

impl ServiceStatus {
    fn new(call: &ServiceCall, view: &View, counters: &Counters) -> Self {
        let service: Option<&Service> = view.config.services.iter().find(|s| s.name == call.name);
        let owner = service.and_then(|s| s.owner.clone());
        let weights = call.members.iter().map(|m| u64::from(m.weight)).sum();
        let totals =
            call.members.iter().filter_map(|m| m.observed).fold((0, 0), |sum, o| (sum.0 + o.opened, sum.1 + o.bytes));
        let backends: Vec<_> = (call.members.iter())
            .map(|m| {
                let configured = view.config.backends.get(&m.backend).and_then(|b| b.owner.clone());
                let counted = m.id.and_then(|id| counters.members.get(&id)).copied().unwrap_or_default();
                let memory = view.roll_call.memory.iter().find(|memory| memory.backend == m.backend);
                let memory = memory.map(MemoryStatus::from);
                let (share_configured, observed) = (share(m.weight.into(), weights), observed(m, &totals));
                let own = BackendStatus::new(m, configured.or_else(|| owner.clone()), &counted);
                BackendStatus { memory, share_configured: share_configured.unwrap_or(0.0), observed, ..own }
            })
            .collect();
        Self {
            name: call.name.clone(),
            listen: Listener { address: call.listen.vip, port: call.listen.port.get(), protocol: call.listen.protocol },
            mode: service.map_or(Mode::Nat, |s| s.mode),
            algorithm: service.map_or(Algorithm::Maglev, |s| s.algorithm),
            owner,
            in_rotation: backends.iter().filter(|b| b.in_rotation).count(),
            backup_in_use_since: call.backup_in_use.map(timestamp),
            panic_since: call.panic.map(timestamp),
            at_limit_since: call.at_limit.map(timestamp),
            backends,
            n_minus_1: call
                .n_minus_1
                .as_ref()
                .map(|n_minus_1| NMinusOneStatus::new(&call.name, n_minus_1, &view.roll_call.risks)),
            outgrown: call.outgrown.as_ref().map(OutgrownStatus::from),
        }
    }
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

fn observed(call: &MemberCall, (flows, bytes): &(u64, u64)) -> Option<ObservedStatus> {
    let seen = call.observed?;
    Some(ObservedStatus {
        seconds: seen.over.as_secs_f64(),
        flows_opened: seen.opened,
        share_flows: share(seen.opened, *flows),
        bytes: seen.bytes,
        share_bytes: share(seen.bytes, *bytes),
    })
}

impl BackendStatus {
    fn new(call: &MemberCall, owner: Option<String>, counters: &MemberCounters) -> Self {
        Self {
            backend: call.backend.clone(),
            address: call.address,
            port: call.port,
            owner,
            tier: call.tier,
            in_rotation: call.in_rotation,
            standby: call.is_standby(),
            since: timestamp(call.since),
            since_cause: call.why.clone(),
            health: call.health,
            streak: call.streak,
            memory: None,
            weight_configured: call.weight,
            weight_effective: f64::from(call.effective) / 256.0,
            share_configured: 0.0,
            share: call.share,
            observed: None,
            flows_active: counters.active(),
            flows_opened: counters.stats.opened,
            empty_since: call.empty_since.map(timestamp),
            reasons: call.reasons.iter().map(ReasonStatus::new).collect(),
            last_probe: call.last_probe.as_ref().map(|p| LastProbe {
                time: timestamp(p.time),
                duration_ms: p.took.as_secs_f64() * 1000.0,
                error: p.error.clone(),
            }),
            next_hop: call.hop.filter(lb_common::abi::Hop::is_resolved).map(|hop| NextHop {
                mac: hop.dst_mac().map(|b| format!("{b:02x}")).join(":"),
                ifindex: hop.ifindex(),
            }),
        }
    }
}

impl ReasonStatus {
    fn new(reason: &Reason) -> Self {
        Self {
            kind: reason.kind,
            since: timestamp(reason.since),
            cause: reason.cause.clone(),
            owner: reason.owner.clone(),
            review_at: reason.review_at.map(timestamp),
        }
    }
}

impl Attachment {
    /// As the kernel reported it.
    pub fn new(attached: &Attached) -> Self {
        Self {
            interface: attached.interface.clone(),
            ifindex: attached.ifindex,
            mode: attached.mode.name().to_owned(),
            fallback: attached.fallback.clone(),
        }
    }
}
