//! The program `fragment`: IPv4 and IPv6 fragments to one of our addresses.
//!
//! A first fragment has the ports. It goes through the same steps as a whole packet, and what its followers need is
//! remembered: the ports, which with their own addresses are the flow's key, and a fresh identification. Fresh, because
//! behind one source address many clients' identifications meet, and a receiver would join parts of different packets
//! (RFC 4963). Later fragments follow; those of which no first one is known are dropped, as those that overlap it (RFC 1858,
//! RFC 5722). Fragments of what has no ports, or belongs to no service, are the host's.

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Called, Fragment, Reason};
use lb_common::wire::load::load32;
use lb_common::wire::{Fault, Packet, eth, l4};

use crate::atomics::add64;
use crate::family::{Aligned, Family, V4, V6};
use crate::frame::{Frame, Layout, Window};
use crate::maps::{CLOCK, SETTINGS};
use crate::step::{self, Step, Work};
use crate::time::jiffies;
use crate::{count, forward, link, miss, peek};

/// Seconds for which a first fragment is remembered: as long as Linux waits for a packet's missing parts.
const LIFE: u32 = 30;

/// A packet's verdict.
#[inline(always)]
pub fn packet(ctx: &XdpContext) -> u32 {
    let Some(link) = eth::link(&Window::new(ctx)) else {
        return count::pass(Reason::PassNotIp);
    };
    let tags = u32::from(link.outer) | u32::from(link.inner) << 16;
    match link.proto {
        eth::IPV4 => part::<V4>(ctx, link.l3, tags),
        eth::IPV6 => part::<V6>(ctx, link.l3, tags),
        _ => count::pass(Reason::PassNotIp),
    }
}

#[inline(always)]
fn part<F: Family>(ctx: &XdpContext, l3: usize, tags: u32) -> u32 {
    let step = sort::<F>(ctx, l3, tags);
    if step == Step::FOLLOW {
        return follow::<F>(ctx);
    }
    if step < Step::LOOK_UP {
        return step;
    }
    let mut verdict = step::run::<F>(ctx, step);
    if verdict == Step::call(Called::Expired) {
        // Its answer would quote only a part, and the next one would be about a later fragment.
        verdict = count::drop(Reason::DropTtl);
    }
    remember::<F>(ctx, verdict);
    verdict
}

/// Sorts a fragment, whose frame is left in [`Work`]: [`Step::LOOK_UP`] for a first one, [`Step::FOLLOW`], or a verdict.
#[inline(never)]
fn sort<F: Family>(ctx: &XdpContext, l3: usize, tags: u32) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    let window = Window::new(ctx);
    let (Some(link), Some(ip)) = (window.ptr(0, eth::HEADER), window.ptr(l3, F::HEADER)) else {
        return count::pass(Reason::PassMalformed);
    };
    if !forward::is_to_us(link, settings) {
        return count::pass(Reason::PassOtherMac);
    }
    let mut key = Aligned(F::EMPTY_KEY);
    // SAFETY: the header is there.
    unsafe { F::addresses(ip, &mut key) };
    if miss::local::<F>(&key.0.dst) == 0 {
        return count::pass(Reason::PassNotOurs);
    }
    let part = match F::part(&window, l3) {
        Ok(part) => part,
        Err(Fault::Truncated) => return count::drop(Reason::DropTruncated),
        Err(_) => return count::drop(Reason::DropMalformed),
    };
    if !l4::is_known(part.proto) {
        return count::pass(Reason::PassFragment);
    }
    if !part.is_possible() {
        return count::drop(Reason::DropMalformed);
    }
    key.0.proto = u32::from(part.proto);
    let at = Layout { l3, l4: part.at, ip_len: part.ip_len, tags };
    // SAFETY: this CPU's.
    let found = unsafe { &mut (*work).found };
    if part.offset != 0 {
        key.0.ports = part.id;
        found.part = part.offset;
        return step::leave::<F>(&Frame { key: &key.0, at }, Step::FOLLOW);
    }
    let header = if part.proto == l4::TCP { l4::TCP_HEADER } else { l4::UDP_HEADER };
    let Some(head) = window.ptr(part.at, l4::UDP_HEADER) else {
        return count::drop(Reason::DropTruncated);
    };
    // Tiny: what decides about the packet would stand in the next one (RFC 1858, section 3).
    if part.len < header as u32 {
        return count::drop(Reason::DropFragment);
    }
    // SAFETY: a UDP header's length at `head`.
    key.0.ports = unsafe { load32(head) };
    (found.part, found.id) = (part.len, part.id);
    step::leave::<F>(&Frame { key: &key.0, at }, Step::LOOK_UP)
}

