//! Errors about packets that we rewrote. A router or host on one side saw the packet as that side does, and quotes it; the
//! other side must see its own packet quoted, or path MTU discovery fails and large transfers hang.
//!
//! The quoted packet's 5-tuple, turned round, is a flow's key: what answers it would arrive under. The flow's rewrite then
//! says what the other side's packet was, and whom the error is for. Its source becomes the address that this side talks
//! to: the VIP towards clients, the source address towards backends. The router's own, which RFC 5508 would keep, means
//! nothing beyond a full NAT, and may not be routable there.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{LocalKind, Reason, ServiceKey, Settings};
use lb_common::checksum::{delta32, fold, update, update_udp};
use lb_common::wire::load::{load16, load32, store16, store32};
use lb_common::wire::{Packet, eth, icmp, l4};

use crate::family::{Aligned, Family};
use crate::frame::Window;
use crate::maps::{SERVICES, SETTINGS};
use crate::step::{Next, Step, Work};
use crate::{count, forward, link, miss, peek};

/// Bound of a quoted L4 header's offset: see [`crate::frame`] for that of the ICMP header before it.
const QUOTED: usize = 0x1fff;

/// Finds the flow that an error is about: a verdict, or [`Step::TRANSLATE`] with the flow in [`Work`].
#[inline(never)]
pub fn find<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let frame = found.frame();
    let window = Window::new(ctx);
    let at = frame.at.l4 + icmp::HEADER;
    let end = frame.at.l3 + frame.at.ip_len as usize;
    let quoted = match F::quoted(&window, at, end) {
        Ok(quoted) => quoted,
        // Cut short, or about something that has no ports: not of a flow, but perhaps of the host.
        Err(_) => return count::pass(Reason::PassOtherProtocol),
    };
    let (Some(ip), Some(head)) = (window.ptr(at, F::HEADER), window.ptr(quoted.l4 & QUOTED, l4::UDP_HEADER)) else {
        return count::drop(Reason::DropTruncated);
    };
    let mut sent = Aligned(F::EMPTY_KEY);
    // SAFETY: both headers are there.
    unsafe {
        F::addresses(ip, &mut sent);
        sent.0.ports = load32(head);
    }
    sent.0.proto = u32::from(quoted.proto);
    // Who complains to us complains of what we sent (RFC 5927, section 4.1 for what else a receiver may check).
    if !F::same(&sent.0.src, &frame.key.dst) {
        return count::drop(Reason::DropMalformed);
    }
    next.reverse_key = sent.0.reversed();
    next.way = quoted.l4 as u32;
    if !peek::flow::<F>(settings, &next.reverse_key, &mut next.reverse) {
        return no_flow::<F>(settings, next);
    }
    Step::TRANSLATE
}

/// An error about nothing that we know: ours if a service or a source port of ours is meant to have sent it, else the host's.
#[inline(always)]
fn no_flow<F: Family>(settings: &Settings, next: &Next<F::Addr>) -> u32 {
    let key = &next.reverse_key;
    let service = ServiceKey {
        addr: F::wide(&key.dst),
        port: (key.ports >> 16) as u16,
        proto: key.proto as u8,
        family: F::NUMBER,
    };
    if let Some(service) = SERVICES.get_ptr(&service) {
        // SAFETY: a map value; a service's id is not used again before a grace period.
        return count::drop_of(unsafe { (*service).id }, Reason::DropIcmpNoFlow);
    }
    let port = u32::from(u16::from_be((key.ports >> 16) as u16));
    let ours =
        miss::local::<F>(&key.dst) & LocalKind::POOL != 0 && port.wrapping_sub(settings.port_min) < settings.port_count;
    if ours { count::drop(Reason::DropIcmpNoFlow) } else { count::pass(Reason::PassOtherProtocol) }
}

/// Translates an error inside and outside, and sends it to the other side.
#[inline(never)]
pub fn translate<F: Family>(ctx: &XdpContext) -> u32 {
    let Some(work) = F::work().get_ptr_mut(0) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let frame = found.frame();
    let flow = &next.reverse;
    let service = flow.service;
    let hop = forward::hop_of(flow);
    if !hop.is_resolved() {
        return count::drop_of(service, Reason::DropNoNextHop);
    }
    let window = Window::new(ctx);
    let at = frame.at.l4 + icmp::HEADER;
    let l4_at = next.way as usize & QUOTED;
    let (Some(ip), Some(message), Some(inner), Some(head)) = (
        window.ptr(frame.at.l3, F::HEADER),
        window.ptr(frame.at.l4, icmp::HEADER),
        window.ptr(at, F::HEADER),
        window.ptr(l4_at, l4::UDP_HEADER),
    ) else {
        return count::drop_of(service, Reason::DropTruncated);
    };
    // SAFETY: the headers are there, in this and the following reads.
    if unsafe { *ip.add(F::TTL) } <= 1 {
        return count::drop_of(service, Reason::DropTtl);
    }
    // What the other side's packet had: the answer to what an answer becomes.
    let key = &next.reverse_key;
    let (src, dst, ports) = (&flow.dst, &flow.src, flow.ports.rotate_left(16));
    let addresses = F::delta(&key.dst, src) + F::delta(&key.src, dst);
    // SAFETY: as above.
    let mut delta = addresses + unsafe { F::requote(inner, src, dst, addresses) };
    // SAFETY: as above.
    let of_ports = unsafe {
        let old = load32(head);
        store32(head, ports);
        delta32(old, ports)
    };
    delta += of_ports;
    let of_l4 = u64::from(fold(addresses + of_ports));
    if key.proto == u32::from(l4::UDP) {
        // SAFETY: as above.
        unsafe {
            let old = load16(head.add(l4::UDP_CHECK));
            if old != 0 {
                let new = update_udp(old, of_l4 as u16);
                store16(head.add(l4::UDP_CHECK), new);
                delta += u64::from(!old) + u64::from(new);
            }
        }
    } else if l4_at + l4::TCP_CHECK + 2 <= frame.at.l3 + frame.at.ip_len as usize
        && let Some(tcp) = window.ptr(l4_at, l4::TCP_CHECK + 2)
    {
        // SAFETY: so many bytes of a TCP header are there: the quote may end before.
        unsafe {
            let old = load16(tcp.add(l4::TCP_CHECK));
            let new = update(old, of_l4);
            store16(tcp.add(l4::TCP_CHECK), new);
            delta += u64::from(!old) + u64::from(new);
        }
    }
    let outer = F::delta(&frame.key.src, &flow.src) + F::delta(&frame.key.dst, &flow.dst);
    if F::NUMBER == 6 {
        // ICMPv6 covers a pseudo-header (RFC 4443, section 2.3).
        delta += outer;
    }
    // SAFETY: as above.
    unsafe {
        let check = load16(message.add(icmp::CHECK));
        store16(message.add(icmp::CHECK), update(check, delta));
        F::rewrite(ip, &flow.src, &flow.dst, u32::from(fold(F::header_delta(outer))));
    }
    if window.ptr(0, eth::HEADER).is_none() || !link::replace(ctx, frame.at.l3, hop.dst, hop.src, 0) {
        return count::drop_of(service, Reason::DropTags);
    }
    count::sent(Reason::TxIcmpError);
    link::send(ctx, hop.ifindex())
}
