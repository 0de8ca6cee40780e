//! What moves a flow from phase to phase: TCP's control segments, answers, and the end. The phases themselves are
//! `lb_common::conntrack`'s; the reverse entry's state word is the authority.

use aya_ebpf::helpers::bpf_jiffies64;
use lb_common::abi::{Flow, FlowKey};
use lb_common::conntrack::{Direction, Phase, State};
use lb_common::wire::l4;

use crate::atomics::swap32;
use crate::count;
use crate::family::Family;
use crate::maps::SETTINGS;

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// What to do with a segment.
pub struct Move;

impl Move {
    /// Forward it.
    pub const FORWARD: u32 = 0;
    /// It opens a new flow where an old one ended: choose again.
    pub const REOPEN: u32 = 1;
    /// Refuse it.
    pub const REFUSE: u32 = 2;
}

/// The key of the packets that answer a rewritten one.
#[inline(always)]
pub fn answer_key<F: Family>(flow: &Flow<F::Addr>, proto: u32) -> FlowKey<F::Addr> {
    FlowKey { src: flow.dst, dst: flow.src, ports: flow.ports.rotate_left(16), proto }
}

/// A SYN, FIN or RST of a known flow.
#[inline(never)]
pub fn segment<F: Family>(key: &FlowKey<F::Addr>, flow: *mut Flow<F::Addr>, flags: u8, seq: u32) -> u32 {
    if l4::contradict(flags) {
        return Move::REFUSE;
    }
    // SAFETY: map values, here and below; words that others change are changed by compare-and-swap.
    let from_client = unsafe { (*flow).direction } == Direction::Forward as u32;
    let authority = if from_client {
        let reverse = answer_key::<F>(unsafe { &*flow }, key.proto);
        match F::flows().get_ptr_mut(&reverse) {
            Some(reverse) => reverse,
            None => {
                // An orphan cannot be forwarded back; give its tuple up.
                let _ = F::flows().remove(key);
                return Move::REOPEN;
            }
        }
    } else {
        flow
    };
    let state = State(unsafe { (*authority).state });
    if flags & l4::SYN != 0 {
        if !from_client {
            if flags & l4::ACK != 0 && state.is_half_open() {
                answer::<F>(authority, seq);
            }
            return Move::FORWARD;
        }
        if state.phase() < Phase::Closing as u32 {
            // The backend challenges it (RFC 5961, section 4); a spoofed SYN must not move a living flow.
            return Move::FORWARD;
        }
        change(authority, state, state.closed());
        let _ = F::flows().remove(key);
        return Move::REOPEN;
    }
    let direction = if from_client { Direction::Forward } else { Direction::Reverse };
    if flags & l4::RST != 0 {
        count::member(unsafe { (*authority).member }, |stats| match direction {
            Direction::Forward => stats.resets_client += 1,
            Direction::Reverse => stats.resets_backend += 1,
        });
        change(authority, state, state.reset());
    } else {
        change(authority, state, state.fin(direction));
    }
    Move::FORWARD
}

/// The backend's answer: its SYN-ACK with sequence number `seq`, or a datagram. Measures the handshake once.
#[inline(never)]
pub fn answer<F: Family>(reverse: *mut Flow<F::Addr>, seq: u32) {
    // SAFETY: a map value.
    unsafe {
        (*reverse).seq = seq;
        let state = State((*reverse).state);
        let now = bpf_jiffies64() as u32;
        if change(reverse, state, state.answered()) && (*reverse).answered == 0 {
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

/// Moves the authority from one state to another; counts the end of an active flow. Says whether it was we who moved it.
#[inline(always)]
pub fn change<A>(authority: *mut Flow<A>, old: State, new: State) -> bool {
    if old.0 == new.0 || !unsafe { swap32(&raw mut (*authority).state, old.0, new.0) } {
        return false;
    }
    if old.is_active() && !new.is_active() {
        count::member(unsafe { (*authority).member }, |stats| stats.closed += 1);
    }
    true
}