/// After a first fragment: remembers it for the others, and gives it its fresh identification if it was forwarded.
#[inline(never)]
fn remember<F: Family>(ctx: &XdpContext, verdict: u32) -> u32 {
    let (Some(work), Some(clock)) = (F::work().get_ptr_mut(0), CLOCK.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let end = core::mem::replace(&mut found.part, 0);
    let frame = found.frame();
    let mut fragment = Fragment { ports: frame.key.ports, id: found.id, seen: jiffies() as u32, end };
    next.reverse_key = *frame.key;
    next.reverse_key.ports = found.id;
    if verdict == XDP_TX || verdict == XDP_REDIRECT {
        // SAFETY: an array's value.
        fragment.id = F::fresh_id(unsafe { add64(&raw mut (*clock).next_fragment, 1) });
        let window = Window::new(ctx);
        // The number of tags may have changed.
        let Some(link) = eth::link(&window) else {
            return 0;
        };
        let head = frame.at.l4.wrapping_sub(frame.at.l3) & 0xfff;
        F::identify(&window, link.l3, link.l3 + head, fragment.id);
    } else if verdict == XDP_PASS {
        fragment.end = 0;
    } else {
        let _ = F::fragments().remove(&next.reverse_key);
        return 0;
    }
    // The map is an LRU: there is always room.
    let _ = F::fragments().insert(&next.reverse_key, &fragment, 0);
    0
}

/// A later fragment, left in [`Work`]: its verdict.
#[inline(never)]
fn follow<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let offset = core::mem::replace(&mut found.part, 0);
    let frame = found.frame();
    let Some(first) = F::fragments().get_ptr(frame.key) else {
        return count::drop(Reason::DropFragment);
    };
    // SAFETY: a map value. Should it be another packet's by now, its fragment is dropped by the receiver's checksum.
    let first = unsafe { *first };
    if (jiffies() as u32).wrapping_sub(first.seen) > settings.hz.wrapping_mul(LIFE) {
        return count::drop(Reason::DropFragment);
    }
    if first.end == 0 {
        return count::pass(Reason::PassFragment);
    }
    if offset < first.end {
        return count::drop(Reason::DropFragment);
    }
    next.reverse_key = *frame.key;
    next.reverse_key.ports = first.ports;
    if !peek::flow::<F>(settings, &next.reverse_key, &mut next.reverse) {
        return count::drop(Reason::DropFragment);
    }
    let flow = &next.reverse;
    let service = flow.service;
    let hop = forward::hop_of(flow);
    if !hop.is_resolved() {
        return count::drop_of(service, Reason::DropNoNextHop);
    }
    let window = Window::new(ctx);
    let Some(ip) = window.ptr(frame.at.l3, F::HEADER) else {
        return count::drop_of(service, Reason::DropTruncated);
    };
    // SAFETY: the header is there.
    unsafe {
        if *ip.add(F::TTL) <= 1 {
            return count::drop_of(service, Reason::DropTtl);
        }
        F::rewrite(ip, &flow.src, &flow.dst, flow.l3_delta);
    }
    F::identify(&window, frame.at.l3, frame.at.l4, first.id);
    let (counter, bytes) = (flow.counter, frame.at.ip_len);
    if window.ptr(0, eth::HEADER).is_none() || !link::replace(ctx, frame.at.l3, hop.dst, hop.src, 0) {
        return count::drop_of(service, Reason::DropTags);
    }
    count::forwarded(counter, bytes);
    link::send(ctx, hop.ifindex())
}
