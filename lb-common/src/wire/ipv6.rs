//! IPv6 (RFC 8200) and the extension headers that may stand before L4.

use core::mem::offset_of;

use network_types::ip::{IpProto, Ipv6Hdr};

use super::load::{load16, load32};
use super::{Fault, Located, Packet, Part, l4};

/// Length of the fixed header.
pub const HEADER: usize = Ipv6Hdr::LEN;
/// Offset of the payload length.
pub const PAYLOAD_LEN: usize = offset_of!(Ipv6Hdr, payload_len);
/// Offset of the next header.
pub const NEXT: usize = offset_of!(Ipv6Hdr, next_hdr);
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = offset_of!(Ipv6Hdr, hop_limit);
/// Offset of the source address.
pub const SRC: usize = offset_of!(Ipv6Hdr, src_addr);
/// Offset of the destination address.
pub const DST: usize = offset_of!(Ipv6Hdr, dst_addr);

/// Length of the fragment header.
pub const FRAGMENT_HEADER: usize = 8;

/// Most extension headers walked. RFC 8200, section 4.1, orders at most six before L4.
pub const MAX_EXTENSIONS: usize = 6;
/// Furthest that L4 may begin after the IPv6 header; a longer chain is refused. RFC 8504, section 5.3, lets a receiver
/// limit the chain.
pub const MAX_CHAIN: usize = 1023;

const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
const ROUTING: u8 = IpProto::Ipv6Route as u8;
/// The fragment header.
pub(super) const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
const DESTINATION: u8 = IpProto::Ipv6Opts as u8;
const AUTHENTICATION: u8 = IpProto::Ah as u8;

/// Where L4 is, for TCP or UDP without extension headers before it; lengths are not checked.
///
/// # Safety
/// [`HEADER`] bytes are at `ip`.
#[inline(always)]
pub unsafe fn plain(ip: *const u8, l3: usize) -> Option<Located> {
    // SAFETY: the caller's.
    let (first, payload, proto) = unsafe { (*ip, load16(ip.add(PAYLOAD_LEN)), *ip.add(NEXT)) };
    if first >> 4 != 6 || !l4::is_known(proto) {
        return None;
    }
    Some(Located { l4: l3 + HEADER, proto, ip_len: HEADER as u32 + u32::from(u16::from_be(payload)) })
}

/// Finds the L4 header of the packet whose IPv6 header is at `l3`; lengths as in [`super::ipv4::locate`]. A routing
/// header with segments left is refused: the checksum covers another destination (RFC 8200, section 8.1). An atomic
/// fragment (RFC 6946) is whole.
#[inline(always)]
pub fn locate<P: Packet>(packet: &P, l3: usize) -> Result<Located, Fault> {
    let Some(ip) = packet.ptr(l3, HEADER) else { return Err(Fault::Truncated) };
    // SAFETY: HEADER bytes at `ip`.
    let (first, payload, mut next) = unsafe { (*ip, u16::from_be(load16(ip.add(PAYLOAD_LEN))), *ip.add(NEXT)) };
    if first >> 4 != 6 {
        return Err(Fault::Malformed);
    }
    let ip_len = HEADER + usize::from(payload);
    if l3 + ip_len > packet.len() {
        return Err(Fault::Truncated);
    }
    let mut offset = HEADER;
    for _ in 0..=MAX_EXTENSIONS {
        if !is_extension(next) {
            return Ok(Located { l4: l3 + offset, proto: next, ip_len: ip_len as u32 });
        }
        // Also bounds `offset` for the verifier.
        if offset > MAX_CHAIN || offset + 8 > ip_len {
            return Err(Fault::Malformed);
        }
        let Some(header) = packet.ptr(l3 + offset, 8) else { return Err(Fault::Truncated) };
        // SAFETY: 8 bytes at `header`.
        let (following, length) = unsafe { (*header, *header.add(1)) };
        offset += match next {
            FRAGMENT => {
                // SAFETY: as above.
                let at = u16::from_be(unsafe { load16(header.add(2)) });
                match (at >> 3, at & 1) {
                    (0, 0) => 8,
                    (0, _) => return Err(Fault::FirstFragment),
                    _ => return Err(Fault::LaterFragment),
                }
            }
            // SAFETY: as above.
            ROUTING if unsafe { *header.add(3) } != 0 => return Err(Fault::Malformed),
            // RFC 4302, section 2.2: in 4-byte units minus 2.
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        next = following;
    }
    Err(Fault::Malformed)
}

/// The fragment at `l3`. [`Fault::Malformed`] if it is none. What it brings begins behind its fragment header, so a first one
/// with further extension headers there has their number as its protocol.
#[inline(always)]
pub fn part<P: Packet>(packet: &P, l3: usize) -> Result<Part, Fault> {
    let Some(ip) = packet.ptr(l3, HEADER) else { return Err(Fault::Truncated) };
    // SAFETY: HEADER bytes at `ip`.
    let (first, payload, mut next) = unsafe { (*ip, u16::from_be(load16(ip.add(PAYLOAD_LEN))), *ip.add(NEXT)) };
    let ip_len = HEADER + usize::from(payload);
    if first >> 4 != 6 {
        return Err(Fault::Malformed);
    }
    if l3 + ip_len > packet.len() {
        return Err(Fault::Truncated);
    }
    let mut at = HEADER;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(next) || at > MAX_CHAIN || at + FRAGMENT_HEADER > ip_len {
            return Err(Fault::Malformed);
        }
        let Some(header) = packet.ptr(l3 + at, FRAGMENT_HEADER) else { return Err(Fault::Truncated) };
        // SAFETY: 8 bytes at `header`.
        let (following, length) = unsafe { (*header, *header.add(1)) };
        if next == FRAGMENT {
            // SAFETY: as above.
            let (place, id) = unsafe { (u16::from_be(load16(header.add(2))), load32(header.add(4))) };
            let (offset, more) = (u32::from(place & 0xfff8), place & 1 != 0);
            if offset == 0 && !more {
                return Err(Fault::Malformed);
            }
            let len = (ip_len - at - FRAGMENT_HEADER) as u32;
            return Ok(Part {
                at: l3 + at + FRAGMENT_HEADER,
                proto: following,
                ip_len: ip_len as u32,
                id,
                offset,
                len,
                more,
            });
        }
        // SAFETY: as above. For what is refused here, see `locate`.
        if next == AUTHENTICATION || next == ROUTING && unsafe { *header.add(3) } != 0 {
            return Err(Fault::Malformed);
        }
        at += (usize::from(length) + 1) * 8;
        next = following;
    }
    Err(Fault::Malformed)
}

/// Whether a next-header value is an extension header rather than L4.
#[inline(always)]
pub const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION | AUTHENTICATION)
}

/// Whether an address may be the source of a unicast packet: not unspecified, loopback or multicast. As loaded.
#[inline(always)]
pub const fn is_unicast(addr: &[u32; 4]) -> bool {
    let high_zero = addr[0] | addr[1] | addr[2] == 0;
    addr[0] as u8 != 0xff && !(high_zero && (addr[3] == 0 || addr[3] == 1u32.to_be()))
}
