//! One look at a server's memory, whatever source it came from.

/// Memory of a server at one moment, by the tighter of its limits (system or cgroup).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The limit, bytes; above 0.
    pub total_bytes: u64,
    /// What could still be allocated, reclaimable memory included, bytes; at most `total_bytes`.
    pub available_bytes: u64,
    /// Share of the last ten seconds in which some task waited for memory (PSI `some avg10`), 0 to 1, where the kernel
    /// says it.
    pub pressure: Option<f64>,
}

impl Sample {
    /// Available memory as a share of the limit, 0 to 1.
    pub fn headroom(&self) -> f64 {
        self.available_bytes as f64 / self.total_bytes as f64
    }

    /// Memory that is in use and cannot be reclaimed, bytes.
    pub fn used_bytes(&self) -> u64 {
        self.total_bytes.saturating_sub(self.available_bytes)
    }
}
