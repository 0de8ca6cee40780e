//! The checked configuration: what parsing proved. Nothing here can be invalid on its own; the rules that span items are
//! checked once, in `check`, and hold for every `Config` that exists.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::memory::{AgentCheck, MemorySource};

/// A backend's name: 1 to 63 of `[A-Za-z0-9._-]`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendName(pub(super) Arc<str>);

/// A service's name, by the same rule as [`BackendName`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(pub(super) Arc<str>);

/// The name of an alert route, by the same rule as [`BackendName`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteName(pub(super) Arc<str>);

macro_rules! name {
    ($t:ident) => {
        impl $t {
            /// Checks a name against the rule.
            pub fn new(name: &str) -> Option<Self> {
                let ok = (1..=63).contains(&name.len())
                    && name.as_bytes()[0].is_ascii_alphanumeric()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
                ok.then(|| Self(name.into()))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $t {
            type Error = String;

            fn try_from(name: String) -> Result<Self, String> {
                Self::new(&name).ok_or_else(|| format!("{name:?} is not a name"))
            }
        }

        impl From<$t> for String {
            fn from(name: $t) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $t {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}
name!(BackendName);
name!(ServiceName);
name!(RouteName);

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who edits the file.
    pub owner: ConfigOwner,
    /// Interfaces and addresses of the edge host.
    pub edge: Edge,
    /// Source addresses and ports for `nat`.
    pub source_pool: SourcePool,
    /// Flow limits and timeouts.
    pub conntrack: Conntrack,
    /// Paths and listeners.
    pub control: Control,
    /// Who is told that all is well; `None`: nobody.
    pub heartbeat: Option<Heartbeat>,
    /// Servers by name.
    pub backends: BTreeMap<BackendName, Backend>,
    /// Services in the file's order.
    pub services: Vec<Service>,
    /// Where alerts go, in the file's order.
    pub alert_routes: Vec<AlertRoute>,
}

/// Who edits the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigOwner {
    /// The CLI's editing verbs rewrite it.
    Cli,
    /// Something else does (Ansible, an editor); editing verbs refuse.
    External,
}

/// The edge host's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// One to four interfaces that the program is attached to: the clients' first, the backends' last.
    pub interfaces: Vec<String>,
    /// Attach mode.
    pub mode: AttachMode,
    /// Whether the daemon adds VIPs to the first interface and source addresses to the last, and announces them.
    pub manage_vips: bool,
}

impl Edge {
    /// Where VIPs belong: the clients' side.
    pub fn front(&self) -> Option<&str> {
        self.interfaces.first().map(String::as_str)
    }

    /// Where source addresses belong: the backends' side. IPv6 neighbours get an answer for an address only on the
    /// interface that holds it.
    pub fn back(&self) -> Option<&str> {
        self.interfaces.last().map(String::as_str)
    }
}

/// Requested attach mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// Native where every interface's driver can, else generic on all; reported.
    Auto,
    /// Native or fail.
    Native,
    /// Generic.
    Generic,
}

/// Source addresses and ports for `nat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePool {
    /// At most eight.
    pub ipv4: Vec<Ipv4Addr>,
    /// At most eight.
    pub ipv6: Vec<Ipv6Addr>,
    /// Ports, never 0.
    pub ports: RangeInclusive<u16>,
}

/// Flow limits and timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// Established flows per family. Fixed while the data plane is up.
    pub max_flows: u32,
    /// Half-open flows per family; a power of two, a multiple of four. Fixed while the data plane is up.
    pub max_half_open: u32,
    /// Slots of all tables together (two generations). Fixed while the data plane is up.
    pub arena_slots: u32,
    /// Seed of the flow hash; `None`: random for each set of maps. Fixed while the data plane is up.
    pub seed: Option<u32>,
    /// Life of a half-open flow.
    pub half_open_timeout: Duration,
    /// Idle limit, TCP.
    pub tcp_timeout: Duration,
    /// Idle limit, UDP.
    pub udp_timeout: Duration,
    /// Idle limit after one FIN.
    pub closing_timeout: Duration,
    /// Rest of a port after a close by the client or a reset.
    pub closed_timeout: Duration,
    /// Rest of a port after a close by the backend (its TIME_WAIT).
    pub time_wait_timeout: Duration,
    /// Whether a TCP packet of no known flow is answered with a reset.
    pub reset_unknown: bool,
}

