//! ICMP (RFC 792) and ICMPv6 (RFC 4443): types, and where fields stand.

use network_types::ip::IpProto;

use super::load::load16;
use super::{Fault, Packet, ipv4, ipv6, l4};

/// IP protocol number of ICMP.
pub const V4: u8 = IpProto::Icmp as u8;
/// IP protocol number of ICMPv6.
pub const V6: u8 = IpProto::Ipv6Icmp as u8;

/// Length of the header that all messages begin with, the four bytes that depend on the type included.
pub const HEADER: usize = 8;
/// Offset of the type.
pub const TYPE: usize = 0;
/// Offset of the checksum.
pub const CHECK: usize = 2;

/// Type of ICMP's echo reply.
pub const ECHO_REPLY4: u8 = 0;
/// Type of ICMPv6's echo reply.
pub const ECHO_REPLY6: u8 = 129;
/// Type of ICMP's "time exceeded".
pub const TIME_EXCEEDED4: u8 = 11;
/// Type of ICMPv6's "time exceeded".
pub const TIME_EXCEEDED6: u8 = 3;

/// What a message is to the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An echo request.
    Echo,
    /// An error that quotes the packet it is about. Redirects are none: they are for the host that is told.
    Error,
    /// All else: queries, their answers, neighbour discovery.
    Other,
}

/// What an ICMP message of this type is.
#[inline(always)]
pub const fn kind4(kind: u8) -> Kind {
    match kind {
        8 => Kind::Echo,
        // Destination unreachable (which includes "fragmentation needed"), time exceeded, parameter problem.
        3 | 11 | 12 => Kind::Error,
        _ => Kind::Other,
    }
}

/// What an ICMPv6 message of this type is.
#[inline(always)]
pub const fn kind6(kind: u8) -> Kind {
    match kind {
        128 => Kind::Echo,
        // Destination unreachable, packet too big, time exceeded, parameter problem. Types below 128 are errors, but those
        // that nobody has defined need not quote a packet.
        1..=4 => Kind::Error,
        _ => Kind::Other,
    }
}

/// Where the L4 header of a quoted packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its offset in the frame. At least eight bytes of it are there.
    pub l4: usize,
    /// TCP or UDP.
    pub proto: u8,
}

/// Finds the L4 header of the IPv4 packet quoted at `at`, in an error that ends at `end` (offsets in the frame). Its own
/// lengths are not looked at: a quote is cut as its sender likes, after eight bytes of L4 or more. [`Fault::Malformed`] if
/// it has no ports: another protocol, an error about an error above all.
#[inline(always)]
pub fn quoted4<P: Packet>(packet: &P, at: usize, end: usize) -> Result<Quoted, Fault> {
    let Some(ip) = packet.ptr(at, ipv4::HEADER) else { return Err(Fault::Truncated) };
    // SAFETY: so many bytes are there.
    let (first, frags, proto) = unsafe { (*ip, u16::from_be(load16(ip.add(ipv4::FRAGS))), *ip.add(ipv4::PROTO)) };
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < ipv4::HEADER || !l4::is_known(proto) {
        return Err(Fault::Malformed);
    }
    if frags & ipv4::FRAGMENT_OFFSET != 0 {
        return Err(Fault::LaterFragment);
    }
    ending(Quoted { l4: at + header, proto }, end)
}

/// As [`quoted4`], for IPv6. Of extension headers only one is followed, a fragment's.
#[inline(always)]
pub fn quoted6<P: Packet>(packet: &P, at: usize, end: usize) -> Result<Quoted, Fault> {
    let Some(ip) = packet.ptr(at, ipv6::HEADER) else { return Err(Fault::Truncated) };
    // SAFETY: so many bytes are there.
    let (first, next) = unsafe { (*ip, *ip.add(ipv6::NEXT)) };
    if first >> 4 != 6 {
        return Err(Fault::Malformed);
    }
    let mut quoted = Quoted { l4: at + ipv6::HEADER, proto: next };
    if next == ipv6::FRAGMENT {
        let Some(header) = packet.ptr(at + ipv6::HEADER, ipv6::FRAGMENT_HEADER) else { return Err(Fault::Truncated) };
        // SAFETY: so many bytes are there.
        let (following, offset) = unsafe { (*header, u16::from_be(load16(header.add(2)))) };
        if offset >> 3 != 0 {
            return Err(Fault::LaterFragment);
        }
        quoted = Quoted { l4: at + ipv6::HEADER + ipv6::FRAGMENT_HEADER, proto: following };
    }
    if !l4::is_known(quoted.proto) {
        return Err(Fault::Malformed);
    }
    ending(quoted, end)
}

#[inline(always)]
fn ending(quoted: Quoted, end: usize) -> Result<Quoted, Fault> {
    if quoted.l4 + l4::UDP_HEADER > end { Err(Fault::Truncated) } else { Ok(quoted) }
}
