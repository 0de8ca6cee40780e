//! What the data plane reports, as plain data.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::abi::{MemberStats, Reason, Traffic};
use lb_common::conntrack::Phase;

use crate::config::model::Protocol;

/// The program on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// The mode that really attached.
    pub mode: Mode,
    /// Why it is not native, if that was asked for or tried.
    pub fallback: Option<String>,
}

/// A mode that really attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// After the kernel built its packet structure; slower.
    Generic,
}

impl Mode {
    /// The name that the CLI prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// All counters at one moment, summed over the CPUs.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Verdicts by reason; forwarded packets are in `members`.
    pub verdicts: BTreeMap<Reason, u64>,
    /// By member id.
    pub members: BTreeMap<u32, MemberCounters>,
    /// Drops by service id and reason; only those above 0.
    pub drops: BTreeMap<u32, BTreeMap<Reason, u64>>,
}

/// Counters of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounters {
    /// Client to backend.
    pub forward: Traffic,
    /// Backend to client.
    pub reverse: Traffic,
    /// Flows and passive signals.
    pub stats: MemberStats,
    /// Flows that are open now, as the program counts them for `least-conn`.
    pub compared: u64,
}

impl MemberCounters {
    /// Flows that are open now.
    pub fn active(&self) -> u64 {
        self.stats.opened.saturating_sub(self.stats.closed)
    }
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: SocketAddr,
    /// VIP and port.
    pub vip: SocketAddr,
    /// Source address and port towards the backend.
    pub source: SocketAddr,
    /// Backend address and port.
    pub backend: SocketAddr,
    /// Member id.
    pub member: u32,
    /// Service id.
    pub service: u32,
    /// Its phase.
    pub phase: Phase,
    /// Since it was opened, ms.
    pub age_ms: u64,
    /// Since its last packet in either direction, ms, in steps of about a second.
    pub idle_ms: u64,
}
