//! A service's first packet: choose a backend, claim a source port, fill a half-open slot, forward.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Algorithm, Descriptor, FlowKey, MAX_POOL, NO_MEMBER, Reason, Settings, TrafficSlot};
use lb_common::checksum::{delta32, fold};
use lb_common::conntrack::{Direction, State};
use lb_common::hash::{FlowHash, mix};
use lb_common::select::{by_cursor, by_hash};
use lb_common::wire::{Packet, eth};

use crate::atomics::{add32, add64};
use crate::family::Family;
use crate::frame::{Frame, Window};
use crate::half_open::{self, Owned};
use crate::maps::{CURSORS, DESCRIPTORS, MEMBERS, PORT_CURSORS, SETTINGS, SLOTS};
use crate::mem::copy;
use crate::promote::NEW_ONLY;
use crate::step::{Next, Step, Work};
use crate::time::jiffies;
use crate::{count, expire, forward};

/// Source ports tried for one flow: the cursor's, then others far away, since busy ports come in runs.
const TRIES: u32 = 8;

/// Opens a flow: its verdict if it is refused, else [`Step::SEND`].
///
/// Whatever can be refused without knowing the member is refused before the member is chosen, the half-open slot
/// included, so that round robin's cursor counts opened flows. What is refused for the member's sake does take its turn:
/// if it did not, one member without a free port would hold up the whole service.
#[inline(never)]
pub fn flow<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let Frame { key, at } = found.frame();
    let hash = next.hash;
    let service = next.service.id;
    let sources = F::pool_len(settings);
    if sources == 0 || settings.port_count == 0 {
        return count::drop_of(service, Reason::DropNoSource);
    }
    let Some(link) = Window::new(ctx).ptr(0, eth::HEADER) else {
        return count::drop(Reason::DropInternal);
    };
    let back = forward::way_back(ctx.ingress_ifindex() as u32, link, at.tags);
    if back.dst & 1 != 0 || !back.is_resolved() {
        return count::drop_of(service, Reason::DropMartian);
    }
    let now = jiffies();
    let claimed = half_open::bucket::<F>(hash, settings.half_open_mask)
        .and_then(|bucket| half_open::claim::<F>(bucket, now as u32, settings.seed));
    let Some((owned, occupied)) = claimed else {
        return count::drop_of(service, Reason::DropBusy);
    };
    next.reverse.hop = back;
    let refused = admit::<F>(settings, sources, key, next, now);
    if refused != 0 {
        if occupied {
            owned.keep()
        } else {
            owned.vacate()
        }
        return refused;
    }
    if occupied {
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
    }
    count::member(next.reverse.member, |stats| stats.opened += 1);
    (next.way, next.owner, next.vacate) = (owned.way, owned.owner, 0);
    Step::SEND
}

/// Chooses the member, completes the reverse entry (all but its hop, which is there) and inserts it: 0, or the verdict.
#[inline(always)]
fn admit<F: Family>(
    settings: &Settings,
    sources: u32,
    key: &FlowKey<F::Addr>,
    next: &mut Next<F::Addr>,
    now: u64,
) -> u32 {
    let hash = next.hash;
    let service = next.service.id;
    let id = select(service, hash);
    if id == NO_MEMBER {
        return count::drop_of(service, Reason::DropNoBackend);
    }
    let Some(member) = MEMBERS.get_ptr(id) else {
        return count::drop_of(service, Reason::DropInternal);
    };
    // SAFETY: an array's value; its identity does not change while a table names the id.
    let member = unsafe { &*member };
    if member.family != u32::from(F::NUMBER) {
        return count::drop_of(service, Reason::DropInternal);
    }
    if !member.hop.is_resolved() {
        return count::drop_of(service, Reason::DropNoNextHop);
    }
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
    reverse.service = service;
    reverse.direction = Direction::Reverse as u32;
    reverse.answered = 0;
    let source = by_hash(hash.bucket(), sources) & (MAX_POOL as u32 - 1);
    // SAFETY: different places.
    unsafe {
        copy(&mut next.reverse_key.src, F::narrow(&member.addr));
        copy(&mut next.reverse_key.dst, F::pool(settings, source));
    }
    next.reverse_key.proto = key.proto;
    if !claim::<F>(settings, id * MAX_POOL as u32 + source, member.port, key, next, now) {
        count::member(id, |stats| stats.ports_exhausted += 1);
        return count::drop_of(service, Reason::DropPortsExhausted);
    }
    0
}

/// Forwards a packet by the half-open slot that is ours, gives the slot back, and examines two records.
#[inline(never)]
pub fn send<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let frame = found.frame();
    let Some(bucket) = half_open::bucket::<F>(next.hash, settings.half_open_mask) else {
        return count::drop(Reason::DropInternal);
    };
    let owned = Owned { slot: half_open::slot_at(bucket, next.way as usize), way: next.way, owner: next.owner };
    let vacate = next.vacate;
    // SAFETY: the slot is ours.
    let member = MEMBERS.get_ptr(unsafe { (*owned.flow()).member });
    let verdict = match member {
        Some(member) => {
            // SAFETY: an array's value.
            let hop = unsafe { &(*member).hop };
            let ingress = ctx.ingress_ifindex() as u32;
            forward::send::<F>(ctx, ingress, Window::new(ctx), settings, &frame, owned.flow(), hop)
        }
        None => count::drop(Reason::DropInternal),
    };
    if vacate != 0 {
        owned.vacate()
    } else {
        owned.keep()
    }
    expire::some::<F>();
    verdict
}

/// Whether a flow's hash alone chooses its member, so that a flow that is not remembered is found again.
#[inline(always)]
pub fn is_by_hash(service: u32) -> bool {
    // SAFETY: an array's value.
    let descriptor =
        DESCRIPTORS.get_ptr(service).map_or(Descriptor(0), |word| Descriptor(unsafe { word.read_volatile() }));
    descriptor.algorithm() == Algorithm::Maglev as u8
}

/// The member that takes a new flow of this service.
#[inline(always)]
pub fn select(service: u32, hash: FlowHash) -> u32 {
    let Some(word) = DESCRIPTORS.get_ptr(service) else {
        return NO_MEMBER;
    };
    // SAFETY: an array's value; one load, so that the whole table is one or the other.
    let descriptor = Descriptor(unsafe { word.read_volatile() });
    let size = descriptor.size();
    if size == 0 {
        return NO_MEMBER;
    }
    let index = if descriptor.algorithm() == Algorithm::RoundRobin as u8 {
        let Some(cursor) = CURSORS.get_ptr_mut(service) else {
            return NO_MEMBER;
        };
        // SAFETY: an array's value.
        by_cursor(unsafe { add64(cursor, 1) }, size)
    } else {
        by_hash(hash.table(), size)
    };
    // SAFETY: an array's value.
    SLOTS.get_ptr(descriptor.offset() + index).map_or(NO_MEMBER, |slot| unsafe { slot.read_volatile() })
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
