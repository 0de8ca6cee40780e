//! The memory of direct flows: those whose backends answer their clients themselves (`dsr-l2`, `dsr-ipip`), so that one
//! direction alone is seen. A fixed array of buckets; such a flow owns nothing but its slot and its count. Phases, and what
//! a newcomer may overwrite, are in [`crate::direct`].

use super::{Addr4, Addr6, FlowKey, pod};

/// Slots of a bucket.
pub const DIRECT_WAYS: usize = 4;

/// One direct flow. `owner` guards the rest, with the same states and generation as that of a [`super::Slot`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DirectSlot<A> {
    /// See above.
    pub owner: u64,
    /// The key of the client's packets.
    pub key: FlowKey<A>,
    /// Member id.
    pub member: u32,
    /// What the member's address was, see [`super::Member::mark`]: its id may be another's by now.
    pub mark: u32,
    /// Service id.
    pub service: u32,
    /// [`crate::conntrack::Phase`], as far as one direction shows it.
    pub phase: u32,
    /// Coarse time of the last packet: jiffies >> [`super::Settings::coarse_shift`].
    pub last_seen: u32,
    /// Low 32 bits of jiffies when the flow was opened.
    pub opened: u32,
}

/// Slot of an IPv4 flow.
pub type DirectV4 = DirectSlot<Addr4>;
/// Slot of an IPv6 flow.
pub type DirectV6 = DirectSlot<Addr6>;

/// A bucket of direct flows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DirectBucket<A> {
    /// The slots.
    pub slots: [DirectSlot<A>; DIRECT_WAYS],
}

/// Buckets of each family for a limit of flows: a power of two, with a slot for each flow at least.
pub const fn direct_buckets(max_flows: u32) -> u32 {
    let slots = if max_flows > 1 << 31 { 1 << 31 } else { max_flows.next_power_of_two() };
    let buckets = slots / DIRECT_WAYS as u32;
    if buckets == 0 { 1 } else { buckets }
}

pod! {
    DirectV4 = 8 + 16 + 24,
    DirectV6 = 8 + 40 + 24,
    DirectBucket<Addr4> = 48 * DIRECT_WAYS,
    DirectBucket<Addr6> = 72 * DIRECT_WAYS,
}