/// Paths and listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The control socket.
    pub socket: PathBuf,
    /// Where `state.db` and `journal.db` live.
    pub state_dir: PathBuf,
    /// Where maps, program and links are pinned (a bpffs).
    pub pin_dir: PathBuf,
    /// Prometheus listener; `None`: `/metrics` on the control socket only.
    pub metrics: Option<SocketAddr>,
}

/// A URL that is asked while all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// As it was written.
    pub url: String,
    /// Whether it begins with `https`.
    pub is_https: bool,
    /// Its host: a name or an address, IPv6 in brackets.
    pub host: String,
    /// Its port, or the scheme's.
    pub port: u16,
    /// Its path and query, beginning with `/`.
    pub path: String,
    /// Between two requests.
    pub interval: Duration,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: BackendName,
    /// Its IPv4 address. At least one family is present.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Who is called when it is out.
    pub owner: Option<String>,
    /// So many active flows, over all its services, are what it can carry; `None`: not known.
    pub max_flows: Option<u32>,
    /// Where its memory is read; `None`: not monitored.
    pub memory: Option<MemorySource>,
    /// Where its own agent gives advice.
    pub agent_check: Option<AgentCheck>,
    /// Time to its full weight when it comes into rotation; `None`: as its services say.
    pub slow_start: Option<Duration>,
}

impl Backend {
    /// Its address in the family of `vip`.
    pub fn address_like(&self, vip: IpAddr) -> Option<IpAddr> {
        match vip {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// VIP + port + protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listen {
    /// The virtual address.
    pub vip: IpAddr,
    /// Destination port, never 0.
    pub port: NonZeroU16,
    /// Protocol.
    pub protocol: Protocol,
}

/// L4 protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What clients connect to; unique.
    pub listen: Listen,
    /// How packets reach its backends.
    pub mode: Mode,
    /// How flows are spread.
    pub algorithm: Algorithm,
    /// What `maglev` hashes.
    pub hash: HashFields,
    /// `source`: a client that opened a flow within this time keeps its member; `None`: the table alone decides.
    pub affinity_timeout: Option<Duration>,
    /// Slots of the table: a prime where flows are hashed; else an upper bound.
    pub table_size: u32,
    /// UDP without answers.
    pub one_way: bool,
    /// TCP: whether a SYN that a member refuses or does not answer is given to another.
    pub second_chance: bool,
    /// Who is called.
    pub owner: Option<String>,
    /// How long a reason may stand before it escalates.
    pub expected_out: Duration,
    /// As many members should always take new flows; at most the number of members.
    pub min_in_rotation: u32,
    /// How many members the owner expects, if that is said: fewer is a warning.
    pub expect_backends: Option<u32>,
    /// Where new flows go when no member can serve.
    pub panic: Panic,
    /// Time to the full weight of a member that comes into rotation; `None`: at once.
    pub slow_start: Option<Duration>,
    /// How members are probed; `None`: never, they count as up.
    pub probe: Option<Probe>,
    /// Members, at least one of them primary, each with an address of the VIP's family.
    pub members: Vec<Member>,
}

impl Service {
    /// The address that a backend of it is reached by. In a tunnel IPv4 may travel in IPv6, not the other way round.
    pub fn address_of(&self, backend: &Backend) -> Option<IpAddr> {
        let own = backend.address_like(self.listen.vip);
        own.or_else(|| backend.ipv6.map(IpAddr::V6).filter(|_| self.mode == Mode::DsrIpip))
    }
}

/// How packets reach the backends, and how their answers get back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Source and destination are translated, both ways.
    #[default]
    Nat,
    /// To the backend's MAC, else unchanged; it answers the client itself.
    DsrL2,
    /// In an outer IP header; the backend answers the client itself.
    DsrIpip,
}

impl Mode {
    /// As the file names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::DsrL2 => "dsr-l2",
            Self::DsrIpip => "dsr-ipip",
        }
    }
}

/// What becomes of new flows when no member can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Panic {
    /// They are refused.
    Refuse,
    /// They go to all that are not taken out on purpose, although down.
    All,
}

/// When a member takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Whenever it can.
    Primary,
    /// While no primary member can.
    Backup,
}

/// How flows are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// By hash, with least movement.
    Maglev,
    /// In turn.
    RoundRobin,
    /// To the one of two members that has fewer active flows for its weight.
    LeastConn,
    /// By hash of the client's address.
    Source,
}

