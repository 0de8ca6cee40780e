//! Half-open to established: from here on the flow is never evicted, and collection keeps track of it.

use lb_common::abi::{Flow, FlowKey, Slot};
use lb_common::conntrack::State;

use crate::atomics::add64;
use crate::control::change;
use crate::count;
use crate::family::Family;
use crate::maps::{CLOCK, SETTINGS};

/// `BPF_NOEXIST`.
pub const NEW_ONLY: u64 = 1;

/// Promotes the flow in `slot`. 0: the limit is reached, nothing changed.
#[inline(never)]
pub fn flow<F: Family>(
    key: &FlowKey<F::Addr>,
    reverse_key: &FlowKey<F::Addr>,
    slot: *mut Slot<F::Addr>,
    reverse: *mut Flow<F::Addr>,
) -> u32 {
    let (Some(clock), Some(settings)) = (CLOCK.get_ptr_mut(0), SETTINGS.get(0)) else { return 0 };
    // SAFETY: map values.
    let kept = unsafe { &raw mut (*clock).kept[F::INDEX] };
    if unsafe { add64(kept, 1) } >= u64::from(settings.max_flows) {
        unsafe { add64(kept, 1u64.wrapping_neg()) };
        return 0;
    }
    if F::ages().push(reverse_key, 0).is_err() {
        unsafe { add64(kept, 1u64.wrapping_neg()) };
        return 0;
    }
    // Cannot be there (the look-up missed) nor lack room (the map has two entries for each record kept and one for each
    // half-open slot); were it so, the flow would be dropped packet by packet until its record expires.
    let _ = F::flows().insert(key, unsafe { &(*slot).flow }, NEW_ONLY);
    let state = State(unsafe { (*reverse).state });
    if change(reverse, state, state.established()) {
        count::member(unsafe { (*reverse).member }, |stats| stats.established += 1);
    }
    1
}
