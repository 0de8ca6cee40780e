//! `rollcall.flows/v1`: flows that match a query.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Document;
use crate::config::model::Protocol;
use crate::control::daemon::View;
use crate::io::bpf::types::FlowRecord;

/// Flows that match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Flows {
    /// When they were read.
    pub time: Timestamp,
    /// The flows, in no particular order.
    pub flows: Vec<Flow>,
    /// Whether more matched than the limit let through.
    pub more: bool,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Flow {
    /// The service; null if it left the configuration while the flow lives.
    pub service: Option<String>,
    /// The backend; null if it left the service while the flow lives.
    pub backend: Option<String>,
    /// `tcp` or `udp`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub protocol: Protocol,
    /// Client address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub client_address: SocketAddr,
    /// Virtual address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub vip_address: SocketAddr,
    /// Source address and port towards the backend.
    #[cfg_attr(test, schemars(with = "String"))]
    pub source_address: SocketAddr,
    /// Backend address and port.
    #[cfg_attr(test, schemars(with = "String"))]
    pub backend_address: SocketAddr,
    /// `opening`, `answered`, `established`, `closing` or `closed`.
    pub phase: String,
    /// Since it was opened, ms.
    pub age_ms: u64,
    /// Since its last packet in either direction, ms, in steps of about a second.
    pub idle_ms: u64,
}

impl Document for Flows {
    const SCHEMA: &'static str = "rollcall.flows/v1";
}

impl Flows {
    /// From records read at `time`, with the names from the daemon's picture.
    pub fn new(view: &View, records: &[FlowRecord], more: bool, time: Timestamp) -> Self {
        Self { time, flows: records.iter().map(|r| Flow::new(view, r)).collect(), more }
    }
}

impl Flow {
    fn new(view: &View, record: &FlowRecord) -> Self {
        let service = view.roll_call.services.iter().find(|s| s.id == record.service);
        let member = service.and_then(|s| s.members.iter().find(|m| m.id == Some(record.member)));
        Self {
            service: service.map(|s| s.name.to_string()),
            backend: member.map(|m| m.backend.to_string()),
            protocol: record.protocol,
            client_address: record.client,
            vip_address: record.vip,
            source_address: record.source,
            backend_address: record.backend,
            phase: record.phase.name().to_owned(),
            age_ms: record.age_ms,
            idle_ms: record.idle_ms,
        }
    }
}
