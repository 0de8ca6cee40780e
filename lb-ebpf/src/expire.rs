//! Collection in small steps: each new flow examines two records, a run of `collect` some more. Nothing else frees a
//! record, so no flow is freed twice, and no walk stalls the machine.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::{EXAMINED_PER_RUN, Finding, FlowKey, HALF_OPEN_WAYS, Settings, Slot};
use lb_common::conntrack::{Event, Phase, State};
use lb_common::wire::l4;

use crate::atomics::add64;
use crate::control::{advance, answer_key, is_opposite};
use crate::family::{Family, V4, V6};
use crate::findings;
use crate::maps::{CLOCK, MEMBERS, SETTINGS};
use crate::time::jiffies;
use crate::{half_open, remember};

/// Records that a new flow examines.
const PER_FLOW: u32 = 2;

/// Examines a few records. Inline: on Linux 6.1 each call costs at least 32 of 512 bytes of stack, and IPv6 needs them.
#[inline(always)]
pub fn some<F: Family>() {
    for _ in 0..PER_FLOW {
        next_record::<F>();
    }
}

/// One run of `collect`.
#[inline(always)]
pub fn run(ctx: &XdpContext) {
    let (Some(clock), Some(settings)) = (CLOCK.get_ptr_mut(0), SETTINGS.get(0)) else {
        return;
    };
    let now = jiffies();
    // SAFETY: an array's value; `collect` alone writes these words.
    let first = unsafe {
        (*clock).jiffies = now;
        (*clock).monotonic_ns = bpf_ktime_get_ns();
        add64(&raw mut (*clock).next_bucket, u64::from(EXAMINED_PER_RUN)) as u32
    };
    for i in 0..EXAMINED_PER_RUN {
        next_record::<V4>();
        next_record::<V6>();
        next_bucket::<V4>(settings, first.wrapping_add(i));
        next_bucket::<V6>(settings, first.wrapping_add(i));
        remember::collect::<V4>(settings, first.wrapping_add(i));
        remember::collect::<V6>(settings, first.wrapping_add(i));
    }
    findings::tell(ctx, clock, settings, now);
}

/// Examines the record whose turn it is: frees it if its time is over, else queues it again.
#[inline(never)]
fn next_record<F: Family>() -> u32 {
    let Ok(Some(key)) = F::ages().pop() else {
        return 0;
    };
    let (Some(clock), Some(settings)) = (CLOCK.get_ptr_mut(0), SETTINGS.get(0)) else {
        return 0;
    };
    // SAFETY: an array's value.
    unsafe { add64(&raw mut (*clock).examined, 1) };
    if !is_over::<F>(&key, settings) {
        // The queue holds a key for each record kept, with room for all that are in hand at once.
        if F::ages().push(&key, 0).is_ok() {
            return 0;
        }
        findings::note(Finding::QueueFull);
    }
    free::<F>(&key);
    // SAFETY: as above.
    unsafe {
        add64(&raw mut (*clock).freed, 1);
        let kept = &raw mut (*clock).kept[F::INDEX];
        if add64(kept, 1u64.wrapping_neg()) == 0 {
            // Below zero it would refuse every flow: more than the limit.
            add64(kept, 1);
            findings::note(Finding::BelowZero);
        }
    }
    0
}

/// Whether a record's time is over: idle, in both directions, for its phase's limit.
#[inline(always)]
fn is_over<F: Family>(key: &FlowKey<F::Addr>, settings: &Settings) -> bool {
    let Some(reverse) = F::flows().get_ptr_mut(key) else {
        findings::note(Finding::RecordWithoutFlow);
        return true;
    };
    // SAFETY: map values.
    if MEMBERS.get(unsafe { (*reverse).member }).is_some_and(|member| member.hop.is_closed()) {
        return true;
    }
    // SAFETY: a map value.
    let (mut seen, forward_key) = unsafe { ((*reverse).last_seen, answer_key::<F>(&*reverse, key.proto)) };
    // The tuple may belong to a newer flow by now.
    // SAFETY: a map value.
    let forward = F::flows().get_ptr_mut(&forward_key).filter(|forward| is_opposite::<F>(unsafe { &**forward }, key));
    if let Some(forward) = forward {
        // SAFETY: a map value.
        let forward_seen = unsafe { (*forward).last_seen };
        if forward_seen.wrapping_sub(seen) as i32 > 0 {
            seen = forward_seen;
        }
    }
    // After the forward entry: that is given up only once the state says closed.
    // SAFETY: a map value.
    let state = State(unsafe { (&raw const (*reverse).state).read_volatile() });
    if forward.is_none() && state.is_active() {
        findings::note(Finding::HalfFlow);
        return true;
    }
    let shift = settings.coarse_shift & 31;
    let now = (jiffies() >> shift) as u32;
    let idle = u64::from(now.wrapping_sub(seen)) << shift;
    // A clock read on two CPUs may step back by one.
    now.wrapping_sub(seen) as i32 > 0 && idle > u64::from(limit(state, key.proto, settings))
}

/// How long a record may be idle, jiffies.
#[inline(always)]
fn limit(state: State, proto: u32, settings: &Settings) -> u32 {
    if state.phase() == Phase::Closed as u32 {
        if state.backend_waits() { settings.time_wait } else { settings.closed }
    } else if state.phase() == Phase::Closing as u32 {
        settings.closing
    } else if proto == u32::from(l4::TCP) {
        settings.established
    } else {
        settings.udp
    }
}

/// Frees both entries of a record.
#[inline(always)]
fn free<F: Family>(key: &FlowKey<F::Addr>) {
    let Some(reverse) = F::flows().get_ptr_mut(key) else {
        return;
    };
    advance(reverse, Event::Closed);
    // SAFETY: a map value.
    let forward_key = answer_key::<F>(unsafe { &*reverse }, key.proto);
    if let Some(forward) = F::flows().get_ptr_mut(&forward_key)
        // SAFETY: a map value.
        && is_opposite::<F>(unsafe { &*forward }, key)
    {
        let _ = F::flows().remove(&forward_key);
    }
    let _ = F::flows().remove(key);
}

/// Frees a bucket's flows that were never promoted in time.
#[inline(never)]
fn next_bucket<F: Family>(settings: &Settings, index: u32) -> u32 {
    let Some(bucket) = F::half_open().get_ptr_mut(index & settings.half_open_mask) else {
        return 0;
    };
    let now = jiffies() as u32;
    for way in 0..HALF_OPEN_WAYS {
        let slot = half_open::slot_at(bucket, way);
        let owner = half_open::owner(slot);
        if owner & Slot::<F::Addr>::STATE != Slot::<F::Addr>::LIVE {
            continue;
        }
        // SAFETY: an array's value; the slot is changed only once it is ours.
        let age = now.wrapping_sub(unsafe { (*slot).flow.opened });
        if (age as i32) < 0 || age <= settings.half_open {
            continue;
        }
        if let Some(owned) = half_open::take(slot, way as u32, owner) {
            half_open::release::<F>(slot);
            owned.vacate();
        }
    }
    0
}
