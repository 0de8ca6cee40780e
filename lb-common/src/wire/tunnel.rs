//! Outer headers: IPv4 in IPv4 (RFC 2003), IPv4 or IPv6 in IPv6 (RFC 2473). Congestion marks as RFC 6040 has them in normal
//! mode: the inner packet's traffic class is copied.

use super::load::{load16, store16, store32};
use super::{ipv4, ipv6};
use crate::abi::{Addr4, Addr6};
use crate::checksum::fold;

/// TTL and hop limit of the outer header.
pub const TTL: u8 = 64;
/// Protocol number of IPv4 as a payload.
pub const IPV4: u8 = 4;
/// Protocol number of IPv6 as a payload.
pub const IPV6: u8 = 41;

const DONT_FRAGMENT: u16 = 0x4000;
const FLOW_LABEL: u32 = 0x000f_ffff;

/// The traffic class of an IPv4 packet: DSCP and ECN.
///
/// # Safety
/// Its header is at `ip`.
#[inline(always)]
pub unsafe fn class4(ip: *const u8) -> u8 {
    // SAFETY: the caller's.
    unsafe { *ip.add(1) }
}

/// The traffic class of an IPv6 packet.
///
/// # Safety
/// Its header is at `ip`.
#[inline(always)]
pub unsafe fn class6(ip: *const u8) -> u8 {
    // SAFETY: the caller's.
    let first = u16::from_be(unsafe { load16(ip) });
    (first >> 4) as u8
}

/// Writes an outer IPv4 header over [`ipv4::HEADER`] bytes. It must not be fragmented (RFC 2003, section 3.1), so its
/// identification may be 0 (RFC 6864). `len`: bytes of the inner packet.
///
/// # Safety
/// The bytes are a packet's.
#[inline(always)]
pub unsafe fn write4(at: *mut u8, src: Addr4, dst: Addr4, class: u8, len: u16) {
    let total = len.wrapping_add(ipv4::HEADER as u16);
    let first = ipv4::PLAIN as u32 | (class as u32) << 8 | (total.to_be() as u32) << 16;
    let frags = (DONT_FRAGMENT.to_be() as u32) << 16;
    let ttl = TTL as u32 | (IPV4 as u32) << 8;
    let sum = first as u64 + frags as u64 + ttl as u64 + src as u64 + dst as u64;
    // SAFETY: the caller's.
    unsafe {
        store32(at, first);
        store32(at.add(4), frags);
        store32(at.add(ipv4::TTL), ttl | (!fold(sum) as u32) << 16);
        store32(at.add(ipv4::SRC), src);
        store32(at.add(ipv4::DST), dst);
    }
}

/// Writes an outer IPv6 header over [`ipv6::HEADER`] bytes. The flow label (RFC 6438) is cut from `label`, so that receivers
/// and routers can spread flows. `next`: what is within, [`IPV4`] or [`IPV6`]; `len`: its bytes.
///
/// # Safety
/// The bytes are a packet's.
#[inline(always)]
pub unsafe fn write6(at: *mut u8, src: &Addr6, dst: &Addr6, class: u8, label: u32, next: u8, len: u16) {
    let first = 6 << 28 | (class as u32) << 20 | label & FLOW_LABEL;
    // SAFETY: the caller's.
    unsafe {
        store32(at, first.to_be());
        store16(at.add(ipv6::PAYLOAD_LEN), len.to_be());
        store16(at.add(ipv6::NEXT), next as u16 | (TTL as u16) << 8);
        store32(at.add(ipv6::SRC), src[0]);
        store32(at.add(ipv6::SRC + 4), src[1]);
        store32(at.add(ipv6::SRC + 8), src[2]);
        store32(at.add(ipv6::SRC + 12), src[3]);
        store32(at.add(ipv6::DST), dst[0]);
        store32(at.add(ipv6::DST + 4), dst[1]);
        store32(at.add(ipv6::DST + 8), dst[2]);
        store32(at.add(ipv6::DST + 12), dst[3]);
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::checksum::sum;

    proptest! {
        #[test]
        fn ipv4_header_is_valid(src: [u8; 4], dst: [u8; 4], class: u8, len in 0u16..65_000) {
            let mut at = [0xaa; 22];
            // SAFETY: 22 bytes.
            unsafe { write4(at.as_mut_ptr(), u32::from_le_bytes(src), u32::from_le_bytes(dst), class, len) };
            prop_assert_eq!(fold(sum(&at[..20])), 0xffff);
            prop_assert_eq!(at[..2].to_vec(), vec![0x45, class]);
            prop_assert_eq!(u16::from_be_bytes([at[2], at[3]]), len + 20);
            prop_assert_eq!(at[4..10].to_vec(), vec![0, 0, 0x40, 0, 64, 4]);
            prop_assert_eq!((at[12..16].to_vec(), at[16..20].to_vec()), (src.to_vec(), dst.to_vec()));
            prop_assert_eq!(at[20..].to_vec(), vec![0xaa; 2]);
            // SAFETY: a whole header.
            prop_assert_eq!(unsafe { class4(at.as_ptr()) }, class);
        }

        #[test]
        fn ipv6_header_is_valid(src: [u8; 16], dst: [u8; 16], class: u8, label: u32, len: u16, six: bool) {
            let words = |b: [u8; 16]| -> Addr6 {
                core::array::from_fn(|i| u32::from_le_bytes([b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]]))
            };
            let mut at = [0xaa; 42];
            let next = if six { IPV6 } else { IPV4 };
            // SAFETY: 42 bytes.
            unsafe { write6(at.as_mut_ptr(), &words(src), &words(dst), class, label, next, len) };
            let first = u32::from_be_bytes([at[0], at[1], at[2], at[3]]);
            prop_assert_eq!((first >> 28, first >> 20 & 0xff, first & 0xf_ffff), (6, class.into(), label & 0xf_ffff));
            prop_assert_eq!(u16::from_be_bytes([at[4], at[5]]), len);
            prop_assert_eq!(at[6..8].to_vec(), vec![next, 64]);
            prop_assert_eq!((at[8..24].to_vec(), at[24..40].to_vec()), (src.to_vec(), dst.to_vec()));
            prop_assert_eq!(at[40..].to_vec(), vec![0xaa; 2]);
            // SAFETY: a whole header.
            prop_assert_eq!(unsafe { class6(at.as_ptr()) }, class);
        }
    }
}
