//! `rollcall.stats/v1`: all counters at one moment. They count since the data plane was created and never fall.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Document;
use crate::config::model::{BackendName, ServiceName};
use crate::control::daemon::View;
use crate::core::api::{MemberCall, ServiceCall};
use crate::io::bpf::types::{Counters, MemberCounters};
use lb_common::abi::{Reason, Traffic};

/// All counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stats {
    /// When they were read.
    pub time: Timestamp,
    /// By service, in the configuration's order.
    pub services: Vec<ServiceStats>,
    /// Packets that were not forwarded, by reason; every reason is listed.
    pub verdicts: Vec<Verdict>,
}

/// Counters of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceStats {
    /// The service.
    #[cfg_attr(test, schemars(with = "String"))]
    pub service: ServiceName,
    /// By backend, in the configuration's order.
    pub backends: Vec<BackendStats>,
    /// Dropped packets by reason; only those above 0.
    pub drops: Vec<Drop>,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Drop {
    /// The reason's name.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// Packets with one verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The reason's name; it begins with what became of the packet: `pass_`, `drop_` or `tx_`.
    pub reason: String,
    /// Packets.
    pub packets: u64,
}

/// Traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Direction {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded: IP packets without link headers or padding.
    pub total_bytes: u64,
}

/// Counters of one backend in one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BackendStats {
    /// The backend.
    #[cfg_attr(test, schemars(with = "String"))]
    pub backend: BackendName,
    /// Client to backend.
    pub forward: Direction,
    /// Backend to client.
    pub reverse: Direction,
    /// Flows that are open now.
    pub flows_active: u64,
    /// Flows opened.
    pub flows_opened: u64,
    /// Flows closed.
    pub flows_closed: u64,
    /// Flows that both sides proved.
    pub flows_established: u64,
    /// Half-open flows overwritten by a newcomer.
    pub half_open_overwritten: u64,
    /// Half-open flows that ended without an answer of the backend.
    pub unanswered: u64,
    /// SYNs that clients sent again.
    pub syn_retransmits: u64,
    /// Resets by clients.
    pub resets_client: u64,
    /// Resets by the backend.
    pub resets_backend: u64,
    /// Handshakes measured.
    pub answers: u64,
    /// Mean time from a flow's first packet to the backend's answer, ms, since the data plane was created, in steps of
    /// a kernel tick; null without a measurement.
    pub answer_mean_ms: Option<f64>,
    /// New flows refused because no source port was free.
    pub ports_exhausted: u64,
    /// Connection attempts given to another member, because this one refused or did not answer them.
    #[serde(default)]
    pub moved_away: u64,
    /// Connection attempts taken over from another member.
    #[serde(default)]
    pub moved_to: u64,
}

impl Document for Stats {
    const SCHEMA: &'static str = "rollcall.stats/v1";
}

impl Stats {
    /// From counters read at `time`, with the names from the daemon's picture.
    pub fn new(view: &View, counters: &Counters, time: Timestamp) -> Self {
        Self {
            time,
            services: view.roll_call.services.iter().map(|s| ServiceStats::new(s, counters)).collect(),
            verdicts: (Reason::ALL.iter())
                .map(|r| Verdict {
                    reason: r.name().to_owned(),
                    packets: counters.verdicts.get(r).copied().unwrap_or_default(),
                })
                .collect(),
        }
    }
}

impl ServiceStats {
    fn new(call: &ServiceCall, counters: &Counters) -> Self {
        let drops = counters.drops.get(&call.id).into_iter().flatten();
        Self {
            service: call.name.clone(),
            backends: call.members.iter().map(|m| BackendStats::new(m, counters)).collect(),
            drops: drops.map(|(r, n)| Drop { reason: r.name().to_owned(), packets: *n }).collect(),
        }
    }
}

impl BackendStats {
    fn new(call: &MemberCall, counters: &Counters) -> Self {
        let counted: MemberCounters = call.id.and_then(|id| counters.members.get(&id)).copied().unwrap_or_default();
        let s = counted.stats;
        Self {
            backend: call.backend.clone(),
            forward: Direction::new(counted.forward),
            reverse: Direction::new(counted.reverse),
            flows_active: counted.active(),
            flows_opened: s.opened,
            flows_closed: s.closed,
            flows_established: s.established,
            half_open_overwritten: s.overwritten,
            unanswered: s.unanswered,
            syn_retransmits: s.syn_retransmits,
            resets_client: s.resets_client,
            resets_backend: s.resets_backend,
            answers: s.answers,
            answer_mean_ms: (s.answers > 0).then(|| s.answer_ns as f64 / s.answers as f64 / 1e6),
            ports_exhausted: s.ports_exhausted,
            moved_away: s.moved_away,
            moved_to: s.moved_to,
        }
    }
}

impl Direction {
    fn new(traffic: Traffic) -> Self {
        Self { packets: traffic.packets, total_bytes: traffic.bytes }
    }
}
