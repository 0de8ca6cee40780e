//! Ethernet II and up to two VLAN tags (IEEE 802.1Q, 802.1ad).

use network_types::eth::{EthHdr, EtherType};
use network_types::vlan::VlanHdr;

use super::Packet;
use super::load::load16;

/// EtherType of IPv4, as loaded.
pub const IPV4: u16 = EtherType::Ipv4 as u16;
/// EtherType of IPv6, as loaded.
pub const IPV6: u16 = EtherType::Ipv6 as u16;
/// EtherType of a customer tag, as loaded.
pub const VLAN: u16 = EtherType::Ieee8021q as u16;
/// EtherType of a service tag, as loaded.
pub const QINQ: u16 = EtherType::Ieee8021ad as u16;

/// Length of the header without tags.
pub const HEADER: usize = EthHdr::LEN;
/// Length of one tag.
pub const TAG: usize = VlanHdr::LEN;
/// Offset of the EtherType in an untagged frame.
pub const TYPE: usize = core::mem::offset_of!(EthHdr, ether_type);
/// Offset of the source address.
pub const SRC: usize = core::mem::offset_of!(EthHdr, src_addr);

/// What stands before the L3 header. How many tags that are follows from `l3` alone: a tag's TCI may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// EtherType of the L3 header, as loaded.
    pub proto: u16,
    /// Offset of the L3 header.
    pub l3: usize,
    /// The outermost TCI that is not 0, as loaded; 0 for none. A tag of TCI 0 says no more than no tag (IEEE 802.1Q,
    /// 6.9.1), so what answers the frame needs none.
    pub outer: u16,
    /// The TCI within that, as loaded; 0 for none.
    pub inner: u16,
}

/// Whether an EtherType announces a tag.
#[inline(always)]
pub const fn is_tag(proto: u16) -> bool {
    proto == VLAN || proto == QINQ
}

/// Tags between the Ethernet addresses and an L3 header at `l3`.
#[inline(always)]
pub const fn tags(l3: usize) -> usize {
    (l3 - HEADER) / TAG
}

/// Reads the link header. `None`: the frame ends within it, or it has more than two tags.
#[inline(always)]
pub fn link<P: Packet>(packet: &P) -> Option<Link> {
    let eth = packet.ptr(0, HEADER)?;
    // SAFETY: HEADER bytes at `eth`.
    let mut link = Link { proto: unsafe { load16(eth.add(TYPE)) }, l3: HEADER, outer: 0, inner: 0 };
    if is_tag(link.proto) {
        let tag = packet.ptr(HEADER, TAG)?;
        // SAFETY: TAG bytes at `tag`.
        (link.outer, link.proto) = unsafe { (load16(tag), load16(tag.add(2))) };
        link.l3 = HEADER + TAG;
        if is_tag(link.proto) {
            let tag = packet.ptr(HEADER + TAG, TAG)?;
            // SAFETY: TAG bytes at `tag`.
            (link.inner, link.proto) = unsafe { (load16(tag), load16(tag.add(2))) };
            link.l3 = HEADER + 2 * TAG;
            if is_tag(link.proto) {
                return None;
            }
        }
    }
    if link.outer == 0 {
        (link.outer, link.inner) = (link.inner, 0);
    }
    Some(link)
}