impl Algorithm {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Maglev => "maglev",
            Self::RoundRobin => "round-robin",
            Self::LeastConn => "least-conn",
            Self::Source => "source",
        }
    }

    /// Whether a hash picks from a Maglev table, whose size is fixed while the service lives.
    pub const fn is_hashed(self) -> bool {
        matches!(self, Self::Maglev | Self::Source)
    }
}

/// What `maglev` hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashFields {
    /// Addresses, ports and protocol.
    FiveTuple,
    /// Addresses and protocol: all flows of a client to a VIP alike.
    Addresses,
    /// The VIP, its port and protocol: all clients alike.
    Destination,
}

impl HashFields {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FiveTuple => "5-tuple",
            Self::Addresses => "addresses",
            Self::Destination => "destination",
        }
    }
}

/// A backend in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The server.
    pub backend: BackendName,
    /// Its port.
    pub port: NonZeroU16,
    /// Its share; never 0 (a drain is a lease, not a weight).
    pub weight: NonZeroU16,
    /// Whether it serves always or only when no other can.
    pub tier: Tier,
}

/// How a member is probed. Always by the member's own address.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What one check does.
    pub kind: ProbeKind,
    /// Port, if not the member's.
    pub port: Option<NonZeroU16>,
    /// Time between two checks of one member.
    pub interval: Duration,
    /// Time one check may take; at most the interval.
    pub timeout: Duration,
    /// Consecutive successes to be up.
    pub rise: u32,
    /// Consecutive failures to be down.
    pub fall: u32,
}

/// What one check does.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeKind {
    /// A TCP connection is accepted.
    Tcp,
    /// An HTTP/1.1 request is answered as expected.
    Http(HttpProbe),
}

/// One HTTP or HTTPS check.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// Request target, beginning with `/`.
    pub path: String,
    /// Accepted status codes.
    pub status: Vec<RangeInclusive<u16>>,
    /// Text that the first 64 KiB of the body must contain.
    pub body: Option<String>,
    /// `Host` header; default: the member's address and port.
    pub host: Option<String>,
    /// TLS, if the check is HTTPS.
    pub tls: Option<TlsProbe>,
}

/// TLS of an HTTPS check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProbe {
    /// Server name: sent as SNI and, if verified, checked against the certificate.
    pub server_name: Option<String>,
    /// Whether the certificate is verified. Off by default: a probe asks whether the server answers.
    pub verify: bool,
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRoute {
    /// Its name; unique.
    pub name: RouteName,
    /// What it does with an alert.
    pub target: AlertTarget,
    /// Only alerts of this severity and above.
    pub severity: Severity,
    /// Only alerts that have stood so long: a step of escalation.
    pub after: Duration,
    /// How often an alert that still stands is sent again.
    pub repeat: Duration,
    /// Added to every alert.
    pub labels: BTreeMap<String, String>,
}

/// What a route does with an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertTarget {
    /// Writes it to the journal, with a field for each part.
    Journald,
    /// Gives it to a program that speaks as sendmail does.
    Mail {
        /// Recipients, at least one.
        to: Vec<String>,
        /// The program and its first arguments.
        command: Vec<String>,
    },
    /// Runs a program with the alert as JSON on its standard input.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// The user that it runs as.
        user: String,
    },
    /// POSTs it as JSON.
    Webhook(HttpUrl),
    /// POSTs it to an Alertmanager, whose address this is, without `/api/v2/alerts`.
    Alertmanager(HttpUrl),
}

impl AlertTarget {
    /// As the file names it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Journald => "journald",
            Self::Mail { .. } => "mail",
            Self::Command { .. } => "command",
            Self::Webhook(_) => "webhook",
            Self::Alertmanager(_) => "alertmanager",
        }
    }
}

/// An HTTP URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// Name or address of the server, without brackets.
    pub host: String,
    /// Its port.
    pub port: NonZeroU16,
    /// Path and query, beginning with `/`.
    pub path: String,
}

impl std::fmt::Display for HttpUrl {
    /// Without the path: it may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl HttpUrl {
    /// Host and port as the `Host` header has them: the scheme's own port is left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port.get() == usual { host } else { format!("{host}:{}", self.port) }
    }
}

/// How bad an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look today.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// All, mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// As file, JSON and metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
