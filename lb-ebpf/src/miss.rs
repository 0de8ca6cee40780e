//! A packet of no known flow: a half-open flow's, a service's first, or none of ours.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Called, Flow, FlowKey, LocalKind, Reason, Settings, service_flags};
use lb_common::conntrack::{Event, Phase, State, proves};
use lb_common::wire::load::{load16, load32};
use lb_common::wire::{Packet, eth, l4};

use crate::control::{advance, answer_key, is_opposite};
use crate::family::Family;
use crate::frame::{Frame, Window};
use crate::half_open::{self, Owned, Search};
use crate::maps::{LOCALS, SERVICES, SETTINGS};
use crate::step::{Next, Step, Work};
use crate::{chance, count, forward, promote, reset};

/// A packet of no known flow: its verdict, or the next step.
#[inline(never)]
pub fn packet<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let frame = found.frame();
    let key = frame.key;
    let window = Window::new(ctx);
    let Some(link) = window.ptr(0, eth::HEADER) else {
        return count::drop(Reason::DropInternal);
    };
    if !forward::is_to_us(link, settings) {
        return count::pass(Reason::PassOtherMac);
    }
    let Some(service) = SERVICES.get_ptr(&chance::service_key::<F>(key)) else {
        return no_service::<F>(ctx, settings, &frame, found.part != 0);
    };
    // SAFETY: a map value; a service's id is not used again before a grace period.
    let service = unsafe { *service };
    next.service = service;
    next.hash = F::hash(key, settings.seed);
    // SAFETY: the header is there.
    if window.ptr(frame.at.l3, F::HEADER).is_none_or(|ip| unsafe { *ip.add(F::TTL) } <= 1) {
        return Step::call(Called::Expired);
    }
    if !F::is_unicast(&key.src) || local::<F>(&key.src) != 0 {
        return count::drop_of(service.id, Reason::DropMartian);
    }
    let mut opens = true;
    let mut flags = 0;
    next.seq = 0;
    next.tried = [0, 0];
    if key.proto == u32::from(l4::TCP) {
        let Some(tcp) = window.ptr(frame.at.l4, l4::TCP_HEADER) else {
            return count::drop_of(service.id, Reason::DropTruncated);
        };
        // SAFETY: a TCP header at `tcp`.
        let doff = unsafe {
            flags = *tcp.add(l4::TCP_FLAGS);
            next.seq = u32::from_be(load32(tcp.add(l4::TCP_SEQ)));
            *tcp.add(l4::TCP_DOFF)
        };
        if !l4::tcp_fits(doff, frame.at.room()) {
            return count::drop_of(service.id, Reason::DropMalformed);
        }
        opens = l4::opens(flags);
        if l4::contradict(flags) || flags & (l4::SYN | l4::ACK) == l4::SYN | l4::ACK {
            return count::drop_of(service.id, Reason::DropFlags);
        }
    } else {
        let Some(udp) = window.ptr(frame.at.l4, l4::UDP_HEADER) else {
            return count::drop_of(service.id, Reason::DropTruncated);
        };
        // SAFETY: a UDP header at `udp`.
        let len = u16::from_be(unsafe { load16(udp.add(l4::UDP_LEN)) });
        let room = frame.at.room();
        // A first fragment has less than its length says.
        let fits = if found.part == 0 { l4::udp_fits(len, room) } else { u32::from(len) > room };
        if !fits {
            return count::drop_of(service.id, Reason::DropMalformed);
        }
    }
    if service.flags & service_flags::DIRECT != 0 {
        if found.part != 0 {
            // Its followers have no ports by which their member could be found.
            return count::drop_of(service.id, Reason::DropFragment);
        }
        return Step::DIRECT;
    }
    let Some(bucket) = half_open::bucket::<F>(next.hash, settings.half_open_mask) else {
        return count::drop(Reason::DropInternal);
    };
    match half_open::find::<F>(bucket, key, settings.seed) {
        Search::Busy => count::drop_of(service.id, Reason::DropBusy),
        // Promoted by another CPU since our look-up: a reset or a second flow would be wrong.
        Search::Absent if F::flows().get_ptr(key).is_some() => count::drop_of(service.id, Reason::DropBusy),
        Search::Absent if opens => Step::OPEN,
        // Not answered: a reset would have its fragment header.
        Search::Absent if found.part != 0 => count::drop_of(service.id, Reason::DropNoFlow),
        Search::Absent => no_flow::<F>(ctx, settings, &frame, service.id, flags),
        Search::Found(owned) => {
            let tcp = key.proto == u32::from(l4::TCP);
            // SAFETY: the slot is ours.
            let flow = unsafe { &*owned.flow() };
            next.reverse_key = answer_key::<F>(flow, key.proto);
            if tcp && opens && (flow.seq != next.seq || is_over::<F>(&next.reverse_key)) {
                // Another attempt from the same port, or one that a reset ended: forget the first.
                half_open::release::<F>(owned.slot);
                owned.vacate();
                return Step::OPEN;
            }
            half_open_flow::<F>(settings, window, next, &frame, owned, flags)
        }
    }
}

