//! IPv4 (RFC 791).

use core::mem::offset_of;

use network_types::ip::Ipv4Hdr;

use super::load::load16;
use super::{Fault, Located, Packet, Part, l4};

/// Length of the header without options.
pub const HEADER: usize = Ipv4Hdr::LEN;
/// Length of the longest header.
pub const HEADER_MAX: usize = 60;
/// Offset of the total length.
pub const TOT_LEN: usize = offset_of!(Ipv4Hdr, tot_len);
/// Offset of the identification.
pub const ID: usize = offset_of!(Ipv4Hdr, id);
/// Offset of flags and fragment offset.
pub const FRAGS: usize = offset_of!(Ipv4Hdr, frags);
/// Offset of the TTL.
pub const TTL: usize = offset_of!(Ipv4Hdr, ttl);
/// Offset of the protocol.
pub const PROTO: usize = offset_of!(Ipv4Hdr, proto);
/// Offset of the header checksum.
pub const CHECK: usize = offset_of!(Ipv4Hdr, check);
/// Offset of the source address.
pub const SRC: usize = offset_of!(Ipv4Hdr, src_addr);
/// Offset of the destination address.
pub const DST: usize = offset_of!(Ipv4Hdr, dst_addr);
/// Version 4 and a header without options.
pub const PLAIN: u8 = 0x45;

const MORE_FRAGMENTS: u16 = 0x2000;
pub(super) const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Where L4 is, for TCP or UDP behind a header without options, no fragment; lengths are not checked.
///
/// # Safety
/// [`HEADER`] bytes are at `ip`.
#[inline(always)]
pub unsafe fn plain(ip: *const u8, l3: usize) -> Option<Located> {
    // SAFETY: the caller's.
    let (first, total, frags, proto) = unsafe { (*ip, load16(ip.add(TOT_LEN)), load16(ip.add(FRAGS)), *ip.add(PROTO)) };
    if first != PLAIN || !l4::is_known(proto) || frags & (MORE_FRAGMENTS | FRAGMENT_OFFSET).to_be() != 0 {
        return None;
    }
    Some(Located { l4: l3 + HEADER, proto, ip_len: u32::from(u16::from_be(total)) })
}

/// Finds the L4 header of the packet whose IPv4 header is at `l3`, and checks lengths: a frame longer than the packet is
/// padded, a shorter one is refused. See [`Fault`] for what is refused.
#[inline(always)]
pub fn locate<P: Packet>(packet: &P, l3: usize) -> Result<Located, Fault> {
    let (header, total, frags, proto) = header(packet, l3)?;
    if frags & FRAGMENT_OFFSET != 0 {
        return Err(Fault::LaterFragment);
    }
    if frags & MORE_FRAGMENTS != 0 {
        return Err(Fault::FirstFragment);
    }
    Ok(Located { l4: l3 + header, proto, ip_len: u32::from(total) })
}

/// Checks the header at `l3`: its length, the packet's, flags with fragment offset, and protocol.
#[inline(always)]
fn header<P: Packet>(packet: &P, l3: usize) -> Result<(usize, u16, u16, u8), Fault> {
    let Some(ip) = packet.ptr(l3, HEADER) else { return Err(Fault::Truncated) };
    // SAFETY: HEADER bytes at `ip`.
    let first = unsafe { *ip };
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < HEADER {
        return Err(Fault::Malformed);
    }
    // SAFETY: as above.
    let (total, frags, proto) =
        unsafe { (u16::from_be(load16(ip.add(TOT_LEN))), u16::from_be(load16(ip.add(FRAGS))), *ip.add(PROTO)) };
    if usize::from(total) < header {
        return Err(Fault::Malformed);
    }
    if l3 + usize::from(total) > packet.len() {
        return Err(Fault::Truncated);
    }
    Ok((header, total, frags, proto))
}

/// The fragment at `l3`. [`Fault::Malformed`] if it is none.
#[inline(always)]
pub fn part<P: Packet>(packet: &P, l3: usize) -> Result<Part, Fault> {
    let (header, total, frags, proto) = header(packet, l3)?;
    let Some(ip) = packet.ptr(l3, HEADER) else { return Err(Fault::Truncated) };
    let (offset, more) = (u32::from(frags & FRAGMENT_OFFSET) * 8, frags & MORE_FRAGMENTS != 0);
    if offset == 0 && !more {
        return Err(Fault::Malformed);
    }
    Ok(Part {
        at: l3 + header,
        proto,
        ip_len: u32::from(total),
        // SAFETY: HEADER bytes at `ip`.
        id: u32::from(unsafe { load16(ip.add(ID)) }),
        offset,
        len: u32::from(total) - header as u32,
        more,
    })
}

/// Whether an address may be the source of a unicast packet: not "this network", loopback, multicast or reserved. The
/// address is as loaded.
#[inline(always)]
pub const fn is_unicast(addr: u32) -> bool {
    let first = addr as u8;
    first != 0 && first != 127 && first < 224
}
