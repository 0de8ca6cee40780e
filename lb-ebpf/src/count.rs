//! Counting: each packet once, with its reason. Per-CPU counters need no atomics; active flows are one word for
//! all CPUs, because the choice of a member compares them.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use lb_common::abi::{MemberStats, Reason};

use crate::atomics::add64;
use crate::maps::{ACTIVE, MEMBER_STATS, SERVICE_STATS, TRAFFIC, VERDICTS};

#[inline(always)]
fn count(reason: Reason) {
    if let Some(n) = VERDICTS.get_ptr_mut(reason as u32) {
        // SAFETY: a value of this CPU.
        unsafe { *n += 1 };
    }
}

/// Hands the packet to the host, untouched.
#[inline(always)]
pub fn pass(reason: Reason) -> u32 {
    count(reason);
    XDP_PASS
}

/// Drops the packet.
#[inline(always)]
pub fn drop(reason: Reason) -> u32 {
    count(reason);
    XDP_DROP
}

/// Drops a packet of a service.
#[inline(always)]
pub fn drop_of(service: u32, reason: Reason) -> u32 {
    if let Some(stats) = SERVICE_STATS.get_ptr_mut(service) {
        // SAFETY: a value of this CPU.
        unsafe { (*stats).drops[reason as usize] += 1 };
    }
    drop(reason)
}

/// Counts a packet that was sent but not forwarded.
#[inline(always)]
pub fn sent(reason: Reason) {
    count(reason);
}

/// Counts a forwarded packet.
#[inline(always)]
pub fn forwarded(slot: u32, bytes: u32) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(slot) {
        // SAFETY: a value of this CPU.
        unsafe {
            (*traffic).packets += 1;
            (*traffic).bytes += u64::from(bytes);
        }
    }
}

/// Counts a flow that was opened at a member.
#[inline(always)]
pub fn opened(id: u32) {
    member(id, |stats| stats.opened += 1);
    active(id, 1);
}

/// Counts the end of a member's flow.
#[inline(always)]
pub fn closed(id: u32) {
    member(id, |stats| stats.closed += 1);
    active(id, 1u64.wrapping_neg());
}

#[inline(always)]
fn active(id: u32, change: u64) {
    if let Some(n) = ACTIVE.get_ptr_mut(id) {
        // SAFETY: an array's value.
        unsafe { add64(n, change) };
    }
}

/// Changes a member's flow counters.
#[inline(always)]
pub fn member(id: u32, change: impl FnOnce(&mut MemberStats)) {
    if let Some(stats) = MEMBER_STATS.get_ptr_mut(id) {
        // SAFETY: a value of this CPU, and nobody else refers to it.
        change(unsafe { &mut *stats });
    }
}
