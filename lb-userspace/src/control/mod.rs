//! The control socket: HTTP with JSON over a unix socket, the schemas of what it answers, and the client the CLI uses.
//!
//! Owns no state: everything is asked of a [`daemon::Daemon`], so that reads never wait for a write.

pub mod client;
mod connections;
pub mod daemon;
mod error;
mod event_params;
mod flow_params;
pub mod history;
mod listen;
pub mod metrics;
pub mod peer;
mod routes;
pub mod schema;
mod server;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod slow_tests;
#[cfg(test)]
pub(crate) mod testing;
mod trace_params;
pub mod verdict;

pub use event_params::{EventParams, WindowParams};
pub use flow_params::FlowParams;
pub use listen::{Listeners, bind};
pub use trace_params::{TraceParams, TraceQuery};

/// Largest request body, bytes.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Flows answered when a query names no limit.
pub const DEFAULT_FLOWS: usize = 100;
/// Most flows one query may ask for.
pub const MAX_FLOWS: usize = 10_000;
/// Events answered when a query names no limit.
pub const DEFAULT_EVENTS: usize = 100;
/// Most events one query may ask for, and a report holds.
pub const MAX_EVENTS: usize = 10_000;
