//! `[backend.memory]` and `[backend.agent_check]`: their keys, and which source has which.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use super::super::defaults::{self, MEMORY_INTERVALS};
use super::section::{Field, Located, Section};
use super::values;

/// What `source` names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// `rollcall agent`.
    Agent,
    /// node_exporter.
    NodeExporter,
}

/// `[backend.memory]`.
pub(crate) struct RawMemory {
    /// `source`.
    pub(crate) source: Source,
    /// `address`.
    pub(crate) address: Option<IpAddr>,
    /// `port`, or the source's own.
    pub(crate) port: NonZeroU16,
    /// `interval`.
    pub(crate) interval: Duration,
    /// `token_file`.
    pub(crate) token_file: Option<PathBuf>,
}

/// `[backend.agent_check]`.
pub(crate) struct RawAgentCheck {
    /// `port`.
    pub(crate) port: NonZeroU16,
    /// `interval`.
    pub(crate) interval: Duration,
}

/// Reads `[backend.memory]`; `None` if its source was refused.
pub(super) fn memory(mut section: Section<'_, '_>) -> Option<RawMemory> {
    let sources = &[("agent", Source::Agent), ("node-exporter", Source::NodeExporter)];
    let source = section.require("source", values::one_of(sources)).value();
    let address = section.read("address", values::address).value();
    let port = section.read("port", values::port).value();
    let interval = interval(&mut section);
    let token_file = section.read("token_file", values::path);
    if source == Some(Source::NodeExporter)
        && let Field::Good(Located { at, .. }) = &token_file
    {
        let rule = "has no effect: it is for source \"agent\"";
        section.report().value(at, rule, "remove it, or change source");
    }
    section.finish();
    let source = source?;
    let port = port.unwrap_or(match source {
        Source::Agent => defaults::AGENT_PORT,
        Source::NodeExporter => defaults::NODE_EXPORTER_PORT,
    });
    Some(RawMemory { source, address, port, interval, token_file: token_file.value() })
}

/// Reads `[backend.agent_check]`; `None` if its port was refused.
pub(super) fn agent_check(mut section: Section<'_, '_>) -> Option<RawAgentCheck> {
    let port = section.require("port", values::port).value();
    let interval = interval(&mut section);
    section.finish();
    Some(RawAgentCheck { port: port?, interval })
}

fn interval(section: &mut Section<'_, '_>) -> Duration {
    section.read("interval", values::duration(MEMORY_INTERVALS)).or(defaults::MEMORY_INTERVAL)
}
