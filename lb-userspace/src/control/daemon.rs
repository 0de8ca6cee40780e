//! What the control socket and the metrics listener ask of the daemon.

use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::TraceQuery;
use super::history::Window;
use super::schema::{AuditReport, Events, Report, Trace};
use crate::alert::{Board, Firing};
use crate::config::model::{BackendName, Config, RouteName, ServiceName};
use crate::core::api::{Event, RollCall, Scope, Time};
use crate::core::capacity::Consent;
use crate::core::lease::{Lease, LeaseKind};
use crate::core::risk::Risk;
use crate::io::bpf::types::{Attached, Counters, FlowRecord};
use crate::io::journal::EventQuery;

/// A handle on the running daemon. Reads never wait for a write.
pub trait Daemon: Clone + Send + Sync + 'static {
    /// The newest picture.
    fn view(&self) -> impl Future<Output = Result<Arc<View>, ControlError>> + Send;
    /// Counters, read now.
    fn counters(&self) -> impl Future<Output = Result<Counters, ControlError>> + Send;
    /// Flows that match, at most `query.limit`, read now. The flag says whether more matched.
    fn flows(&self, query: FlowQuery) -> impl Future<Output = Result<(Vec<FlowRecord>, bool), ControlError>> + Send;
    /// What the program does with a packet, tried on a copy of the maps as they are now.
    fn trace(&self, query: TraceQuery) -> impl Future<Output = Result<Trace, ControlError>> + Send;
    /// Events of the journal that match, read now.
    fn events(&self, query: EventQuery) -> impl Future<Output = Result<Events, ControlError>> + Send;
    /// What the journal knows of a window of time.
    fn report(&self, window: Window) -> impl Future<Output = Result<Report, ControlError>> + Send;
    /// Read the file again and apply it.
    fn reload(&self, actor: Actor) -> impl Future<Output = Result<Outcome, ControlError>> + Send;
    /// Change file and running state together.
    fn edit(&self, edit: Edit, actor: Actor) -> impl Future<Output = Result<Outcome, ControlError>> + Send;
    /// Take a server out for a time, bring it back, or let go of one that was removed.
    fn duty(&self, duty: Duty, actor: Actor) -> impl Future<Output = Result<DutyOutcome, ControlError>> + Send;
    /// Compare kernel and host with what was decided. With an actor, repair what can be, however often it was before.
    fn audit(&self, repair: Option<Actor>) -> impl Future<Output = Result<AuditReport, ControlError>> + Send;
    /// Alerts that stand, and how their routes fare.
    fn alerts(&self) -> impl Future<Output = Result<Arc<Board>, ControlError>> + Send;
    /// Send a test alert by one route, or by all; what came of each.
    fn test_alert(
        &self,
        route: Option<RouteName>,
        actor: Actor,
    ) -> impl Future<Output = Result<Vec<RouteTest>, ControlError>> + Send;
    /// Silence an alert's further steps for a time: somebody works on it.
    fn acknowledge(&self, ack: AlertAck, actor: Actor) -> impl Future<Output = Result<Firing, ControlError>> + Send;
    /// Take the data plane down and stop.
    fn down(&self, actor: Actor) -> impl Future<Output = Result<(), ControlError>> + Send;
}

/// The daemon's picture of itself and the pool.
#[derive(Clone, Debug)]
pub struct View {
    /// The roll call.
    pub roll_call: RollCall,
    /// The configuration that runs.
    pub config: Arc<Config>,
    /// Its text, as last applied.
    pub config_text: Arc<str>,
    /// The file.
    pub config_path: PathBuf,
    /// Whether the file differs from what runs.
    pub file_differs: bool,
    /// Where the program is.
    pub attached: Vec<Attached>,
    /// When the daemon started, and whether it adopted a running data plane.
    pub started: Time,
    /// Whether the data plane was adopted.
    pub adopted: bool,
    /// When the data plane was created, CLOCK_BOOTTIME ms.
    pub created_boot_ms: u64,
    /// What people should know, worst first: a bad file at boot, a generic attach, a failed write.
    pub warnings: Vec<Warning>,
    /// The newest events, oldest first, at most 256.
    pub events: Vec<Event>,
    /// How many of the daemon's checks found a broken invariant of the core.
    pub violations: u64,
    /// How many events could not be journalled since the daemon started.
    pub events_lost: u64,
    /// Set where no daemon runs, and this is what it left.
    pub frozen: Option<Frozen>,
}

