//! Map ABI v1: every key and value that the program and user space exchange.
//!
//! Rules: `repr(C)`, no implicit padding (asserted at compile time), no `bool`, `enum` or `Option`. Addresses and ports
//! are in network byte order exactly as a little-endian load from the packet yields them; everything else is in host
//! order. Reserved bytes are written as zero and ignored by readers, so that neighbouring versions read each other.

mod affinity;
mod called;
mod counters;
mod direct;
mod finding;
mod flow;
mod fragment;
mod member;
mod service;
mod settings;
mod verdict;

pub use affinity::{Affinity, AffinityKey, MAX_AFFINITIES};
pub use called::{Called, MAX_CALLED};
pub use counters::{MemberStats, ServiceStats, Traffic, TrafficSlot};
pub use direct::{DIRECT_WAYS, DirectBucket, DirectSlot, DirectV4, DirectV6, direct_buckets};
pub use finding::{FINDINGS, Finding};
pub use flow::{Bucket, Flow, FlowKey, FlowKey4, FlowKey6, FlowV4, FlowV6, HALF_OPEN_WAYS, Slot, SlotV4, SlotV6, Syn};
pub use fragment::{Fragment, MAX_FRAGMENTED};
pub use member::{Hop, Member, mac_word, word_mac};
pub use service::{Algorithm, Descriptor, NO_MEMBER, ServiceInfo, ServiceKey, flags as service_flags};
pub use settings::{Clock, LocalKind, MAX_LINKS, MAX_POOL, Meta, Settings};
pub use verdict::Reason;

/// Version of every type in this module. It is part of the pin directory's name (`v1`), and [`Meta`] repeats it.
pub const ABI_VERSION: u32 = 1;

/// Most services (VIP + port + protocol) at once; the size of every array indexed by service id.
pub const MAX_SERVICES: u32 = 4096;
/// Most memberships (backend in a service) at once; the size of every array indexed by member id.
pub const MAX_MEMBERS: u32 = 16384;
/// Room in `AGES4` and `AGES6` beyond the flow limit, for records that several CPUs examine at the same moment.
pub const AGES_SLACK: u32 = 1024;
/// Records of each family, and buckets of each of half-open and of direct flows, that one run of `collect` examines.
pub const EXAMINED_PER_RUN: u32 = 8;
/// Words of the address bitmap: 64 Ki bits, 8 KiB. See [`crate::hash::bitmap_bit4`].
pub const BITMAP_WORDS: u32 = 1024;

/// An IPv4 address as a little-endian load from the packet yields it (network byte order in memory).
pub type Addr4 = u32;
/// An IPv6 address as four little-endian loads from the packet yield it (network byte order in memory).
pub type Addr6 = [u32; 4];

