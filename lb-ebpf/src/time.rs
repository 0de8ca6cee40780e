//! The clock of idle times.

use aya_ebpf::helpers::bpf_jiffies64;

/// Jiffies since boot: a plain load, unlike the clocks that count nanoseconds.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}