/// Whether a half-open flow was reset.
#[inline(always)]
fn is_over<F: Family>(reverse_key: &FlowKey<F::Addr>) -> bool {
    // SAFETY: a map value.
    F::flows().get_ptr(reverse_key).is_none_or(|reverse| !State(unsafe { (*reverse).state }).is_active())
}

/// The next packet of a half-open flow.
#[inline(always)]
fn half_open_flow<F: Family>(
    settings: &Settings,
    window: Window,
    next: &mut Next<F::Addr>,
    frame: &Frame<F::Addr>,
    owned: Owned<F::Addr>,
    flags: u8,
) -> u32 {
    let service = next.service.id;
    let Some(reverse) = F::flows().get_ptr_mut(&next.reverse_key) else {
        owned.vacate();
        return count::drop_of(service, Reason::DropNoFlow);
    };
    // SAFETY: a map value; its word is moved by compare-and-swap alone.
    let (state, backend_seq, member) = unsafe { (State((*reverse).state), (*reverse).seq, (*reverse).member) };
    let mut promoted = false;
    if frame.key.proto == u32::from(l4::TCP) {
        if flags & l4::RST != 0 {
            // What a client resets here is the SYN-ACK: its own sequence number is past its SYN's by one.
            // SAFETY: the slot is ours.
            if next.seq != unsafe { (*owned.flow()).seq }.wrapping_add(1) {
                owned.keep();
                return count::drop_of(service, Reason::DropUnproven);
            }
            count::member(member, |stats| stats.resets_client += 1);
            advance(reverse, Event::Reset);
        } else if flags & l4::ACK != 0 {
            let Some(tcp) = window.ptr(frame.at.l4, l4::TCP_HEADER) else {
                owned.keep();
                return count::drop_of(service, Reason::DropTruncated);
            };
            // SAFETY: a TCP header at `tcp`.
            let ack = u32::from_be(unsafe { load32(tcp.add(l4::TCP_ACK)) });
            if state.phase() != Phase::Answered as u32 || !proves(ack, backend_seq) {
                owned.keep();
                return count::drop_of(service, Reason::DropUnproven);
            }
            promoted = true;
        } else if flags & l4::SYN != 0 {
            count::member(member, |stats| stats.syn_retransmits += 1);
            if state.phase() == Phase::Opening as u32 && chance::is_due(&owned, settings) {
                // SAFETY: a map value.
                next.reverse.hop = unsafe { (*reverse).hop };
                chance::next_of(next, &owned, chance::UNANSWERED);
                return Step::CHOOSE;
            }
        } else {
            owned.keep();
            return count::drop_of(service, Reason::DropFlags);
        }
    } else {
        promoted = state.phase() == Phase::Answered as u32 || next.service.flags & service_flags::ONE_WAY != 0;
    }
    if promoted {
        let refused = promote::flow::<F>(frame.key, &next.reverse_key, owned.slot, reverse);
        if refused != 0 {
            owned.keep();
            return refused;
        }
        if flags & l4::FIN != 0 {
            advance(reverse, Event::FinClient);
        }
    }
    (next.way, next.owner, next.vacate) = (owned.way, owned.owner, u32::from(promoted));
    Step::SEND
}