/// Names of the maps, as the object declares them and as they are pinned.
pub mod maps {
    /// `Array<Meta>`, one entry.
    pub const META: &str = "META";
    /// `Array<Settings>`, one entry.
    pub const SETTINGS: &str = "SETTINGS";
    /// `Array<Clock>`, one entry; written by the programs.
    pub const CLOCK: &str = "CLOCK";
    /// `Array<u64>`, [`super::BITMAP_WORDS`] entries: may this destination address be ours?
    pub const ADDRESSES: &str = "ADDRESSES";
    /// `HashMap<Addr6, u32>`: exact local addresses (IPv4 in word 0), value a [`super::LocalKind`] bit set.
    pub const LOCALS: &str = "LOCALS";
    /// `HashMap<ServiceKey, ServiceInfo>`.
    pub const SERVICES: &str = "SERVICES";
    /// `Array<u64>` of [`super::Descriptor`] by service id.
    pub const DESCRIPTORS: &str = "DESCRIPTORS";
    /// `Array<u32>`: the arena of table slots, each a member id or [`super::NO_MEMBER`]. Sized at load.
    pub const SLOTS: &str = "SLOTS";
    /// `Array<Member>` by member id.
    pub const MEMBERS: &str = "MEMBERS";
    /// `Array<u64>` by service id: the cursor of round robin and least-conn, advanced by each flow opened.
    pub const CURSORS: &str = "CURSORS";
    /// `Array<u64>` by member id: flows that are active now, one word for all CPUs, so that the program can compare.
    pub const ACTIVE: &str = "ACTIVE";
    /// `LruHashMap<AffinityKey, Affinity>`: which member a client of a service had last. What is forgotten costs nothing
    /// but a choice by the table.
    pub const AFFINITIES: &str = "AFFINITIES";
    /// `Array<u32>` by member id × [`super::MAX_POOL`] + pool index: the source-port cursor.
    pub const PORT_CURSORS: &str = "PORT_CURSORS";
    /// `HashMap<FlowKey4, FlowV4>`: both directions of IPv4 flows; half-open ones have their reverse entry only.
    pub const FLOWS4: &str = "FLOWS4";
    /// `HashMap<FlowKey6, FlowV6>`: as [`FLOWS4`], for IPv6.
    pub const FLOWS6: &str = "FLOWS6";
    /// `Array<Bucket<SlotV4>>`: half-open IPv4 flows. A power of two of buckets, sized at load.
    pub const HALF_OPEN4: &str = "HALF_OPEN4";
    /// `Array<Bucket<SlotV6>>`: half-open IPv6 flows.
    pub const HALF_OPEN6: &str = "HALF_OPEN6";
    /// `Array<DirectBucket<Addr4>>`: IPv4 flows whose backends answer by themselves. [`super::direct_buckets`], sized at load.
    pub const DIRECT4: &str = "DIRECT4";
    /// `Array<DirectBucket<Addr6>>`: as [`DIRECT4`], for IPv6.
    pub const DIRECT6: &str = "DIRECT6";
    /// `Queue<FlowKey4>`: reverse keys of the IPv4 records kept, each once; the longest unexamined is examined first. Its
    /// size is the flow limit plus [`super::AGES_SLACK`].
    pub const AGES4: &str = "AGES4";
    /// `Queue<FlowKey6>`: as [`AGES4`], for IPv6.
    pub const AGES6: &str = "AGES6";
    /// `LruHashMap<FlowKey4, Fragment>`: packets of which a first fragment came, see [`super::Fragment`].
    pub const FRAGMENTS4: &str = "FRAGMENTS4";
    /// `LruHashMap<FlowKey6, Fragment>`: as [`FRAGMENTS4`], for IPv6.
    pub const FRAGMENTS6: &str = "FRAGMENTS6";
    /// `PerCpuArray<Traffic>` by [`super::TrafficSlot`].
    pub const TRAFFIC: &str = "TRAFFIC";
    /// `PerCpuArray<MemberStats>` by member id.
    pub const MEMBER_STATS: &str = "MEMBER_STATS";
    /// `PerCpuArray<ServiceStats>` by service id.
    pub const SERVICE_STATS: &str = "SERVICE_STATS";
    /// `PerCpuArray<u64>` by [`super::Reason`].
    pub const VERDICTS: &str = "VERDICTS";
    /// Program array of [`super::MAX_CALLED`] entries: the programs reached by tail call, each at its [`super::Called`]
    /// number.
    pub const PROGRAMS: &str = "PROGRAMS";
    /// Ring buffer of aya-log: what `collect` has to say. The daemon alone reads it.
    pub const AYA_LOGS: &str = "AYA_LOGS";

    /// Every map that is pinned.
    pub const ALL: [&str; 29] = [
        META,
        SETTINGS,
        CLOCK,
        ADDRESSES,
        LOCALS,
        SERVICES,
        DESCRIPTORS,
        SLOTS,
        MEMBERS,
        CURSORS,
        ACTIVE,
        AFFINITIES,
        PORT_CURSORS,
        FLOWS4,
        FLOWS6,
        HALF_OPEN4,
        HALF_OPEN6,
        DIRECT4,
        DIRECT6,
        AGES4,
        AGES6,
        FRAGMENTS4,
        FRAGMENTS6,
        TRAFFIC,
        MEMBER_STATS,
        SERVICE_STATS,
        VERDICTS,
        PROGRAMS,
        AYA_LOGS,
    ];
}

/// Names of the programs in the object.
pub mod programs {
    /// The balancer, section `xdp`.
    pub const LB: &str = "lb";
    /// The collector, section `xdp`, never attached: user space runs it by `BPF_PROG_TEST_RUN` with a repeat count. Each
    /// run examines a few records and writes `CLOCK`.
    pub const COLLECT: &str = "collect";
    /// Those that are pinned. Programs reached by tail call ([`super::Called`]) are kept by `PROGRAMS`.
    pub const PINNED: [&str; 2] = [LB, COLLECT];
}

/// Marks types as plain old data for aya, and asserts that none has implicit padding.
macro_rules! pod {
    ($($t:ty = $size:expr),* $(,)?) => {$(
        const _: () = assert!(core::mem::size_of::<$t>() == $size);
        // SAFETY: `repr(C)`, only integers and arrays of them, and no padding: the size above is the fields' sum.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $t {}
    )*};
}
pub(crate) use pod;
