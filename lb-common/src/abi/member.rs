//! A member: one backend in one service, as the kernel sees it.

use super::{Addr6, pod};

/// A next hop: what to write into the Ethernet header and where to send the frame. Three words, each read and written as
/// one aligned u64, so that a change of neighbour is seen whole per word.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Bits 0-47: destination MAC in memory order; bits 48-63: outer VLAN TCI in network byte order, 0 for none. A zero
    /// destination MAC means *unresolved*: never sent to.
    pub dst: u64,
    /// Bits 0-47: source MAC in memory order; bits 48-63: inner VLAN TCI in network byte order, 0 for none.
    pub src: u64,
    /// Egress interface in the low 32 bits, above it the link's MTU in 16 bits (0: not known), then [`Hop::CLOSED`] or zero.
    /// The way back to a client has no MTU.
    pub link: u64,
}

impl Hop {
    /// Bits of a word that hold the MAC.
    pub const MAC: u64 = 0x0000_ffff_ffff_ffff;

    /// In `link`: nothing is sent there, and flows to it are ended by collection. Its destination MAC is zero, so that no
    /// packet needs to look at this.
    pub const CLOSED: u64 = 1 << 63;

    /// Where in `link` the MTU begins.
    pub const MTU_SHIFT: u32 = 32;

    /// The next hop of a member that is to get no packet any more.
    pub const fn closed() -> Self {
        Self { dst: 0, src: 0, link: Self::CLOSED }
    }

    /// Whether it is that of such a member.
    #[inline(always)]
    pub const fn is_closed(&self) -> bool {
        self.link & Self::CLOSED != 0
    }

    /// An untagged next hop.
    pub const fn new(dst: [u8; 6], src: [u8; 6], ifindex: u32) -> Self {
        Self { dst: mac_word(dst), src: mac_word(src), link: ifindex as u64 }
    }

    /// The same with the link's MTU, bytes; one beyond 65,535 is that.
    pub const fn with_mtu(self, mtu: u32) -> Self {
        let mtu = if mtu > 0xffff { 0xffff } else { mtu };
        Self { link: self.link & !(0xffff << Self::MTU_SHIFT) | (mtu as u64) << Self::MTU_SHIFT, ..self }
    }

    /// The link's MTU, bytes; 0: not known.
    pub const fn mtu(&self) -> u32 {
        (self.link >> Self::MTU_SHIFT) as u32 & 0xffff
    }

    /// Whether a destination MAC is known.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.dst & Self::MAC != 0
    }

    /// The destination MAC.
    pub const fn dst_mac(&self) -> [u8; 6] {
        word_mac(self.dst)
    }

    /// The source MAC.
    pub const fn src_mac(&self) -> [u8; 6] {
        word_mac(self.src)
    }

    /// The egress interface's index.
    #[inline(always)]
    pub const fn ifindex(&self) -> u32 {
        self.link as u32
    }
}

/// A MAC address as the low 48 bits of a little-endian word.
pub const fn mac_word(m: [u8; 6]) -> u64 {
    u64::from_le_bytes([m[0], m[1], m[2], m[3], m[4], m[5], 0, 0])
}

/// The MAC address in the low 48 bits of a word.
pub const fn word_mac(w: u64) -> [u8; 6] {
    let b = w.to_le_bytes();
    [b[0], b[1], b[2], b[3], b[4], b[5]]
}

/// One backend in one service. Ids are stable while any flow may refer to them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Where frames for this backend go.
    pub hop: Hop,
    /// The backend's address; IPv4 in word 0.
    pub addr: Addr6,
    /// The backend's port, network byte order, zero-extended.
    pub port: u32,
    /// The address's: 4 or 6; 0 marks an unused id. Under [`super::service_flags::TUNNEL`] an IPv4 service may have IPv6
    /// members.
    pub family: u32,
    /// Service id.
    pub service: u32,
    /// Effective weight in 1/256; 0: takes no new flows.
    pub weight: u32,
    /// Zero.
    pub reserved: [u32; 2],
}

impl Member {
    /// Tells members that had the same id one after the other apart.
    #[inline(always)]
    pub const fn mark(&self) -> u32 {
        self.addr[0] ^ self.addr[1] ^ self.addr[2] ^ self.addr[3] ^ self.port << 16
    }
}

pod! { Hop = 24, Member = 24 + 16 + 6 * 4 }
