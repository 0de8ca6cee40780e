//! A new flow whose member is chosen: claims a source port by inserting the reverse entry, then fills the half-open slot.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{FlowKey, MAX_POOL, Reason, Settings, TrafficSlot};
use lb_common::checksum::{delta32, fold};
use lb_common::conntrack::{Direction, State};
use lb_common::hash::mix;
use lb_common::select::by_hash;

use crate::atomics::add32;
use crate::family::Family;
use crate::frame::Frame;
use crate::maps::{MEMBERS, PORT_CURSORS, SETTINGS};
use crate::mem::copy;
use crate::promote::NEW_ONLY;
use crate::step::{Next, Step, Work};
use crate::time::jiffies;
use crate::{chance, count, half_open, open};

/// Source ports tried for one flow: the cursor's, then others far away, since busy ports come in runs.
const TRIES: u32 = 8;

/// Opens the flow at the member that was chosen: the next step, or its verdict if it is refused.
#[inline(never)]
pub fn flow<F: Family>(_ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let Frame { key, .. } = found.frame();
    let Some(owned) = open::taken::<F>(next, settings.half_open_mask) else {
        return count::drop(Reason::DropInternal);
    };
    if let Err(reason) = reverse::<F>(settings, key, next) {
        return open::refuse::<F>(owned, next, reason);
    }
    if next.why != chance::FIRST {
        chance::moved::<F>(owned.slot, next);
    } else if next.occupied != 0 {
        half_open::overwrite::<F>(owned.slot);
    }
    let reverse_key = &next.reverse_key;
    // SAFETY: the slot is ours.
    unsafe {
        copy(&raw mut (*owned.slot).key, key);
        let forward = owned.flow();
        copy(forward, &next.reverse);
        (*forward).tag = F::tag(key);
        copy(&raw mut (*forward).src, &reverse_key.dst);
        copy(&raw mut (*forward).dst, &reverse_key.src);
        (*forward).ports = reverse_key.ports.rotate_left(16);
        ((*forward).l3_delta, (*forward).l4_delta) = deltas::<F>(key, &reverse_key.reversed());
        (*forward).counter = TrafficSlot::forward(next.reverse.member);
        (*forward).seq = next.seq;
        (*forward).direction = Direction::Forward as u32;
        (*forward).tried = next.tried;
    }
    count::opened(next.reverse.member);
    next.vacate = 0;
    if next.why == chance::REFUSED {
        Step::REBUILD
    } else if next.why == chance::FIRST && next.chances != 0 {
        Step::KEEP
    } else {
        Step::SEND
    }
}

/// Completes the reverse entry (all but its hop, which is there) and inserts it.
#[inline(always)]
fn reverse<F: Family>(settings: &Settings, key: &FlowKey<F::Addr>, next: &mut Next<F::Addr>) -> Result<(), Reason> {
    let (hash, id) = (next.hash, next.member);
    let Some(member) = MEMBERS.get_ptr(id) else {
        return Err(Reason::DropInternal);
    };
    // SAFETY: an array's value; its identity does not change while a table names the id.
    let member = unsafe { &*member };
    if member.family != u32::from(F::NUMBER) {
        return Err(Reason::DropInternal);
    }
    if !member.hop.is_resolved() {
        return Err(Reason::DropNoNextHop);
    }
    let now = jiffies();
    let reverse = &mut next.reverse;
    reverse.last_seen = (now >> (settings.coarse_shift & 63)) as u32;
    // SAFETY: different places.
    unsafe {
        copy(&mut reverse.src, &key.dst);
        copy(&mut reverse.dst, &key.src);
    }
    reverse.ports = key.ports.rotate_left(16);
    reverse.counter = TrafficSlot::reverse(id);
    reverse.state = State::opening(now as u32 ^ hash.bucket()).0;
    reverse.seq = 0;
    reverse.opened = now as u32;
    reverse.member = id;
    reverse.service = next.service.id;
    reverse.direction = Direction::Reverse as u32;
    reverse.answered = 0;
    reverse.chances = next.chances;
    let source = by_hash(hash.bucket(), F::pool_len(settings)) & (MAX_POOL as u32 - 1);
    // SAFETY: different places.
    unsafe {
        copy(&mut next.reverse_key.src, F::narrow(&member.addr));
        copy(&mut next.reverse_key.dst, F::pool(settings, source));
    }
    next.reverse_key.proto = key.proto;
    if !claim::<F>(settings, id * MAX_POOL as u32 + source, member.port, key, next, now) {
        count::member(id, |stats| stats.ports_exhausted += 1);
        return Err(Reason::DropPortsExhausted);
    }
    Ok(())
}

/// Claims a source port by inserting the reverse entry; completes its key and value.
#[inline(always)]
fn claim<F: Family>(
    settings: &Settings,
    cursor: u32,
    port: u32,
    forward_key: &FlowKey<F::Addr>,
    next: &mut Next<F::Addr>,
    now: u64,
) -> bool {
    let Some(cursor) = PORT_CURSORS.get_ptr_mut(cursor) else {
        return false;
    };
    // SAFETY: an array's value.
    let turn = unsafe { add32(cursor, 1) };
    let Next { reverse_key: key, reverse: flow, .. } = next;
    for attempt in 0..TRIES {
        let step = if attempt == 0 { turn } else { mix(now << 8 ^ u64::from(turn) << 3 ^ u64::from(attempt)) as u32 };
        let Some(offset) = step.checked_rem(settings.port_count) else {
            return false;
        };
        let source = (settings.port_min + offset) as u16;
        key.ports = port & 0xffff | u32::from(source.to_be()) << 16;
        flow.tag = F::tag(key);
        (flow.l3_delta, flow.l4_delta) = deltas::<F>(key, &forward_key.reversed());
        if F::flows().insert(&*key, &*flow, NEW_ONLY).is_ok() {
            return true;
        }
    }
    false
}

/// Checksum changes of the IP header and of L4 when one 5-tuple becomes another.
#[inline(always)]
fn deltas<F: Family>(from: &FlowKey<F::Addr>, to: &FlowKey<F::Addr>) -> (u32, u32) {
    let addresses = F::delta(&from.src, &to.src) + F::delta(&from.dst, &to.dst);
    let all = addresses + delta32(from.ports, to.ports);
    (u32::from(fold(F::header_delta(addresses))), u32::from(fold(all)))
}
