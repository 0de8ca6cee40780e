//! Resets for TCP packets of no known flow (RFC 9293, section 3.10.7.1), so that both ends learn at once that the
//! connection is gone, instead of waiting for a timeout.

use aya_ebpf::{bindings::xdp_action::XDP_TX, helpers::bpf_xdp_adjust_tail, programs::XdpContext};
use lb_common::abi::Reason;
use lb_common::wire::load::{load32, store32};
use lb_common::wire::{Packet, eth, l4};

use crate::count;
use crate::family::Family;
use crate::frame::{Frame, Window};
use crate::{link, originate};

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
        link::turn_round(link);
        let pseudo = originate::header::<F>(ip, &frame.key.dst, &frame.key.src, l4::TCP, l4::TCP_HEADER as u16);
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

/// Counts a reset and sends it back the way the packet came.
#[inline(always)]
pub fn sent() -> u32 {
    count::sent(Reason::TxReset);
    XDP_TX
}
