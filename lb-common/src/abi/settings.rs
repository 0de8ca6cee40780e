//! What user space tells the program besides services, and what the program tells of itself.

use super::{Addr4, Addr6, FINDINGS, pod};

/// Most interfaces the program is attached to.
pub const MAX_LINKS: usize = 4;
/// Most source addresses per family.
pub const MAX_POOL: usize = 8;

/// Written once when the maps are created; compared at adoption.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// [`super::ABI_VERSION`].
    pub abi_version: u32,
    /// Established flows per family: the size of `AGES4` and `AGES6`.
    pub max_flows: u32,
    /// Half-open buckets per family, a power of two.
    pub half_open_buckets: u32,
    /// Slots in the arena.
    pub arena_slots: u32,
    /// Jiffies per second, measured at load.
    pub hz: u32,
    /// Seed of the flow hash; never changes while the maps live.
    pub seed: u32,
    /// CLOCK_BOOTTIME at creation, ns.
    pub created_boot_ns: u64,
    /// Zero.
    pub reserved: [u32; 8],
}

/// Runtime settings. All times in jiffies, all in host order unless said otherwise.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Our MACs (low 48 bits, memory order); unused entries are 0. A frame to another MAC passes.
    pub macs: [u64; MAX_LINKS],
    /// Source addresses for IPv4 backends.
    pub pool4: [Addr4; MAX_POOL],
    /// Source addresses for IPv6 backends.
    pub pool6: [Addr6; MAX_POOL],
    /// Used entries of `pool4`.
    pub pool4_len: u32,
    /// Used entries of `pool6`.
    pub pool6_len: u32,
    /// First source port.
    pub port_min: u32,
    /// Number of source ports.
    pub port_count: u32,
    /// Seed of the flow hash, equal to [`Meta::seed`].
    pub seed: u32,
    /// Buckets - 1.
    pub half_open_mask: u32,
    /// `last_seen` = jiffies >> this.
    pub coarse_shift: u32,
    /// Life of a half-open flow without promotion.
    pub half_open: u32,
    /// Idle limit of an established TCP flow.
    pub established: u32,
    /// Idle limit of an established UDP flow.
    pub udp: u32,
    /// Idle limit of a flow with one FIN seen.
    pub closing: u32,
    /// Idle time after which a closed flow is forgotten.
    pub closed: u32,
    /// The same where the backend closed first: its TIME_WAIT would refuse the port.
    pub time_wait: u32,
    /// 1: a TCP packet of no flow is answered with a reset; 0: dropped.
    pub reset_unknown: u32,
    /// Jiffies per second, equal to [`Meta::hz`].
    pub hz: u32,
    /// Most records kept per family, equal to [`Meta::max_flows`].
    pub max_flows: u32,
    /// Buckets of direct flows - 1.
    pub direct_mask: u32,
    /// Zero.
    pub reserved: [u32; 13],
}

/// Kinds in `LOCALS`.
pub struct LocalKind;

impl LocalKind {
    /// The address of at least one service.
    pub const VIP: u32 = 1;
    /// An address of the source pool.
    pub const POOL: u32 = 2;
}

/// The program's own state: time as of the last run of `collect`, and what collection keeps track of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// `bpf_jiffies64`.
    pub jiffies: u64,
    /// `bpf_ktime_get_ns` (CLOCK_MONOTONIC), ns.
    pub monotonic_ns: u64,
    /// Next half-open bucket to examine, both families.
    pub next_bucket: u64,
    /// Records examined since the maps were created.
    pub examined: u64,
    /// Flows freed by examination since the maps were created.
    pub freed: u64,
    /// Established records kept now (until their port may be used again): IPv4, IPv6. At most [`Meta::max_flows`] each.
    pub kept: [u64; 2],
    /// How often each [`super::Finding`] was made since the maps were created.
    pub findings: [u64; FINDINGS],
    /// How many of them were logged.
    pub logged: [u64; FINDINGS],
    /// Jiffies when something was logged last.
    pub logged_at: u64,
    /// Cursor of identifications of packets in fragments.
    pub next_fragment: u64,
}

pod! {
    Meta = 24 + 8 + 32,
    Settings = 8 * MAX_LINKS + 4 * MAX_POOL + 16 * MAX_POOL + 17 * 4 + 13 * 4,
    Clock = 56 + 16 * FINDINGS + 16,
}