/// A packet whose destination is no service.
#[inline(always)]
fn no_service<F: Family>(ctx: &XdpContext, settings: &Settings, frame: &Frame<F::Addr>, is_part: bool) -> u32 {
    let kind = local::<F>(&frame.key.dst);
    if kind == 0 {
        return count::pass(Reason::PassNotOurs);
    }
    let port = u32::from(u16::from_be((frame.key.ports >> 16) as u16));
    if kind & LocalKind::POOL == 0 || port.wrapping_sub(settings.port_min) >= settings.port_count {
        return count::pass(Reason::PassNoService);
    }
    if !F::is_unicast(&frame.key.src) {
        return count::drop(Reason::DropMartian);
    }
    if settings.reset_unknown != 0
        && !is_part
        && frame.key.proto == u32::from(l4::TCP)
        && reset::answer::<F>(ctx, frame)
    {
        return reset::sent();
    }
    count::drop(Reason::DropNoReplyFlow)
}

/// A TCP packet to a service, no SYN, of no flow.
#[inline(always)]
pub fn no_flow<F: Family>(
    ctx: &XdpContext,
    settings: &Settings,
    frame: &Frame<F::Addr>,
    service: u32,
    flags: u8,
) -> u32 {
    if flags & (l4::ACK | l4::RST | l4::FIN) == 0 {
        return count::drop_of(service, Reason::DropFlags);
    }
    if settings.reset_unknown != 0 && reset::answer::<F>(ctx, frame) {
        return reset::sent();
    }
    count::drop_of(service, Reason::DropNoFlow)
}

/// A packet that is not well formed, but whose destination may be ours: dropped if it is, passed if not.
#[inline(never)]
pub fn refuse<F: Family>(ctx: &XdpContext, dst: &F::Addr, reason: Reason) -> u32 {
    let Some(settings) = SETTINGS.get(0) else {
        return count::drop(Reason::DropInternal);
    };
    match Window::new(ctx).ptr(0, eth::HEADER) {
        Some(link) if !forward::is_to_us(link, settings) => count::pass(Reason::PassOtherMac),
        _ if local::<F>(dst) == 0 => count::pass(Reason::PassNotOurs),
        _ => count::drop(reason),
    }
}

/// Kind bits of an address, 0 if it is none of ours.
#[inline(always)]
pub fn local<F: Family>(addr: &F::Addr) -> u32 {
    // SAFETY: a map value.
    LOCALS.get_ptr(&F::wide(addr)).map_or(0, |kind| unsafe { *kind })
}

/// A packet of a known flow, left in [`Work`], that came another way than the last one: remember the new way back, in
/// both directions. Says whether the frame was for us at all.
#[inline(never)]
pub fn refresh<F: Family>(ctx: &XdpContext, flow: *mut Flow<F::Addr>) -> bool {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return false;
    };
    // SAFETY: this CPU's.
    let frame = unsafe { &*work }.found.frame();
    let window = Window::new(ctx);
    let Some(link) = window.ptr(0, eth::HEADER) else {
        return false;
    };
    if !forward::is_to_us(link, settings) {
        return false;
    }
    let hop = forward::way_back(ctx.ingress_ifindex() as u32, link, frame.at.tags);
    // A group address is nobody's: keep the old way.
    if hop.dst & 1 != 0 || !hop.is_resolved() {
        return true;
    }
    // SAFETY: map values; each word is stored whole.
    unsafe {
        if let Some(reverse) = F::flows().get_ptr_mut(&answer_key::<F>(&*flow, frame.key.proto))
            && is_opposite::<F>(&*reverse, frame.key)
        {
            (*reverse).hop = hop;
            (*flow).hop = hop;
        }
    }
    true
}
