//! Which member takes a new flow. The table is user space's; here an index into it is picked, by the service's
//! [`Algorithm`].

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Affinity, AffinityKey, Algorithm, Descriptor, FlowKey, NO_MEMBER, Reason};
use lb_common::select::{by_cursor, by_hash, fields, is_lighter};

use crate::atomics::add64;
use crate::family::Family;
use crate::frame::Frame;
use crate::maps::{ACTIVE, AFFINITIES, CURSORS, DESCRIPTORS, MEMBERS, SETTINGS, SLOTS};
use crate::step::{Next, Step, Work};
use crate::time::jiffies;
use crate::{count, open};

/// Chooses the member for the flow that has its slot: [`Step::ADMIT`], or its verdict if there is none.
#[inline(never)]
pub fn member<F: Family>(_ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // Before the record is borrowed: it reads that, too.
    let member = pick::<F>(settings.seed);
    // SAFETY: this CPU's.
    let next = unsafe { &mut (*work).next };
    next.member = member;
    if next.member != NO_MEMBER {
        return Step::ADMIT;
    }
    match open::taken::<F>(next, settings.half_open_mask) {
        Some(owned) => open::refuse::<F>(owned, next, Reason::DropNoBackend),
        None => count::drop(Reason::DropInternal),
    }
}

/// Whether a flow's hash alone chooses its member, so that a flow that is not remembered is found again.
#[inline(always)]
pub fn is_by_hash(service: u32) -> bool {
    // SAFETY: an array's value.
    let descriptor =
        DESCRIPTORS.get_ptr(service).map_or(Descriptor(0), |word| Descriptor(unsafe { word.read_volatile() }));
    let algorithm = descriptor.algorithm();
    algorithm != Algorithm::RoundRobin as u8 && algorithm != Algorithm::LeastConn as u8
}

/// The member that takes a new flow, left in [`Work`], or [`NO_MEMBER`].
#[inline(never)]
pub fn pick<F: Family>(seed: u32) -> u32 {
    let Some(work) = F::work().get_ptr_mut(0) else {
        return NO_MEMBER;
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &*work };
    let Frame { key, .. } = found.frame();
    let service = next.service.id;
    let Some(word) = DESCRIPTORS.get_ptr(service) else {
        return NO_MEMBER;
    };
    // SAFETY: an array's value; one load, so that the whole table is one or the other.
    let descriptor = Descriptor(unsafe { word.read_volatile() });
    if descriptor.size() == 0 {
        return NO_MEMBER;
    }
    let algorithm = descriptor.algorithm();
    let mut index = by_hash(next.hash.table(), descriptor.size());
    let mut id = if algorithm == Algorithm::Maglev as u8 {
        slot(descriptor, index)
    } else if algorithm == Algorithm::RoundRobin as u8 {
        slot(descriptor, turn(service, descriptor))
    } else if algorithm == Algorithm::LeastConn as u8 {
        least::<F>(next, descriptor)
    } else {
        index = by_hash(F::hash(&fields(key, F::EMPTY_KEY.src, algorithm), seed).table(), descriptor.size());
        slot(descriptor, index)
    };
    let remembers = algorithm == Algorithm::Source as u8 && next.service.affinity != 0;
    if remembers {
        id = kept::<F>(key, next, id);
    }
    if next.tried[0] == 0 || id == NO_MEMBER {
        return id;
    }
    if is_tried(next, id) {
        id = another::<F>(next, descriptor, index);
        if remembers && id != NO_MEMBER {
            remember::<F>(key, service, id);
        }
    }
    id
}

/// Slots looked at for a member that was not tried yet. Of three members with equal shares of which two were tried, one in
/// 17,000 flows finds none.
const WALK: u64 = 24;

/// The next slot's member that was not tried yet, or [`NO_MEMBER`].
#[inline(always)]
fn another<F: Family>(next: &Next<F::Addr>, descriptor: Descriptor, index: u32) -> u32 {
    for step in 1..=WALK {
        let id = slot(descriptor, by_cursor(u64::from(index) + step, descriptor.size()));
        if id != NO_MEMBER && !is_tried(next, id) {
            return id;
        }
    }
    NO_MEMBER
}

#[inline(always)]
fn is_tried<A>(next: &Next<A>, id: u32) -> bool {
    next.tried[0] == id.wrapping_add(1) || next.tried[1] == id.wrapping_add(1)
}

/// The cursor's next index.
#[inline(always)]
fn turn(service: u32, descriptor: Descriptor) -> u32 {
    // SAFETY: an array's value.
    CURSORS.get_ptr_mut(service).map_or(0, |cursor| by_cursor(unsafe { add64(cursor, 1) }, descriptor.size()))
}

/// What a slot of the table holds.
#[inline(always)]
fn slot(descriptor: Descriptor, index: u32) -> u32 {
    // SAFETY: an array's value.
    SLOTS.get_ptr(descriptor.offset() + index).map_or(NO_MEMBER, |slot| unsafe { slot.read_volatile() })
}

/// Of two members the one with fewer active flows for its weight. The first is the cursor's, so that equals take turns;
/// the second the hash's, or its neighbour where that is the same.
#[inline(always)]
fn least<F: Family>(next: &Next<F::Addr>, descriptor: Descriptor) -> u32 {
    let first = slot(descriptor, turn(next.service.id, descriptor));
    let index = by_hash(next.hash.table(), descriptor.size());
    let mut second = slot(descriptor, index);
    if second == first {
        second = slot(descriptor, by_cursor(u64::from(index) + 1, descriptor.size()));
    }
    if second != NO_MEMBER && is_lighter(load(first), load(second)) { second } else { first }
}

/// A member's active flows and weight.
#[inline(always)]
fn load(id: u32) -> (u64, u32) {
    // SAFETY: arrays' values.
    let active = ACTIVE.get_ptr(id).map_or(0, |n| unsafe { n.read_volatile() });
    // SAFETY: as above.
    (active, MEMBERS.get_ptr(id).map_or(0, |member| unsafe { (&raw const (*member).weight).read_volatile() }))
}

/// The member that the client had within the service's time, if it still takes new flows, else `other`; and remembers
/// whichever it is.
#[inline(always)]
fn kept<F: Family>(key: &FlowKey<F::Addr>, next: &Next<F::Addr>, other: u32) -> u32 {
    let now = jiffies() as u32;
    let client = AffinityKey { client: F::wide(&key.src), service: next.service.id };
    if let Some(known) = AFFINITIES.get_ptr_mut(&client) {
        // SAFETY: a map value; each word is read and written whole, and a mix of two is a member that is checked.
        let had = unsafe { known.read_volatile() };
        if had.holds(now, next.service.affinity) && serves(had.member, next.service.id) {
            // SAFETY: as above.
            unsafe { (&raw mut (*known).seen).write_volatile(now) };
            return had.member;
        }
    }
    if other != NO_MEMBER {
        remember::<F>(key, next.service.id, other);
    }
    other
}

/// Remembers a client's member.
#[inline(always)]
fn remember<F: Family>(key: &FlowKey<F::Addr>, service: u32, member: u32) {
    let client = AffinityKey { client: F::wide(&key.src), service };
    let _ = AFFINITIES.insert(&client, &Affinity { member, seen: jiffies() as u32 }, 0);
}

/// Whether a member is of this service and takes new flows.
#[inline(always)]
fn serves(id: u32, service: u32) -> bool {
    MEMBERS.get_ptr(id).is_some_and(|member| {
        // SAFETY: an array's value.
        let (of, weight) = unsafe { ((*member).service, (&raw const (*member).weight).read_volatile()) };
        of == service && weight != 0
    })
}
