//! The program `expired`: packets whose TTL or hop limit ends here are answered with ICMP "time exceeded" (RFC 792; RFC 4443,
//! section 3.3), so that traceroute shows the edge. From the address they were sent to: the one that the sender knows.
//!
//! `lb` comes here with TCP and UDP of a flow or for a service alone, so no error is ever about an error.

use aya_ebpf::bindings::xdp_action::XDP_TX;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Hop, Reason, ServiceKey};
use lb_common::wire::load::{load32, load64, store16, store32, store64};
use lb_common::wire::{Packet, eth, icmp, l4};
use lb_common::{checksum::fold, pace};

use crate::count;
use crate::family::{Aligned, Family, V4, V6};
use crate::frame::{Frame, Layout, Window};
use crate::maps::{PACE, SERVICES, SETTINGS};
use crate::step::{self, Step};
use crate::time::jiffies;
use crate::{forward, miss, originate};

/// Answers a second, for each CPU: a flood of expiring packets must not become one of answers.
const RATE: u64 = 100;
/// Answers at once: a traceroute sends three packets for each hop, some sixteen and more in parallel.
const BURST: u64 = 100;
/// Most bytes quoted, a multiple of four: headers with options, and some payload. RFC 1812, section 4.3.2.3, would have as
/// much as fits, but each byte is added up by hand.
const QUOTE: usize = 128;

/// A packet's verdict.
#[inline(always)]
pub fn packet(ctx: &XdpContext) -> u32 {
    let Some(link) = eth::link(&Window::new(ctx)) else {
        return count::pass(Reason::PassNotIp);
    };
    match link.proto {
        eth::IPV4 => answered::<V4>(ctx, link.l3),
        eth::IPV6 => answered::<V6>(ctx, link.l3),
        _ => count::pass(Reason::PassNotIp),
    }
}

#[inline(always)]
fn answered<F: Family>(ctx: &XdpContext, l3: usize) -> u32 {
    match examine::<F>(ctx, l3) {
        Step::ANSWER => answer::<F>(ctx),
        verdict => verdict,
    }
}

/// Whether a packet gets an answer: [`Step::ANSWER`], its frame left in [`step::Work`], or its verdict.
#[inline(never)]
fn examine<F: Family>(ctx: &XdpContext, l3: usize) -> u32 {
    let Some(settings) = SETTINGS.get(0) else {
        return count::drop(Reason::DropInternal);
    };
    let window = Window::new(ctx);
    let (Some(link), Some(ip)) = (window.ptr(0, eth::HEADER), window.ptr(l3, F::HEADER)) else {
        return count::pass(Reason::PassMalformed);
    };
    if !forward::is_to_us(link, settings) {
        return count::pass(Reason::PassOtherMac);
    }
    let Ok(found) = F::locate(&window, l3) else {
        return count::drop(Reason::DropTtl);
    };
    let Some(head) = window.ptr(found.l4, l4::UDP_HEADER) else {
        return count::drop(Reason::DropTruncated);
    };
    let mut key = Aligned(F::EMPTY_KEY);
    // SAFETY: the headers are there.
    unsafe {
        F::addresses(ip, &mut key);
        key.0.ports = load32(head);
    }
    key.0.proto = u32::from(found.proto);
    let unicast = F::is_unicast(&key.0.src) && miss::local::<F>(&key.0.src) == 0;
    let (Some(word), now) = (PACE.get_ptr_mut(0), jiffies()) else {
        return count::drop(Reason::DropInternal);
    };
    // Time in units of which a second has hz x rate, so that nothing is lost to rounding.
    // SAFETY: a value of this CPU.
    let may = unicast && pace::take(unsafe { &mut *word }, now * RATE, u64::from(settings.hz), BURST);
    if !may || !l4::is_known(found.proto) {
        return refused::<F>(&key);
    }
    step::leave::<F>(
        &Frame { key: &key.0, at: Layout { l3, l4: found.l4, ip_len: found.ip_len, tags: 0 } },
        Step::ANSWER,
    )
}

