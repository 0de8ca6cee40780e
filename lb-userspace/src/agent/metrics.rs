//! The agent's metrics: what it tells the balancer, for Prometheus.

use super::sources::Measurement;
use crate::control::metrics::text::{Kind, Text};
use crate::control::schema::Limit;

/// What was refused since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refused {
    /// Connections from addresses that are not allowed.
    pub(super) address: u64,
    /// Requests without the token.
    pub(super) token: u64,
}

/// All metrics at one moment.
pub(super) fn render(measurement: &Measurement, refused: Refused) -> String {
    let mut text = Text::default();
    text.family(Kind::Gauge, "rollcall_agent_build_info", "The agent's version; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let cgroup = measurement.cgroup.as_ref().map(|(name, memory)| (Limit::Cgroup, name.as_str(), *memory));
    let limits = [Some((Limit::System, "", measurement.system)), cgroup];
    let mut total = text.family(Kind::Gauge, "rollcall_agent_memory_limit_bytes", "Memory in all, by each limit.");
    for (limit, name, memory) in limits.iter().flatten() {
        total.sample(&[("limit", limit.name()), ("cgroup", name)], memory.total_bytes as f64);
    }
    let help = "What can still be used of it, reclaimable memory included.";
    let mut available = text.family(Kind::Gauge, "rollcall_agent_memory_available_bytes", help);
    for (limit, name, memory) in limits.iter().flatten() {
        available.sample(&[("limit", limit.name()), ("cgroup", name)], memory.available_bytes as f64);
    }
    let (_, _, tighter) = measurement.tighter();
    let help = "Available memory as a share of the limit, by the tighter one.";
    let share = tighter.available_bytes as f64 / (tighter.total_bytes.max(1)) as f64;
    text.family(Kind::Gauge, "rollcall_agent_headroom_ratio", help).sample(&[], share);
    let help = "Share of the last ten seconds in which some task waited for memory; absent if the kernel does not say.";
    let mut pressure = text.family(Kind::Gauge, "rollcall_agent_memory_pressure_ratio", help);
    if let Some(share) = measurement.pressure {
        pressure.sample(&[], share);
    }
    let help = "Connections refused by address, and requests refused by token.";
    let mut counter = text.family(Kind::Counter, "rollcall_agent_refused_total", help);
    counter.sample(&[("by", "address")], refused.address as f64);
    counter.sample(&[("by", "token")], refused.token as f64);
    text.finish()
}
