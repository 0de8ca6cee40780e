//! Where a server's memory and its agent's advice are asked for: the checked form of `[backend.memory]` and
//! `[backend.agent_check]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a server's memory is read. Sources go by the server, not by its services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySource {
    /// What answers there.
    pub kind: MemoryKind,
    /// Where: the configured address, else the backend's IPv4 address, else its IPv6 address.
    pub to: SocketAddr,
    /// Time between two readings; at least a second, which is the time one may take.
    pub interval: Duration,
}

/// What answers questions about memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// `rollcall agent`.
    Agent {
        /// File with the token that the agent asks for; read anew for each reading, so that it can be replaced.
        token_file: Option<PathBuf>,
    },
    /// Prometheus' node_exporter. It knows the system's memory only, no cgroup's limit.
    NodeExporter,
}

impl MemoryKind {
    /// As the configuration writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Agent { .. } => "agent",
            Self::NodeExporter => "node-exporter",
        }
    }
}

/// Where a server's own agent speaks HAProxy's agent-check protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentCheck {
    /// Where: the backend's IPv4 address, else its IPv6 address.
    pub to: SocketAddr,
    /// Time between two questions; at least a second, which is the time one may take.
    pub interval: Duration,
}
