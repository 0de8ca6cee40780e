//! Finding a flow without taking part in it: for packets that are about a flow, or a part of one of its packets.

use lb_common::abi::{Flow, FlowKey, HALF_OPEN_WAYS, Settings, Slot};

use crate::family::Family;
use crate::half_open;
use crate::mem::copy;

/// Copies the flow whose packets arrive under `key`, established or half-open, and says whether there is one. A copy: a map
/// element is another flow's as soon as this one has ended.
#[inline(never)]
pub fn flow<F: Family>(settings: &Settings, key: &FlowKey<F::Addr>, to: &mut Flow<F::Addr>) -> bool {
    let tag = F::tag(key);
    if let Some(flow) = F::flows().get_ptr(key) {
        // SAFETY: a map value, and another place.
        unsafe { copy(to, flow) };
        return to.tag == tag;
    }
    let Some(bucket) = half_open::bucket::<F>(F::hash(key, settings.seed), settings.half_open_mask) else {
        return false;
    };
    for way in 0..HALF_OPEN_WAYS {
        let slot = half_open::slot_at(bucket, way);
        let owner = half_open::owner(slot);
        // SAFETY: an array's value. Another CPU may change it meanwhile, which the owner word tells.
        let is_it = unsafe { (*slot).flow.tag == tag && F::same_key(&(*slot).key, key) };
        if is_it && owner & Slot::<F::Addr>::STATE == Slot::<F::Addr>::LIVE {
            // SAFETY: as above.
            unsafe { copy(to, &raw const (*slot).flow) };
            return half_open::owner(slot) == owner;
        }
    }
    false
}
