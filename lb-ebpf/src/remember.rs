//! The memory of direct flows: which member a flow went to, and whether it counts. A newcomer takes an empty slot of its
//! bucket, else the one that can best be spared ([`lb_common::direct::readiness`]); who takes a slot closes its count.

use lb_common::abi::{DIRECT_WAYS, DirectBucket, DirectSlot, FlowKey, Settings, Slot};
use lb_common::conntrack::Phase;
use lb_common::direct::{after, idle, is_active, limit, readiness};
use lb_common::hash::FlowHash;
use lb_common::wire::l4;

use crate::atomics::swap64;
use crate::count;
use crate::family::Family;
use crate::frame::forget;
use crate::maps::MEMBERS;
use crate::mem::copy;
use crate::time::jiffies;

/// A slot that this CPU owns: its state is `BUSY`.
pub struct Held<A> {
    slot: *mut DirectSlot<A>,
    owner: u64,
}

impl<A> Held<A> {
    /// Gives the slot back, holding a flow.
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
        // A swap, not a plain store: it also orders what was written to the slot before it.
        // SAFETY: a map value, and our word.
        unsafe { swap64(&raw mut (*self.slot).owner, self.owner, Slot::<A>::next(self.owner, state)) };
    }
}

/// A flow that was found.
pub struct Known<A> {
    slot: *mut DirectSlot<A>,
    owner: u64,
    /// Its member.
    pub member: u32,
    /// Its phase.
    pub phase: u32,
    /// Low 32 bits of jiffies when it was opened.
    pub opened: u32,
    /// Whether its member and service are still those that they were.
    pub is_valid: bool,
}

impl<A> Known<A> {
    /// Takes the slot. `None`: another CPU was faster.
    #[inline(always)]
    pub fn take(&self) -> Option<Held<A>> {
        take(self.slot, self.owner)
    }

    /// Notes another packet of the client. `now`: coarse.
    #[inline(always)]
    pub fn note(&self, flags: u8, now: u32) {
        // SAFETY: a map value. At worst it is another flow's by now, which then seems to have been heard.
        unsafe {
            if (*self.slot).last_seen != now {
                (*self.slot).last_seen = now;
            }
        }
        let phase = after(self.phase, flags);
        // What another CPU is changing at this moment stays as it is: it ends as idle.
        if phase != self.phase
            && let Some(held) = self.take()
        {
            // SAFETY: the slot is ours.
            unsafe { (*self.slot).phase = phase };
            if is_active(self.phase) && !is_active(phase) {
                count::closed(self.member);
            }
            count::member(self.member, |stats| {
                stats.established += u64::from(phase == Phase::Established as u32);
                stats.resets_client += u64::from(flags & l4::RST != 0);
            });
            held.keep();
        }
    }
}

/// The bucket of a flow.
#[inline(always)]
pub fn bucket<F: Family>(hash: FlowHash, mask: u32) -> Option<*mut DirectBucket<F::Addr>> {
    F::direct().get_ptr_mut(hash.bucket() & mask)
}

/// Finds a flow of a service.
#[inline(always)]
pub fn find<F: Family>(
    bucket: *mut DirectBucket<F::Addr>,
    key: &FlowKey<F::Addr>,
    service: u32,
    unknown: u32,
) -> Option<Known<F::Addr>> {
    let mut found = DIRECT_WAYS;
    for way in 0..DIRECT_WAYS {
        let slot = slot_at(bucket, way);
        // SAFETY: an array's value. Another CPU may be changing it; it is compared again below.
        if is_live(owner(slot)) && F::same_key(unsafe { &(*slot).key }, key) {
            found = way;
        }
    }
    if found == DIRECT_WAYS {
        return None;
    }
    let slot = slot_at(bucket, forget(found, DIRECT_WAYS - 1, unknown));
    let owner = owner(slot);
    // SAFETY: as above.
    let s = unsafe { &*slot };
    if !is_live(owner) {
        return None;
    }
    let known = Known {
        slot,
        owner,
        member: s.member,
        phase: s.phase,
        opened: s.opened,
        is_valid: s.service == service && is_member(s.member, s.mark),
    };
    // SAFETY: no instruction. The key is read after the rest: if it is still ours then, so was that.
    unsafe { core::arch::asm!("", options(nostack)) };
    F::same_key(&s.key, key).then_some(known)
}

/// Whether a member id is still that of the member with this mark, and it may get packets.
#[inline(always)]
fn is_member(id: u32, mark: u32) -> bool {
    MEMBERS.get(id).is_some_and(|member| member.family != 0 && member.mark() == mark && !member.hop.is_closed())
}

