//! What servers say of themselves: their memory, by `rollcall agent` or node_exporter, and their agents' advice.
//!
//! Each question is one connection of its own, answered within [`TIME`], of which no more is read than its limit. What
//! cannot be believed is an error with its reason, never a number: the core then holds that it knows nothing. Like a
//! probe, a question keeps no state and judges nothing.

mod agent;
mod agent_check;
mod believe;
mod node_exporter;
#[cfg(test)]
mod tests;
pub mod token;

use std::time::Duration;

pub use agent_check::ask;
pub use believe::Unbelievable;

use super::probe::{Deadline, http, tcp};
use crate::config::memory::{MemoryKind, MemorySource};
use crate::core::memory::sample::Sample;

/// Time that one question may take, from the connection on.
pub const TIME: Duration = Duration::from_secs(1);

/// Why there is no sample, or no advice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// No answer, or not a whole one. Begins with [`super::probe::LOCAL`] if this host is at fault.
    #[error("{0}")]
    NoAnswer(String),
    /// An answer that cannot be believed.
    #[error("{0}")]
    Unbelievable(#[from] Unbelievable),
}

impl From<String> for MemoryError {
    fn from(why: String) -> Self {
        Self::NoAnswer(why)
    }
}

/// Reads a server's memory once.
pub async fn read(source: &MemorySource) -> Result<Sample, MemoryError> {
    let deadline = Deadline::after(TIME);
    let request = match &source.kind {
        MemoryKind::Agent { token_file } => agent::request(source.to, token_file.as_deref())?,
        MemoryKind::NodeExporter => http::request(node_exporter::PATH, &source.to.to_string())?,
    };
    let stream = tcp::connect(source.to, deadline).await?;
    http::exchange(stream, request, deadline, async |response| match &source.kind {
        MemoryKind::Agent { .. } => agent::sample(response, deadline).await,
        MemoryKind::NodeExporter => node_exporter::sample(response, deadline).await,
    })
    .await
}

/// Text of the other side, made fit for one line of a log or terminal.
fn cleaned(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}
