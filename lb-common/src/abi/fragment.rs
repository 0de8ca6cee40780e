//! What is remembered of a first fragment, so that the others of its packet can follow it.

use super::pod;

/// Most packets in fragments that are remembered, of each family.
pub const MAX_FRAGMENTED: u32 = 4096;

/// A first fragment, by source, destination, protocol and identification: the key is a [`super::FlowKey`] whose `ports` are
/// the identification as loaded, IPv4's in the low half.
///
/// It owns nothing: the flow is looked up again for each later fragment. So an LRU may forget it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Ports, as in [`super::FlowKey::ports`]; with them the key is the flow's.
    pub ports: u32,
    /// The identification after the rewrite, as loaded.
    pub id: u32,
    /// Low 32 bits of jiffies when it came.
    pub seen: u32,
    /// Where its payload ends: bytes from the start of the whole packet's. 0: the packet is the host's.
    pub end: u32,
}

pod! { Fragment = 16 }
