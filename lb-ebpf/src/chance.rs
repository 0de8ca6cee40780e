//! Second chances: a client's SYN that its backend refuses, or does not answer, is given to another member, a few times at
//! most. A refusal is answered at once: the packet that carries it becomes the SYN, which the half-open slot keeps.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use lb_common::abi::{FlowKey, Reason, ServiceKey, Settings, Slot, Syn, service_flags};
use lb_common::conntrack::Event;
use lb_common::wire::load::{load16, load32, store16, store32};
use lb_common::wire::{Packet, eth, l4};

use crate::control::{advance, answer_key};
use crate::family::Family;
use crate::frame::Window;
use crate::half_open::{self, Owned, Search};
use crate::maps::{SERVICES, SETTINGS};
use crate::mem::copy;
use crate::step::{Next, Step, Work};
use crate::time::jiffies;
use crate::{count, forward, open, originate};

/// A flow is opened for its client's first SYN or datagram.
pub const FIRST: u32 = 0;
/// Its backend refused it.
pub const REFUSED: u32 = 1;
/// Its client sent the SYN again, and the backend had not answered.
pub const UNANSWERED: u32 = 2;

/// Members tried after the first.
const CHANCES: u32 = 2;
/// A SYN that comes again within this part of a second was duplicated on its way, not retransmitted.
const DUPLICATE: u32 = 5;

/// Says of a new flow how many chances it has.
#[inline(always)]
pub fn first<A>(next: &mut Next<A>, proto: u32) {
    let has = proto == u32::from(l4::TCP) && next.service.flags & service_flags::SECOND_CHANCE != 0;
    (next.why, next.tried) = (FIRST, [0, 0]);
    next.chances = if has { CHANCES } else { 0 };
}

/// Whether the flow in a slot is another member's, now that its SYN came again.
#[inline(always)]
pub fn is_due<A>(owned: &Owned<A>, settings: &Settings) -> bool {
    // SAFETY: the slot is ours.
    let (chances, opened) = unsafe { ((*owned.flow()).chances, (*owned.flow()).opened) };
    chances != 0 && (jiffies() as u32).wrapping_sub(opened) >= settings.hz / DUPLICATE
}

/// Prepares the next attempt of the flow in a slot, all but its way back.
#[inline(always)]
pub fn next_of<A>(next: &mut Next<A>, owned: &Owned<A>, why: u32) {
    // SAFETY: the slot is ours.
    let flow = unsafe { &*owned.flow() };
    let now_tried = flow.member.wrapping_add(1);
    next.tried = if flow.tried[0] == 0 { [now_tried, 0] } else { [flow.tried[0], now_tried] };
    next.chances = flow.chances.wrapping_sub(1);
    next.seq = flow.seq;
    (next.why, next.occupied) = (why, 1);
    (next.way, next.owner) = (owned.way, owned.owner);
}

/// A backend's reset of a SYN, left in [`Work`]: [`Step::CHOOSE`], or [`Step::GIVE_UP`] where it is not the flow's that it
/// seems to be.
#[inline(never)]
pub fn refused<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    // SAFETY: different places.
    unsafe { copy(&mut next.refused, &found.key) };
    let window = Window::new(ctx);
    if window.ptr(0, eth::HEADER).is_none() {
        return count::drop(Reason::DropInternal);
    }
    let Some(tcp) = window.ptr(found.frame().at.l4, l4::TCP_HEADER) else {
        return count::drop(Reason::DropTruncated);
    };
    // SAFETY: a TCP header at `tcp`.
    let ack = u32::from_be(unsafe { load32(tcp.add(l4::TCP_ACK)) });
    let Some(reverse) = F::flows().get_ptr(&next.refused) else {
        return count::drop(Reason::DropNoReplyFlow);
    };
    // SAFETY: a map value.
    let forward_key = answer_key::<F>(unsafe { &*reverse }, next.refused.proto);
    next.hash = F::hash(&forward_key, settings.seed);
    let Some(bucket) = half_open::bucket::<F>(next.hash, settings.half_open_mask) else {
        return count::drop(Reason::DropInternal);
    };
    let Search::Found(owned) = half_open::find::<F>(bucket, &forward_key, settings.seed) else {
        return Step::GIVE_UP;
    };
    // SAFETY: the slot is ours.
    let flow = unsafe { &*owned.flow() };
    let is_its = F::same_key(&answer_key::<F>(flow, forward_key.proto), &next.refused);
    // What a backend refuses is the SYN: RFC 9293, section 3.10.7.1.
    if !is_its || ack != flow.seq.wrapping_add(1) || flow.chances == 0 {
        owned.keep();
        return Step::GIVE_UP;
    }
    let Some(service) = SERVICES.get_ptr(&service_key::<F>(&forward_key)) else {
        owned.keep();
        return Step::GIVE_UP;
    };
    // SAFETY: map values.
    unsafe {
        next.service = *service;
        next.reverse.hop = (*reverse).hop;
        copy(&mut found.key, &forward_key);
    }
    next_of(next, &owned, REFUSED);
    Step::CHOOSE
}

/// The key of the service that a client's packet is for.
#[inline(always)]
pub fn service_key<F: Family>(key: &FlowKey<F::Addr>) -> ServiceKey {
    ServiceKey { addr: F::wide(&key.dst), port: (key.ports >> 16) as u16, proto: key.proto as u8, family: F::NUMBER }
}

/// Ends the attempt in an owned slot for the next one's sake, and counts the move.
#[inline(always)]
pub fn moved<F: Family>(slot: *mut Slot<F::Addr>, next: &Next<F::Addr>) {
    // SAFETY: an array's value, and ours.
    let from = unsafe { (*slot).flow.member };
    count::member(from, |stats| stats.moved_away += 1);
    count::member(next.member, |stats| stats.moved_to += 1);
    if next.why == REFUSED
        && let Some(reverse) = F::flows().get_ptr_mut(&next.refused)
    {
        count::member(from, |stats| stats.resets_backend += 1);
        advance(reverse, Event::Reset);
    }
    half_open::release::<F>(slot);
}

