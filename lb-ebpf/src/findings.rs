//! What cannot be, if the programs alone write their maps: counted where it is found, told by the collector through
//! aya-log. Never told by `lb`, whose chain of calls has no stack left on Linux 6.1.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use lb_common::abi::{Clock, FINDINGS, Finding, Settings};

use crate::atomics::{add64, swap64};
use crate::maps::CLOCK;

/// Under what the lines appear in the log. Below the daemon's own name, so that its filters apply.
const TARGET: &str = "rollcall::ebpf";

/// Counts a finding.
#[inline(always)]
pub fn note(finding: Finding) {
    if let Some(clock) = CLOCK.get_ptr_mut(0) {
        // SAFETY: an array's value.
        unsafe { add64(&raw mut (*clock).findings[finding as usize], 1) };
    }
}

/// Logs what was found since the last time: at most one line a second for each kind.
#[inline(always)]
pub fn tell(ctx: &XdpContext, clock: *mut Clock, settings: &Settings, now: u64) {
    // SAFETY: an array's value.
    let last = unsafe { (*clock).logged_at };
    if now.wrapping_sub(last) < u64::from(settings.hz) {
        return;
    }
    for kind in 0..FINDINGS {
        // SAFETY: as above.
        let (found, logged) = unsafe {
            ((&raw const (*clock).findings[kind]).read_volatile(), (&raw const (*clock).logged[kind]).read_volatile())
        };
        // Who moves the word logs the difference.
        // SAFETY: as above.
        if found != logged && unsafe { swap64(&raw mut (*clock).logged[kind], logged, found) } {
            // SAFETY: as above.
            unsafe { (*clock).logged_at = now };
            line(ctx, kind as u32, found.wrapping_sub(logged));
        }
    }
}

/// Logs one line.
#[inline(never)]
fn line(ctx: &XdpContext, kind: u32, n: u64) -> u32 {
    if kind == Finding::RecordWithoutFlow as u32 {
        warn!(ctx, target: TARGET, "keys in the record queue without a flow, given up: {}", n);
    } else if kind == Finding::HalfFlow as u32 {
        warn!(ctx, target: TARGET, "active flows whose client side was gone, ended: {}", n);
    } else if kind == Finding::SlotWithoutFlow as u32 {
        warn!(ctx, target: TARGET, "half-open flows whose reverse entry was gone, ended: {}", n);
    } else if kind == Finding::QueueFull as u32 {
        warn!(ctx, target: TARGET, "flows ended before their time, the record queue was full: {}", n);
    } else {
        warn!(ctx, target: TARGET, "records given up beyond those that were kept: {}", n);
    }
    0
}
