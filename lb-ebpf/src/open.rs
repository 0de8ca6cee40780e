//! A service's first packet: choose a backend, claim a source port, fill a half-open slot, forward.

use aya_ebpf::{helpers::bpf_jiffies64, programs::XdpContext};
use lb_common::abi::{
    Algorithm, Descriptor, Flow, FlowKey, Hop, MAX_POOL, NO_MEMBER, Reason, ServiceInfo, Settings, TrafficSlot,
};
use lb_common::checksum::{delta32, fold};
use lb_common::conntrack::{Direction, State};
use lb_common::hash::{FlowHash, mix};
use lb_common::select::{by_cursor, by_hash};
use lb_common::wire::{Packet, l4};

use crate::atomics::{add32, add64};
use crate::family::Family;
use crate::frame::{Frame, Window};
use crate::half_open;
use crate::maps::{CURSORS, DESCRIPTORS, MEMBERS, PORT_CURSORS, Record, SLOTS};
use crate::promote::NEW_ONLY;
use crate::{count, expire, forward};

/// Source ports tried for one flow: the cursor's, then others far away, since busy ports come in runs.
const TRIES: u32 = 8;

/// Opens a flow and forwards its first packet.
#[inline(never)]
pub fn flow<F: Family>(
    ctx: &XdpContext,
    settings: &Settings,
    frame: &Frame<F::Addr>,
    service: &ServiceInfo,
    seq: u32,
) -> u32 {
    let window = Window::new(ctx);
    if window.ptr(frame.l3(), F::HEADER).is_none_or(|ip| unsafe { *ip.add(F::TTL) } <= 1) {
        return count::drop_of(service.id, Reason::DropTtl);
    }
    let id = select(service.id, frame.hash);
    if id == NO_MEMBER {
        return count::drop_of(service.id, Reason::DropNoBackend);
    }
    let Some(member) = MEMBERS.get_ptr(id) else {
        return count::drop_of(service.id, Reason::DropInternal);
    };
    // SAFETY: an array's value; its identity does not change while a table names the id.
    let member = unsafe { &*member };
    if member.family != u32::from(F::NUMBER) {
        return count::drop_of(service.id, Reason::DropInternal);
    }
    if !member.hop.is_resolved() {
        return count::drop_of(service.id, Reason::DropNoNextHop);
    }
    let sources = F::pool_len(settings);
    if sources == 0 || settings.port_count == 0 {
        return count::drop_of(service.id, Reason::DropNoSource);
    }
    let index = by_hash(frame.hash.tag(), sources) & (MAX_POOL as u32 - 1);
    let back = forward::way_back(ctx, window, frame.tags);
    if back.dst & 1 != 0 || !back.is_resolved() {
        return count::drop_of(service.id, Reason::DropMartian);
    }
    let now = unsafe { bpf_jiffies64() };
    let Some(record) = F::scratch().get_ptr_mut(0) else { return count::drop(Reason::DropInternal) };
    // SAFETY: this CPU's, and nobody interrupts us to use it.
    let record = unsafe { &mut *record };
    let reverse = &mut record.flow;
    reverse.last_seen = (now >> (settings.coarse_shift & 63)) as u32;
    reverse.src = frame.key.dst;
    reverse.dst = frame.key.src;
    reverse.ports = frame.key.ports.rotate_left(16);
    reverse.counter = TrafficSlot::reverse(id);
    reverse.state = State::OPENING.0;
    reverse.seq = 0;
    reverse.opened = now as u32;
    reverse.member = id;
    reverse.service = service.id;
    reverse.direction = Direction::Reverse as u32;
    reverse.hop = back;
    reverse.answered = 0;
    reverse.reserved = [0; 5];
    record.key.src = F::narrow(&member.addr);
    record.key.dst = F::pool(settings, index);
    record.key.proto = frame.key.proto;
    if !claim::<F>(settings, id * MAX_POOL as u32 + index, member.port, record, now) {
        count::member(id, |stats| stats.ports_exhausted += 1);
        return count::drop_of(service.id, Reason::DropPortsExhausted);
    }
    let Some(bucket) = half_open::bucket::<F>(frame.hash, settings.half_open_mask) else {
        let _ = F::flows().remove(record.key);
        return count::drop_of(service.id, Reason::DropInternal);
    };
    let Some(owned) = half_open::claim::<F>(bucket, now as u32) else {
        let _ = F::flows().remove(record.key);
        return count::drop_of(service.id, Reason::DropBusy);
    };
    // SAFETY: the slot is ours.
    unsafe {
        (*owned.slot).key = frame.key;
        let forward = owned.flow();
        *forward = record.flow;
        (*forward).tag = frame.hash.tag();
        (*forward).src = record.key.dst;
        (*forward).dst = record.key.src;
        (*forward).ports = record.key.ports.rotate_left(16);
        ((*forward).l3_delta, (*forward).l4_delta) = deltas::<F>(&frame.key, &record.key.reversed());
        (*forward).counter = TrafficSlot::forward(id);
        (*forward).seq = seq;
        (*forward).direction = Direction::Forward as u32;
    }
    count::member(id, |stats| stats.opened += 1);
    expire::some::<F>();
    let verdict = self::forward::<F>(ctx, settings, frame, owned.flow());
    owned.keep();
    verdict
}

