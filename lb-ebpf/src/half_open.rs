//! Half-open flows: a fixed array of buckets. A newcomer takes an empty slot, else the oldest, and whatever that one
//! owned (its reverse entry, its source port, its count) is freed by the same hand.

use lb_common::abi::{Bucket, Finding, Flow, FlowKey, HALF_OPEN_WAYS, Slot};
use lb_common::conntrack::{Event, Phase, State};
use lb_common::hash::FlowHash;

use crate::atomics::swap64;
use crate::control::{advance, answer_key};
use crate::count;
use crate::family::Family;
use crate::findings;
use crate::frame::forget;

/// A slot that this CPU owns: its state is `BUSY`.
pub struct Owned<A> {
    pub slot: *mut Slot<A>,
    pub way: u32,
    pub owner: u64,
}

impl<A> Owned<A> {
    /// Gives the slot back, holding its flow.
    #[inline(always)]
    pub fn keep(self) {
        self.give_back(Slot::<A>::LIVE);
    }

    /// Gives the slot back empty.
    #[inline(always)]
    pub fn vacate(self) {
        self.give_back(Slot::<A>::EMPTY);
    }

    #[inline(always)]
    fn give_back(self, state: u64) {
        // A swap, not a plain store: it also orders what was written to the slot before it, on every architecture.
        // SAFETY: a map value, and our word.
        unsafe { swap64(&raw mut (*self.slot).owner, self.owner, Slot::<A>::next(self.owner, state)) };
    }

    /// The flow's forward value.
    #[inline(always)]
    pub fn flow(&self) -> *mut Flow<A> {
        // SAFETY: a map value.
        unsafe { &raw mut (*self.slot).flow }
    }
}

/// What a search found.
pub enum Search<A> {
    /// The flow is here, and now ours.
    Found(Owned<A>),
    /// It is not here.
    Absent,
    /// Another CPU is changing it.
    Busy,
}

/// The bucket of a flow.
#[inline(always)]
pub fn bucket<F: Family>(hash: FlowHash, mask: u32) -> Option<*mut Bucket<F::Addr>> {
    F::half_open().get_ptr_mut(hash.bucket() & mask)
}

/// Finds a flow and takes its slot.
#[inline(always)]
pub fn find<F: Family>(bucket: *mut Bucket<F::Addr>, key: &FlowKey<F::Addr>, unknown: u32) -> Search<F::Addr> {
    let tag = F::tag(key);
    let mut found = HALF_OPEN_WAYS;
    let mut busy = false;
    for way in 0..HALF_OPEN_WAYS {
        let slot = slot_at(bucket, way);
        let state = owner(slot) & Slot::<F::Addr>::STATE;
        // SAFETY: an array's value. Another CPU may be changing it; the tag is compared again once it is ours.
        let is_it = || unsafe { (*slot).flow.tag == tag && F::same_key(&(*slot).key, key) };
        if state != Slot::<F::Addr>::EMPTY && is_it() {
            if state == Slot::<F::Addr>::LIVE {
                found = way;
            } else {
                busy = true;
            }
        }
    }
    if found == HALF_OPEN_WAYS {
        return if busy { Search::Busy } else { Search::Absent };
    }
    let way = forget(found, HALF_OPEN_WAYS - 1, unknown);
    let slot = slot_at(bucket, way);
    let owner = owner(slot);
    // Seen alive above; another flow's by now only if another CPU was faster, and then the tag differs.
    if owner & Slot::<F::Addr>::STATE != Slot::<F::Addr>::LIVE {
        return Search::Busy;
    }
    match take(slot, way as u32, owner) {
        // SAFETY: ours now.
        Some(owned) if unsafe { (*slot).flow.tag } == tag => Search::Found(owned),
        Some(other) => {
            other.keep();
            Search::Busy
        }
        None => Search::Busy,
    }
}

/// Takes a slot for a newcomer: an empty one, else the oldest, whose flow is still in it. `None`: another CPU was faster.
/// The flag says whether there is a flow: [`overwrite`] it, or `keep` it if nobody comes.
#[inline(always)]
pub fn claim<F: Family>(bucket: *mut Bucket<F::Addr>, now: u32, unknown: u32) -> Option<(Owned<F::Addr>, bool)> {
    let mut victim = 0;
    let mut oldest = 0;
    for way in 0..HALF_OPEN_WAYS {
        let slot = slot_at(bucket, way);
        let state = owner(slot) & Slot::<F::Addr>::STATE;
        // 1 to 2^31 for a flow's age, above it for an empty slot, 0 for one that is being changed.
        let age = if state == Slot::<F::Addr>::LIVE {
            // SAFETY: an array's value.
            (now.wrapping_sub(unsafe { (*slot).flow.opened }) >> 1) + 1
        } else if state == Slot::<F::Addr>::EMPTY {
            u32::MAX
        } else {
            0
        };
        if age > oldest {
            (victim, oldest) = (way, age);
        }
    }
    let way = forget(victim, HALF_OPEN_WAYS - 1, unknown);
    let slot = slot_at(bucket, way);
    let owner = owner(slot);
    if owner & Slot::<F::Addr>::STATE == Slot::<F::Addr>::BUSY {
        return None;
    }
    Some((take(slot, way as u32, owner)?, owner & Slot::<F::Addr>::STATE == Slot::<F::Addr>::LIVE))
}

/// Ends the flow in an owned slot for a newcomer's sake.
#[inline(always)]
pub fn overwrite<F: Family>(slot: *mut Slot<F::Addr>) {
    // SAFETY: an array's value, and ours.
    count::member(unsafe { (*slot).flow.member }, |stats| stats.overwritten += 1);
    release::<F>(slot);
}

/// Closes an owned slot's flow and frees its reverse entry, and with it its source port.
#[inline(never)]
pub fn release<F: Family>(slot: *mut Slot<F::Addr>) -> u32 {
    // SAFETY: an array's value, and ours.
    let reverse_key = unsafe { answer_key::<F>(&(*slot).flow, (*slot).key.proto) };
    if let Some(reverse) = F::flows().get_ptr_mut(&reverse_key) {
        if State(advance(reverse, Event::Closed)).phase() == Phase::Opening as u32 {
            // SAFETY: a map value.
            count::member(unsafe { (*reverse).member }, |stats| stats.unanswered += 1);
        }
        let _ = F::flows().remove(&reverse_key);
    } else {
        findings::note(Finding::SlotWithoutFlow);
    }
    0
}

/// Takes a slot whose owner word was `owner`.
#[inline(always)]
pub fn take<A>(slot: *mut Slot<A>, way: u32, owner: u64) -> Option<Owned<A>> {
    let busy = Slot::<A>::next(owner, Slot::<A>::BUSY);
    // SAFETY: an array's value.
    unsafe { swap64(&raw mut (*slot).owner, owner, busy) }.then_some(Owned { slot, way, owner: busy })
}

/// A slot of a bucket.
#[inline(always)]
pub fn slot_at<A>(bucket: *mut Bucket<A>, way: usize) -> *mut Slot<A> {
    // SAFETY: an array's value, and the way is within it.
    unsafe { &raw mut (*bucket).slots[way & (HALF_OPEN_WAYS - 1)] }
}

/// A slot's owner word.
#[inline(always)]
pub fn owner<A>(slot: *mut Slot<A>) -> u64 {
    // SAFETY: an array's value: slots come from `slot_at`.
    unsafe { (&raw const (*slot).owner).read_volatile() }
}
