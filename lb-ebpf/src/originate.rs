//! IP headers of packets that are ours from the first byte: resets and ICMP errors.

use lb_common::checksum::fold;
use lb_common::wire::load::{load32, store16, store32};
use lb_common::wire::{ipv4, ipv6};

use crate::family::{Family, OWN_TTL};

/// Writes an IP header before `len` bytes of L4; returns the sum of the pseudo-header that L4's checksum covers (ICMP's over
/// IPv4 covers none).
///
/// # Safety
/// The header, without options or extensions, is there.
#[inline(always)]
pub unsafe fn header<F: Family>(ip: *mut u8, src: &F::Addr, dst: &F::Addr, proto: u8, len: u16) -> u64 {
    let (src, dst) = (F::wide(src), F::wide(dst));
    let mut sum = u64::from(len.to_be()) + u64::from(u16::from(proto).to_be());
    // SAFETY: the caller's.
    unsafe {
        if F::NUMBER == 4 {
            let total = ipv4::HEADER as u16 + len;
            store32(ip, u32::from(ipv4::PLAIN) | u32::from(total.to_be()) << 16);
            // Do not fragment, so the identification may be 0 (RFC 6864).
            store32(ip.add(4), u32::from(0x4000u16.to_be()) << 16);
            let ttl = u32::from(OWN_TTL) | u32::from(proto) << 8;
            store32(ip.add(ipv4::SRC), src[0]);
            store32(ip.add(ipv4::DST), dst[0]);
            let addresses = u64::from(src[0]) + u64::from(dst[0]);
            let head = addresses + u64::from(load32(ip)) + u64::from(load32(ip.add(4))) + u64::from(ttl);
            store32(ip.add(ipv4::TTL), ttl | u32::from(!fold(head)) << 16);
            sum += addresses;
        } else {
            store32(ip, u32::from(0x60u8));
            store16(ip.add(ipv6::PAYLOAD_LEN), len.to_be());
            *ip.add(ipv6::NEXT) = proto;
            *ip.add(ipv6::HOP_LIMIT) = OWN_TTL;
            for i in 0..4 {
                store32(ip.add(ipv6::SRC + 4 * i), src[i]);
                store32(ip.add(ipv6::DST + 4 * i), dst[i]);
                sum += u64::from(src[i]) + u64::from(dst[i]);
            }
        }
    }
    sum
}