/// Takes a slot for a newcomer. `None`: another CPU is changing the one that can best be spared. The flag says whether it
/// holds a flow: [`end`] it, or `keep` it if nobody comes.
#[inline(always)]
pub fn claim<F: Family>(
    bucket: *mut DirectBucket<F::Addr>,
    settings: &Settings,
    now: u32,
) -> Option<(Held<F::Addr>, bool)> {
    let mut victim = 0;
    let mut best = 0;
    for way in 0..DIRECT_WAYS {
        let slot = slot_at(bucket, way);
        let word = owner(slot);
        let value = if is_live(word) {
            // SAFETY: an array's value.
            let s = unsafe { &*slot };
            let silent = idle(now, s.last_seen, settings.coarse_shift);
            readiness(s.phase, silent, limit(s.phase, s.key.proto, settings))
        } else if word & Slot::<F::Addr>::STATE == Slot::<F::Addr>::EMPTY {
            u32::MAX
        } else {
            0
        };
        if value > best {
            (victim, best) = (way, value);
        }
    }
    let slot = slot_at(bucket, forget(victim, DIRECT_WAYS - 1, settings.seed));
    let word = owner(slot);
    if word & Slot::<F::Addr>::STATE == Slot::<F::Addr>::BUSY {
        return None;
    }
    Some((take(slot, word)?, is_live(word)))
}

/// Ends the flow in a held slot, for a newcomer's sake or because its time is over.
#[inline(always)]
pub fn end<A>(held: &Held<A>, overwritten: bool) {
    // SAFETY: an array's value, and ours.
    let (member, phase) = unsafe { ((*held.slot).member, (*held.slot).phase) };
    if is_active(phase) {
        count::closed(member);
        count::member(member, |stats| stats.overwritten += u64::from(overwritten));
    }
}

/// Fills a held slot with a new flow, and counts it.
#[inline(always)]
pub fn fill<F: Family>(
    held: &Held<F::Addr>,
    key: &FlowKey<F::Addr>,
    service: u32,
    member: u32,
    mark: u32,
    coarse: u32,
) {
    // SAFETY: an array's value, and ours.
    unsafe {
        copy(&raw mut (*held.slot).key, key);
        (*held.slot).member = member;
        (*held.slot).mark = mark;
        (*held.slot).service = service;
        (*held.slot).phase = Phase::Opening as u32;
        (*held.slot).last_seen = coarse;
        (*held.slot).opened = jiffies() as u32;
    }
    count::opened(member);
}

/// Frees a bucket's flows that are idle, or whose member is closed.
#[inline(never)]
pub fn collect<F: Family>(settings: &Settings, index: u32) -> u32 {
    let Some(bucket) = F::direct().get_ptr_mut(index & settings.direct_mask) else {
        return 0;
    };
    let now = (jiffies() >> (settings.coarse_shift & 63)) as u32;
    for way in 0..DIRECT_WAYS {
        let slot = slot_at(bucket, way);
        let word = owner(slot);
        if !is_live(word) {
            continue;
        }
        // SAFETY: an array's value; the slot is changed only once it is ours.
        let s = unsafe { &*slot };
        let silent = idle(now, s.last_seen, settings.coarse_shift);
        if silent <= u64::from(limit(s.phase, s.key.proto, settings)) && is_member(s.member, s.mark) {
            continue;
        }
        if let Some(held) = take(slot, word) {
            end(&held, false);
            held.vacate();
        }
    }
    0
}

#[inline(always)]
fn is_live(owner: u64) -> bool {
    owner & Slot::<u32>::STATE == Slot::<u32>::LIVE
}

#[inline(always)]
fn take<A>(slot: *mut DirectSlot<A>, owner: u64) -> Option<Held<A>> {
    let busy = Slot::<A>::next(owner, Slot::<A>::BUSY);
    // SAFETY: an array's value.
    unsafe { swap64(&raw mut (*slot).owner, owner, busy) }.then_some(Held { slot, owner: busy })
}

#[inline(always)]
fn slot_at<A>(bucket: *mut DirectBucket<A>, way: usize) -> *mut DirectSlot<A> {
    // SAFETY: an array's value, and the way is within it.
    unsafe { &raw mut (*bucket).slots[way & (DIRECT_WAYS - 1)] }
}

#[inline(always)]
fn owner<A>(slot: *mut DirectSlot<A>) -> u64 {
    // SAFETY: an array's value: slots come from `slot_at`.
    unsafe { (&raw const (*slot).owner).read_volatile() }
}