/// No daemon runs: leases and health are as it left them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// When it was last seen alive; `None` if that is not known.
    pub since: Option<Time>,
}

/// What a warning is about; at most one of each stands. In the order in which people should read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The file was bad at start; an older revision runs.
    BadFile,
    /// There is no file.
    NoFile,
    /// Something of what an earlier daemon left could not be taken over as it was.
    Resume,
    /// The core contradicts itself.
    Invariant,
    /// The kernel refuses what was decided.
    Apply,
    /// What was decided does not fit into the maps.
    Shortage,
    /// The program is not where it should be.
    Attach,
    /// The network is not watched.
    Watch,
    /// Pins were removed by someone else.
    Pins,
    /// Maps or program were changed by someone else once more, and are left so.
    Unrepaired,
    /// The program was found detached by someone else, and put back.
    Detached,
    /// The maps were found changed by someone else.
    Drift,
    /// VIPs or source addresses are not as they should be.
    Addresses,
    /// Collection of old flows fails.
    Collect,
    /// `state.db` was unusable at the start; a new one was begun.
    State,
    /// What runs cannot be recorded in `state.db`.
    Record,
    /// Alerts do not reach somebody, or their record cannot be kept.
    Alerts,
    /// The heartbeat does not arrive.
    Heartbeat,
    /// Events cannot be journalled, or those before this run are missing.
    Journal,
    /// Generic mode.
    Mode,
}

impl Topic {
    /// Whether it does not mend itself: someone is needed now.
    pub fn is_critical(self) -> bool {
        match self {
            Self::BadFile
            | Self::Invariant
            | Self::Apply
            | Self::Shortage
            | Self::Attach
            | Self::Watch
            | Self::Pins
            | Self::Unrepaired
            | Self::Addresses
            | Self::Collect
            | Self::Record => true,
            // What could not be taken over does not mend itself either, but is told at the start, and no restart helps.
            Self::Resume
            | Self::NoFile
            | Self::Detached
            | Self::Drift
            | Self::State
            | Self::Alerts
            | Self::Heartbeat
            | Self::Journal
            | Self::Mode => false,
        }
    }
}

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub topic: Topic,
    /// In words.
    pub text: String,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Effective uid of the peer (SO_PEERCRED).
    pub uid: u32,
    /// Login uid, which survives sudo; `None` if unset.
    pub loginuid: Option<u32>,
}

/// Which flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowQuery {
    /// Only of this service.
    pub service: Option<ServiceName>,
    /// Only to this backend.
    pub backend: Option<BackendName>,
    /// Only from this client.
    pub client: Option<IpAddr>,
    /// Only in this phase (its name).
    pub phase: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// An edit of the backend list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// Add a server and make it a member of services. If the server exists, only the memberships are added.
    AddBackend {
        /// Its name.
        name: BackendName,
        /// Addresses, one for each family at most. Empty only if the server exists.
        addresses: Vec<IpAddr>,
        /// Its owner.
        owner: Option<String>,
        /// Services to join; at least one.
        services: Vec<ServiceName>,
        /// Port in those services; default: the service's own.
        port: Option<NonZeroU16>,
        /// Weight in those services; default 1.
        weight: Option<NonZeroU16>,
    },
    /// Remove a server from one service, or from all and the list.
    RemoveBackend {
        /// Its name.
        name: BackendName,
        /// From this service only.
        service: Option<ServiceName>,
        /// For good, and why: it is then not expected back.
        #[serde(default)]
        decommission: Option<String>,
        /// What the caller knows of what stands against it.
        #[serde(default)]
        consent: Consent,
    },
    /// Change a membership or the server's owner.
    SetBackend {
        /// Its name.
        name: BackendName,
        /// In this service only; default: in all it is a member of.
        service: Option<ServiceName>,
        /// New weight.
        weight: Option<NonZeroU16>,
        /// New port.
        port: Option<NonZeroU16>,
        /// New owner.
        owner: Option<String>,
        /// What the caller knows of what stands against a new weight.
        #[serde(default)]
        consent: Consent,
    },
}

