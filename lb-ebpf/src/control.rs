//! What moves a flow from phase to phase: TCP's control segments, answers, and the end. The phases themselves are
//! `lb_common::conntrack`'s; the reverse entry's state word is the authority.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Called, Flow, FlowKey, Reason};
use lb_common::conntrack::{Direction, Event, Phase, State};
use lb_common::wire::load::load32;
use lb_common::wire::{Packet, eth, l4};

use crate::atomics::swap32;
use crate::count;
use crate::family::Family;
use crate::forward::is_to_us;
use crate::frame::Window;
use crate::maps::SETTINGS;
use crate::step::Step;
use crate::time::jiffies;

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// The key of the packets that answer a rewritten one.
#[inline(always)]
pub fn answer_key<F: Family>(flow: &Flow<F::Addr>, proto: u32) -> FlowKey<F::Addr> {
    FlowKey { src: flow.dst, dst: flow.src, ports: flow.ports.rotate_left(16), proto }
}

/// Whether `other` is the opposite direction of the flow whose packets arrive under `key`: what it sends out answers
/// them. Ports and tuples are used again, so an entry found under a computed key may be another flow's.
#[inline(always)]
pub fn is_opposite<F: Family>(other: &Flow<F::Addr>, key: &FlowKey<F::Addr>) -> bool {
    other.ports == key.ports.rotate_left(16) && F::same(&other.src, &key.dst) && F::same(&other.dst, &key.src)
}

/// A SYN, FIN or RST of a known flow, left in [`crate::step::Work`]: [`Step::FORWARD`], [`Step::MISS`] where it opens a new flow in
/// place of an ended one, or its verdict. What would not be forwarded changes nothing.
#[inline(never)]
pub fn segment<F: Family>(ctx: &XdpContext, flow: *mut Flow<F::Addr>) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let frame = unsafe { &*work }.found.frame();
    let key = frame.key;
    // SAFETY: a map value.
    let (service, from_client) = unsafe { ((*flow).service, (*flow).direction == Direction::Forward as u32) };
    let window = Window::new(ctx);
    let (Some(link), Some(ip), Some(tcp)) =
        (window.ptr(0, eth::HEADER), window.ptr(frame.at.l3, F::HEADER), window.ptr(frame.at.l4, l4::TCP_HEADER))
    else {
        return count::drop_of(service, Reason::DropTruncated);
    };
    if !is_to_us(link, settings) {
        return count::pass(Reason::PassOtherMac);
    }
    // SAFETY: the headers are there.
    let (ttl, doff, flags, seq) = unsafe {
        (*ip.add(F::TTL), *tcp.add(l4::TCP_DOFF), *tcp.add(l4::TCP_FLAGS), u32::from_be(load32(tcp.add(l4::TCP_SEQ))))
    };
    if ttl <= 1 {
        return Step::call(Called::Expired);
    }
    if !l4::tcp_fits(doff, frame.at.room()) {
        return count::drop_of(service, Reason::DropMalformed);
    }
    if l4::contradict(flags) {
        return count::drop_of(service, Reason::DropFlags);
    }
    let authority = if from_client {
        // SAFETY: a map value.
        let reverse = answer_key::<F>(unsafe { &*flow }, key.proto);
        match F::flows().get_ptr_mut(&reverse) {
            // SAFETY: likewise.
            Some(reverse) if is_opposite::<F>(unsafe { &*reverse }, key) => reverse,
            _ => {
                // An orphan cannot be forwarded back; give its tuple up.
                let _ = F::flows().remove(key);
                return Step::MISS;
            }
        }
    } else {
        flow
    };
    // SAFETY: a map value; its word is moved by compare-and-swap alone.
    let state = State(unsafe { (*authority).state });
    if flags & l4::SYN != 0 {
        if !from_client {
            if flags & l4::ACK != 0 && state.is_half_open() {
                answer::<F>(authority, seq);
            }
            return Step::FORWARD;
        }
        if state.phase() < Phase::Closing as u32 {
            // The backend challenges it (RFC 5961, section 4); a spoofed SYN must not move a living flow.
            return Step::FORWARD;
        }
        advance(authority, Event::Closed);
        let _ = F::flows().remove(key);
        return Step::MISS;
    }
    if flags & l4::RST != 0 {
        // SAFETY: a map value.
        let chances = unsafe { (*flow).chances };
        if !from_client && chances != 0 && flags & l4::ACK != 0 && state.phase() == Phase::Opening as u32 {
            return Step::REFUSED;
        }
        // SAFETY: a map value.
        count::member(unsafe { (*authority).member }, |stats| match from_client {
            true => stats.resets_client += 1,
            false => stats.resets_backend += 1,
        });
        advance(authority, Event::Reset);
    } else {
        advance(authority, if from_client { Event::FinClient } else { Event::FinBackend });
    }
    Step::FORWARD
}

/// The backend's answer: its SYN-ACK with sequence number `seq`, or a datagram. Measures the handshake once.
#[inline(never)]
pub fn answer<F: Family>(reverse: *mut Flow<F::Addr>, seq: u32) {
    // SAFETY: a map value.
    unsafe {
        (*reverse).seq = seq;
        let now = jiffies() as u32;
        if advance(reverse, Event::Answered) != 0 && (*reverse).answered == 0 {
            (*reverse).answered = now | 1;
            let waited = u64::from(now.wrapping_sub((*reverse).opened));
            let hz = SETTINGS.get(0).map_or(0, |s| u64::from(s.hz)).max(1);
            count::member((*reverse).member, |stats| {
                stats.answers += 1;
                stats.answer_ns += waited * (SECOND_NS / hz);
            });
        }
    }
}

/// Moves a flow's state, and counts the end of an active flow. Yields the word that it replaced; 0: the event changes
/// nothing (any more).
///
/// Where another CPU moves the word meanwhile, it tries again: without that, a FIN at the moment of collection would
/// leave the flow counted as active for ever.
#[inline(always)]
pub fn advance<A>(authority: *mut Flow<A>, event: Event) -> u32 {
    // SAFETY: a map value.
    let (word, member) = unsafe { (&raw mut (*authority).state, (*authority).member) };
    for _ in 0..=State::MOVES {
        // SAFETY: as above, here and below.
        let old = State(unsafe { word.read_volatile() });
        let new = old.after(event);
        if old.0 == new.0 {
            return 0;
        }
        // SAFETY: see above.
        if unsafe { swap32(word, old.0, new.0) } {
            if old.is_active() && !new.is_active() {
                count::closed(member);
            }
            return old.0;
        }
    }
    0
}