/// Keeps the SYN of the flow that was just opened in its slot: [`Step::SEND`].
#[inline(never)]
pub fn keep<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let at = found.frame().at;
    let window = Window::new(ctx);
    let Some(owned) = open::taken::<F>(next, settings.half_open_mask) else {
        return count::drop(Reason::DropInternal);
    };
    if window.ptr(0, eth::HEADER).is_none() {
        return Step::SEND;
    }
    let Some(tcp) = window.ptr(at.l4, l4::TCP_HEADER) else {
        return Step::SEND;
    };
    // SAFETY: a TCP header at `tcp`, and the slot is ours.
    unsafe {
        let words = (u32::from(*tcp.add(l4::TCP_DOFF)) >> 4).wrapping_sub(5);
        let syn = &raw mut (*owned.slot).syn;
        (*syn).head = Syn::head(load16(tcp.add(l4::TCP_WINDOW)), *tcp.add(l4::TCP_FLAGS), words);
        for i in 0..Syn::WORDS {
            if i as u32 >= words {
                break;
            }
            let Some(option) = window.ptr(at.l4 + l4::TCP_HEADER + 4 * i, 4) else {
                // Cut short: sent once more without what is missing.
                (*syn).head = Syn::head(load16(tcp.add(l4::TCP_WINDOW)), *tcp.add(l4::TCP_FLAGS), i as u32);
                break;
            };
            (*syn).options[i] = load32(option);
        }
    }
    Step::SEND
}

/// Makes the backend's reset the client's SYN, as if it had just come in: [`Step::SEND`].
#[inline(never)]
pub fn rebuild<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let Some(owned) = open::taken::<F>(next, settings.half_open_mask) else {
        return count::drop(Reason::DropInternal);
    };
    let at = found.frame().at;
    // SAFETY: the slot is ours.
    let syn = unsafe { &raw const (*owned.slot).syn };
    // SAFETY: likewise.
    let head = unsafe { (*syn).head };
    let words = Syn::words(head).min(Syn::WORDS as u32);
    let len = l4::TCP_HEADER + 4 * words as usize;
    let grow = (at.l3 + F::HEADER + len) as i32 - (Window::new(ctx).len() & 0x3fff) as i32;
    // At the front: drivers keep room there, and behind a short frame often none. All headers are written anew anyway.
    // SAFETY: the packet's context. Pointers into the packet are taken below.
    let failed =
        unsafe { if grow > 0 { bpf_xdp_adjust_head(ctx.ctx, -grow) } else { bpf_xdp_adjust_tail(ctx.ctx, grow) } };
    if failed != 0 {
        // The client's retransmission goes to the member that was chosen.
        owned.keep();
        return count::drop_of(next.service.id, Reason::DropInternal);
    }
    let window = Window::new(ctx);
    let l4_at = at.l3 + F::HEADER;
    if window.ptr(0, eth::HEADER).is_none() {
        owned.keep();
        return count::drop(Reason::DropInternal);
    }
    // The rest of the link header is sending's to write.
    let type_at = at.l3.wrapping_sub(2) & 0x1f;
    let (Some(proto), Some(ip), Some(tcp)) =
        (window.ptr(type_at, 2), window.ptr(at.l3, F::HEADER), window.ptr(l4_at, l4::TCP_HEADER))
    else {
        owned.keep();
        return count::drop(Reason::DropInternal);
    };
    let key = &found.key;
    // SAFETY: the headers are there.
    unsafe {
        store16(proto, if F::NUMBER == 4 { eth::IPV4 } else { eth::IPV6 });
        let mut sum = originate::header::<F>(ip, &key.src, &key.dst, l4::TCP, len as u16);
        let seq = next.seq.to_be();
        let rest = (5 + words) << 4 | u32::from(Syn::flags(head)) << 8 | u32::from(Syn::window(head)) << 16;
        store32(tcp, key.ports);
        store32(tcp.add(l4::TCP_SEQ), seq);
        store32(tcp.add(l4::TCP_ACK), 0);
        store32(tcp.add(l4::TCP_DOFF), rest);
        sum += u64::from(key.ports) + u64::from(seq) + u64::from(rest);
        for i in 0..Syn::WORDS {
            if i as u32 >= words {
                break;
            }
            let Some(option) = window.ptr(l4_at + l4::TCP_HEADER + 4 * i, 4) else {
                break;
            };
            let word = (*syn).options[i];
            store32(option, word);
            sum += u64::from(word);
        }
        store32(tcp.add(l4::TCP_CHECK), u32::from(!lb_common::checksum::fold(sum)));
    }
    found.at.l4 = l4_at;
    found.at.ip_len = (F::HEADER + len) as u32;
    Step::SEND
}

/// Nobody else can take the flow: the backend's reset goes to the client.
#[inline(never)]
pub fn give_up<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    // SAFETY: different places.
    unsafe { copy(&mut found.key, &next.refused) };
    let Some(reverse) = F::flows().get_ptr_mut(&next.refused) else {
        return count::drop(Reason::DropNoReplyFlow);
    };
    // SAFETY: a map value.
    let (member, way_back) = unsafe { ((*reverse).member, &(*reverse).hop) };
    count::member(member, |stats| stats.resets_backend += 1);
    advance(reverse, Event::Reset);
    let ingress = ctx.ingress_ifindex() as u32;
    forward::send::<F>(ctx, ingress, Window::new(ctx), settings, &found.frame(), reverse, way_back)
}