/// A request about leases, or about servers that were removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Duty {
    /// Take a server out for a time.
    Take {
        /// Which, and where.
        scope: Scope,
        /// What becomes of its flows.
        kind: LeaseKind,
        /// For how long, ms.
        for_ms: u64,
        /// Why.
        reason: String,
        /// Who answers for it, if the caller says so.
        owner: Option<String>,
        /// Whether it may be called back if the others become too few.
        recallable: bool,
        /// What the caller knows of what stands against it.
        #[serde(default)]
        consent: Consent,
        /// Whether it may take the place of a lease that somebody else holds.
        #[serde(default)]
        replace: bool,
    },
    /// Let a lease end later.
    Extend {
        /// Whose.
        scope: Scope,
        /// By how much, ms.
        more_ms: u64,
        /// Who asks, if the caller says so.
        owner: Option<String>,
    },
    /// End a lease now.
    Restore {
        /// Whose.
        scope: Scope,
        /// Who asks, if the caller says so.
        owner: Option<String>,
    },
    /// Do not expect a removed server back.
    Forget {
        /// Which, and where.
        scope: Scope,
        /// Who asks, if the caller says so.
        owner: Option<String>,
    },
    /// Accept, for a time, that a service is without N-1.
    AcceptRisk {
        /// Which; all if none is named.
        service: Option<ServiceName>,
        /// For how long, ms.
        for_ms: u64,
        /// Why.
        reason: String,
        /// Who answers for it, if the caller says so.
        owner: Option<String>,
    },
    /// No longer accept that.
    WithdrawRisk {
        /// Which; the risk of all if none is named.
        service: Option<ServiceName>,
        /// Who asks, if the caller says so.
        owner: Option<String>,
    },
}

/// What came of a [`Duty`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DutyOutcome {
    /// The lease that holds now, if one was asked for.
    pub lease: Option<Lease>,
    /// The risk that is accepted now, if one was to be.
    pub risk: Option<Risk>,
    /// What else there is to say, in words.
    pub changes: Vec<String>,
}

/// A request for a test alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertTest {
    /// By this route only; else by all.
    pub route: Option<RouteName>,
}

/// A request to acknowledge an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertAck {
    /// Its key, or as many of the key's parts as only one alert has.
    pub alert: String,
    /// For how long, ms.
    pub for_ms: u64,
    /// What there is to say.
    #[serde(default)]
    pub note: Option<String>,
    /// Who works on it, if the caller says so.
    #[serde(default)]
    pub owner: Option<String>,
}

/// What came of a test alert on one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTest {
    /// The route.
    pub route: RouteName,
    /// Its type.
    pub kind: &'static str,
    /// Delivered, or why not.
    pub result: Result<(), String>,
    /// How long it took.
    pub took: Duration,
}

/// What a reload or an edit did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of the revision that runs now.
    pub revision: i64,
    /// One line for each change, in words; empty if nothing changed.
    pub changes: Vec<String>,
}

/// Why a request was not carried out. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ControlError {
    /// Its class, which fixes the exit code.
    pub code: ErrorCode,
    /// What, where, why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Classes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense. Exit 64.
    Usage,
    /// The configuration is wrong, or would be. Exit 78.
    Config,
    /// The peer may not. Exit 77.
    Permission,
    /// No such service or backend. Exit 66.
    NotFound,
    /// The file changed, or something else edits it; or the request would leave too few. Exit 75.
    Conflict,
    /// The request needs a second word (`--yes`) from who asks. Exit 75.
    Unconfirmed,
    /// Somebody else holds a lease there; the request needs a second word (`--yes`) to take its place. Exit 75.
    Held,
    /// The kernel or the system refused. Exit 71.
    System,
    /// The daemon is not there. Exit 69.
    Unavailable,
}

impl ErrorCode {
    /// The exit code (sysexits.h).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::NotFound => 66,
            Self::Unavailable => 69,
            Self::System => 71,
            Self::Conflict | Self::Unconfirmed | Self::Held => 75,
            Self::Permission => 77,
            Self::Config => 78,
        }
    }
}
