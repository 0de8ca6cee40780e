//! `rollcall.trace/v1`: what the program does with one packet, step by step.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Document;
use crate::config::model::Protocol;

/// What the program does with one packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Trace {
    /// When it was tried.
    pub time: Timestamp,
    /// `tcp` or `udp`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub protocol: Protocol,
    /// Source of the packet.
    #[cfg_attr(test, schemars(with = "String"))]
    pub from_address: SocketAddr,
    /// Destination of the packet.
    #[cfg_attr(test, schemars(with = "String"))]
    pub to_address: SocketAddr,
    /// The interface that it comes in on.
    pub interface: String,
    /// `pass`, `drop`, `tx`, `redirect` or `aborted`.
    pub verdict: String,
    /// Under which reason it is counted; null if it is forwarded.
    pub reason: Option<String>,
    /// The service it is for; null if none.
    pub service: Option<String>,
    /// The backend it goes to or comes from; null if none.
    pub backend: Option<String>,
    /// How the program came to it, in order.
    pub steps: Vec<TraceStep>,
    /// The packet that leaves; null unless one is sent.
    pub packet_out: Option<PacketOut>,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TraceStep {
    /// What was asked: `destination`, `flow`, `table`, `backend`, `next hop` or `verdict`.
    pub step: String,
    /// The answer, in words.
    pub found: String,
}

/// A packet that leaves the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PacketOut {
    /// MAC address that it goes to.
    pub destination_mac: String,
    /// Source address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub from_address: SocketAddr,
    /// Destination address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub to_address: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The whole frame.
    pub length_bytes: usize,
}

impl Document for Trace {
    const SCHEMA: &'static str = "rollcall.trace/v1";
}