/// Drops a packet, for its service if it is to one.
#[inline(always)]
fn refused<F: Family>(key: &Aligned<lb_common::abi::FlowKey<F::Addr>>) -> u32 {
    let key = &key.0;
    let service = ServiceKey {
        addr: F::wide(&key.dst),
        port: (key.ports >> 16) as u16,
        proto: key.proto as u8,
        family: F::NUMBER,
    };
    match SERVICES.get_ptr(&service) {
        // SAFETY: a map value; a service's id is not used again before a grace period.
        Some(service) => count::drop_of(unsafe { (*service).id }, Reason::DropTtl),
        None => count::drop(Reason::DropTtl),
    }
}

/// Turns the packet in [`step::Work`] into the error about it: room for two headers before its own IP header, all but its
/// beginning cut off.
#[inline(never)]
fn answer<F: Family>(ctx: &XdpContext) -> u32 {
    let Some(work) = F::work().get_ptr(0) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let frame = unsafe { &*work }.found.frame();
    let l3 = frame.at.l3;
    // Whole words. At least eight bytes of L4 stay: their end is a multiple of four.
    let quote = (frame.at.ip_len as usize & 0x1_ffff).min(QUOTE) & !3;
    let added = F::HEADER + icmp::HEADER;
    let excess = (Window::new(ctx).len() & 0x3fff) as i32 - (l3 + quote) as i32;
    if excess < 0 {
        return count::drop(Reason::DropTtl);
    }
    // The tail first: in front of the packet there may be no room.
    // SAFETY: the packet's context. Pointers into the packet are taken below.
    let cut = unsafe { bpf_xdp_adjust_tail(ctx.ctx, -excess) };
    // SAFETY: as above.
    if cut != 0 || unsafe { bpf_xdp_adjust_head(ctx.ctx, -(added as i32)) } != 0 {
        return count::drop(Reason::DropTtl);
    }
    let window = Window::new(ctx);
    let (Some(old), Some(new)) = (window.ptr(added, L3_MAX), window.ptr(0, L3_MAX)) else {
        return count::drop(Reason::DropTtl);
    };
    // SAFETY: so many bytes are there. Three words hold an Ethernet header and two tags; what is behind an untagged one is
    // written below. All are read before any is written.
    unsafe {
        let (a, b, c) = (load64(old), load64(old.add(8)), load64(old.add(16)));
        store64(new, a);
        store64(new.add(8), b);
        store64(new.add(16), c);
        let (to, from) = (a, a >> 48 | b << 16);
        store64(new, from & Hop::MAC | to << 48);
        store32(new.add(8), (to >> 16) as u32);
    }
    let (Some(ip), Some(message)) = (window.ptr(l3, F::HEADER), window.ptr(l3 + F::HEADER, icmp::HEADER)) else {
        return count::drop(Reason::DropTtl);
    };
    let len = (icmp::HEADER + quote) as u16;
    // SAFETY: the headers are there.
    let pseudo = unsafe { originate::header::<F>(ip, &frame.key.dst, &frame.key.src, F::ICMP, len) };
    // Code 0: in transit.
    let mut sum = u64::from(F::TIME_EXCEEDED);
    if F::NUMBER == 6 {
        sum += pseudo;
    }
    for i in 0..QUOTE / 4 {
        if i * 4 >= quote {
            break;
        }
        let Some(word) = window.ptr(l3 + added + i * 4, 4) else {
            return count::drop(Reason::DropTtl);
        };
        // SAFETY: four bytes at `word`.
        sum += u64::from(unsafe { load32(word) });
    }
    // SAFETY: an ICMP header's length at `message`.
    unsafe {
        store32(message, u32::from(F::TIME_EXCEEDED));
        store32(message.add(4), 0);
        store16(message.add(icmp::CHECK), !fold(sum));
    }
    count::sent(Reason::TxTimeExceeded);
    XDP_TX
}

/// Three words: room for an Ethernet header and two tags, which end at 22.
const L3_MAX: usize = 24;
