//! A service and the descriptor of its selection table.

use super::{Addr6, pod};

/// A service's key: VIP + port + protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The VIP; IPv4 in word 0, the rest zero.
    pub addr: Addr6,
    /// Destination port, network byte order.
    pub port: u16,
    /// IP protocol: 6 or 17.
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
}

/// Bits of [`ServiceInfo::flags`].
pub mod flags {
    /// UDP without answers: a second client packet alone establishes the flow.
    pub const ONE_WAY: u32 = 1;
    /// TCP: a SYN that a member refuses or does not answer is given to another.
    pub const SECOND_CHANCE: u32 = 2;
    /// Backends answer clients themselves: a packet reaches them as it came, but for link header and TTL.
    pub const DIRECT: u32 = 1 << 8;
    /// With [`DIRECT`]: in an outer IP header, to the member's address.
    pub const TUNNEL: u32 = 1 << 9;
}

/// What `SERVICES` holds: an id, immutable while the service exists, and what a new flow needs besides the descriptor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Service id, below [`super::MAX_SERVICES`].
    pub id: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// [`Algorithm::Source`]: jiffies for which a client that opened a flow stays with its member; 0: not at all.
    pub affinity: u32,
    /// Zero.
    pub reserved: u32,
}

/// How a table's index is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// By the flow's hash.
    Maglev = 0,
    /// By the service's cursor.
    RoundRobin = 1,
    /// By the service's cursor and the flow's hash: of two members the one with fewer active flows for its weight.
    LeastConn = 2,
    /// By the hash of the client's address; where [`ServiceInfo::affinity`] is set, the member that it had.
    Source = 3,
    /// By the hash of both addresses: no ports.
    Addresses = 4,
    /// By the hash of the VIP and its port: all clients alike.
    Destination = 5,
}

/// One table, named by one aligned u64 so that a packet sees the old table or the new one, never a mix.
///
/// Bits 0-25: first slot in the arena. 26-47: number of slots (0: refuse new flows). 48-51: [`Algorithm`]. 52-63: a
/// generation that changes with each swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Descriptor(pub u64);

impl Descriptor {
    /// Most slots in the arena.
    pub const MAX_OFFSET: u32 = (1 << 26) - 1;
    /// Most slots in one table.
    pub const MAX_SIZE: u32 = (1 << 22) - 1;

    /// Packs a descriptor; each part is cut to its width.
    pub const fn new(offset: u32, size: u32, algorithm: Algorithm, generation: u32) -> Self {
        Self(
            (offset & Self::MAX_OFFSET) as u64
                | ((size & Self::MAX_SIZE) as u64) << 26
                | (algorithm as u64) << 48
                | ((generation & 0xfff) as u64) << 52,
        )
    }

    /// First slot in the arena.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        self.0 as u32 & Self::MAX_OFFSET
    }

    /// Number of slots.
    #[inline(always)]
    pub const fn size(self) -> u32 {
        (self.0 >> 26) as u32 & Self::MAX_SIZE
    }

    /// The algorithm's number, see [`Algorithm`].
    #[inline(always)]
    pub const fn algorithm(self) -> u8 {
        (self.0 >> 48) as u8 & 0xf
    }

    /// The generation.
    pub const fn generation(self) -> u32 {
        (self.0 >> 52) as u32
    }
}

/// A slot without a member: the new flow is dropped, counted as `no_backend`.
pub const NO_MEMBER: u32 = u32::MAX;

pod! { ServiceKey = 20, ServiceInfo = 16 }
