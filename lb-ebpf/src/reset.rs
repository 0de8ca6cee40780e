//! Resets for TCP packets of no known flow (RFC 9293, section 3.10.7.1), so that both ends learn at once that the
//! connection is gone, instead of waiting for a timeout.

use aya_ebpf::{bindings::xdp_action::XDP_TX, helpers::bpf_xdp_adjust_tail, programs::XdpContext};
use lb_common::abi::Reason;
use lb_common::wire::load::{load32, load64, store16, store32, store64};
use lb_common::wire::{Packet, eth, ipv4, ipv6, l4};

use crate::count;
use crate::family::Family;
use crate::frame::{Frame, Window};

/// TTL and hop limit of what we originate.
const TTL: u8 = 64;
/// Data offset of a TCP header without options.
const DOFF: u8 = 5 << 4;

/// Turns the packet into the reset that answers it. False: it is a reset itself, or it could not be done; the packet may
/// be changed, and is not to be sent.
#[inline(never)]
pub fn answer<F: Family>(ctx: &XdpContext, frame: &Frame<F::Addr>) -> bool {
    let window = Window::new(ctx);
    if window.ptr(0, eth::HEADER).is_none() {
        return false;
    }
    let Some(tcp) = window.ptr(frame.at.l4, l4::TCP_HEADER) else {
        return false;
    };
    // SAFETY: a TCP header at `tcp`.
    let (flags, doff, seq, ack) = unsafe {
        (
            *tcp.add(l4::TCP_FLAGS),
            u32::from(*tcp.add(l4::TCP_DOFF) >> 4) * 4,
            u32::from_be(load32(tcp.add(l4::TCP_SEQ))),
            load32(tcp.add(l4::TCP_ACK)),
        )
    };
    if flags & l4::RST != 0 {
        return false;
    }
    let headers = (frame.at.l4 - frame.at.l3) as u32 + doff;
    let payload = frame.at.ip_len.saturating_sub(headers);
    let length = payload + u32::from(flags & l4::SYN != 0) + u32::from(flags & l4::FIN != 0);
    // What the peer acknowledges is where it expects us; without an ACK, acknowledge what it sent.
    let (seq, ack, flags) =
        if flags & l4::ACK != 0 { (ack, 0, l4::RST) } else { (0, seq.wrapping_add(length).to_be(), l4::RST | l4::ACK) };

    let total = frame.at.l3 + F::HEADER + l4::TCP_HEADER;
    let shrink = total as i32 - (window.len() & 0x3fff) as i32;
    // SAFETY: the packet's context. Pointers into the packet are taken anew below.
    if shrink > 0 || unsafe { bpf_xdp_adjust_tail(ctx.ctx, shrink) } != 0 {
        return false;
    }
    let window = Window::new(ctx);
    let (Some(link), Some(ip), Some(tcp)) = (
        window.ptr(0, eth::HEADER),
        window.ptr(frame.at.l3, F::HEADER),
        window.ptr(frame.at.l3 + F::HEADER, l4::TCP_HEADER),
    ) else {
        return false;
    };
    let ports = frame.key.ports.rotate_left(16);
    // SAFETY: the headers are there.
    unsafe {
        let (to, from) = (load64(link), load64(link.add(eth::SRC)));
        store64(link, from & 0xffff_ffff_ffff | to << 48);
        store32(link.add(8), (to >> 16) as u32);
        let pseudo = header::<F>(ip, frame);
        store32(tcp, ports);
        store32(tcp.add(l4::TCP_SEQ), seq);
        store32(tcp.add(l4::TCP_ACK), ack);
        let rest = u32::from(DOFF) | u32::from(flags) << 8;
        store32(tcp.add(l4::TCP_DOFF), rest);
        let sum = pseudo + u64::from(ports) + u64::from(seq) + u64::from(ack) + u64::from(rest);
        store32(tcp.add(l4::TCP_CHECK), u32::from(!lb_common::checksum::fold(sum)));
    }
    true
}

/// Writes an IP header from our side; returns the pseudo-header's sum.
///
/// # Safety
/// The header, without options or extensions, is there.
#[inline(always)]
unsafe fn header<F: Family>(ip: *mut u8, frame: &Frame<F::Addr>) -> u64 {
    let (src, dst) = (F::wide(&frame.key.dst), F::wide(&frame.key.src));
    let mut sum = u64::from((l4::TCP_HEADER as u16).to_be()) + u64::from(u16::from(l4::TCP).to_be());
    // SAFETY: the caller's.
    unsafe {
        if F::NUMBER == 4 {
            let total = (ipv4::HEADER + l4::TCP_HEADER) as u16;
            store32(ip, u32::from(0x45u8) | u32::from(total.to_be()) << 16);
            // Do not fragment, so the identification may be 0 (RFC 6864).
            store32(ip.add(4), u32::from(0x4000u16.to_be()) << 16);
            let ttl = u32::from(TTL) | u32::from(l4::TCP) << 8;
            store32(ip.add(ipv4::SRC), src[0]);
            store32(ip.add(ipv4::DST), dst[0]);
            let addresses = u64::from(src[0]) + u64::from(dst[0]);
            let head = addresses + u64::from(load32(ip)) + u64::from(load32(ip.add(4))) + u64::from(ttl);
            store32(ip.add(ipv4::TTL), ttl | u32::from(!lb_common::checksum::fold(head)) << 16);
            sum += addresses;
        } else {
            store32(ip, u32::from(0x60u8));
            store16(ip.add(ipv6::PAYLOAD_LEN), (l4::TCP_HEADER as u16).to_be());
            *ip.add(ipv6::NEXT) = l4::TCP;
            *ip.add(ipv6::HOP_LIMIT) = TTL;
            for i in 0..4 {
                store32(ip.add(ipv6::SRC + 4 * i), src[i]);
                store32(ip.add(ipv6::DST + 4 * i), dst[i]);
                sum += u64::from(src[i]) + u64::from(dst[i]);
            }
        }
    }
    sum
}

/// Counts a reset and sends it back the way the packet came.
#[inline(always)]
pub fn sent() -> u32 {
    count::sent(Reason::TxReset);
    XDP_TX
}