/// Forwards a packet of a half-open flow.
#[inline(always)]
pub fn forward<F: Family>(
    ctx: &XdpContext,
    settings: &Settings,
    frame: &Frame<F::Addr>,
    flow: *mut Flow<F::Addr>,
) -> u32 {
    let Some(member) = MEMBERS.get_ptr(unsafe { (*flow).member }) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: an array's value.
    slow_send::<F>(ctx, settings, frame, flow, unsafe { &(*member).hop })
}

/// One copy of the rewrite for everything but the hot path.
#[inline(never)]
fn slow_send<F: Family>(
    ctx: &XdpContext,
    settings: &Settings,
    frame: &Frame<F::Addr>,
    flow: *mut Flow<F::Addr>,
    hop: &Hop,
) -> u32 {
    let bounded = Frame {
        key: frame.key,
        hash: frame.hash,
        l3: frame.l3(),
        l4: frame.l4(),
        ip_len: frame.ip_len,
        tags: frame.tags,
    };
    forward::send::<F>(ctx, Window::new(ctx), settings, &bounded, flow, hop)
}

/// The member that takes a new flow of this service.
#[inline(always)]
fn select(service: u32, hash: FlowHash) -> u32 {
    let Some(word) = DESCRIPTORS.get_ptr(service) else { return NO_MEMBER };
    // SAFETY: an array's value; one load, so that the whole table is one or the other.
    let descriptor = Descriptor(unsafe { word.read_volatile() });
    let size = descriptor.size();
    if size == 0 {
        return NO_MEMBER;
    }
    let index = if descriptor.algorithm() == Algorithm::RoundRobin as u8 {
        let Some(cursor) = CURSORS.get_ptr_mut(service) else { return NO_MEMBER };
        by_cursor(unsafe { add64(cursor, 1) }, size)
    } else {
        by_hash(hash.table(), size)
    };
    // SAFETY: an array's value.
    SLOTS.get_ptr(descriptor.offset() + index).map_or(NO_MEMBER, |slot| unsafe { slot.read_volatile() })
}

/// Claims a source port by inserting the reverse entry; completes its key and value.
#[inline(always)]
fn claim<F: Family>(settings: &Settings, cursor: u32, port: u32, record: &mut Record<F::Addr>, now: u64) -> bool {
    let Some(cursor) = PORT_CURSORS.get_ptr_mut(cursor) else { return false };
    // SAFETY: an array's value.
    let turn = unsafe { add32(cursor, 1) };
    let Record { key, flow } = record;
    let target = FlowKey { src: flow.src, dst: flow.dst, ports: flow.ports, proto: key.proto };
    for attempt in 0..TRIES {
        let step = if attempt == 0 { turn } else { mix(now << 8 ^ u64::from(turn) << 3 ^ u64::from(attempt)) as u32 };
        let source = (settings.port_min + step % settings.port_count) as u16;
        key.ports = port & 0xffff | u32::from(source.to_be()) << 16;
        flow.tag = F::hash(key, settings.seed).tag();
        (flow.l3_delta, flow.l4_delta) = deltas::<F>(key, &target);
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
    (u32::from(fold(addresses)), u32::from(fold(all)))
}

/// Asserted here because the header checks above rely on it.
const _: () = assert!(l4::UDP_HEADER <= l4::TCP_HEADER);
