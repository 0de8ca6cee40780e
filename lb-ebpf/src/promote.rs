//! Half-open to established: from here on the flow is never evicted, and collection keeps track of it.

use lb_common::abi::{Flow, FlowKey, Reason, Slot};
use lb_common::conntrack::Event;

use crate::atomics::add64;
use crate::control::advance;
use crate::count;
use crate::family::Family;
use crate::maps::{CLOCK, SETTINGS};

/// `BPF_NOEXIST`.
pub const NEW_ONLY: u64 = 1;

/// Promotes the flow in `slot`: 0, or the verdict of its packet where nothing changed.
#[inline(never)]
pub fn flow<F: Family>(
    key: &FlowKey<F::Addr>,
    reverse_key: &FlowKey<F::Addr>,
    slot: *mut Slot<F::Addr>,
    reverse: *mut Flow<F::Addr>,
) -> u32 {
    let (Some(clock), Some(settings)) = (CLOCK.get_ptr_mut(0), SETTINGS.get(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: an array's value.
    let kept = unsafe { &raw mut (*clock).kept[F::INDEX] };
    // SAFETY: as above.
    let add = |n: u64| unsafe { add64(kept, n) };
    // SAFETY: a map value.
    let (service, member) = unsafe { ((*reverse).service, (*reverse).member) };
    if add(1) >= u64::from(settings.max_flows) {
        add(1u64.wrapping_neg());
        return count::drop_of(service, Reason::DropFlowsFull);
    }
    // The entry before the record: a key that was queued cannot be taken back.
    // SAFETY: the slot is ours.
    if F::flows().insert(key, unsafe { &(*slot).flow }, NEW_ONLY).is_err() {
        add(1u64.wrapping_neg());
        // Another attempt of this client was promoted just now.
        return count::drop_of(service, Reason::DropBusy);
    }
    if F::ages().push(reverse_key, 0).is_err() {
        let _ = F::flows().remove(key);
        add(1u64.wrapping_neg());
        return count::drop_of(service, Reason::DropFlowsFull);
    }
    if advance(reverse, Event::Established) != 0 {
        count::member(member, |stats| stats.established += 1);
    }
    0
}
