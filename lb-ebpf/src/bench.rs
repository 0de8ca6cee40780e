//! What benchmarks need around the real program: `BPF_PROG_TEST_RUN` with a repeat count gives each run the packet as the
//! last one left it, so a wrapper restores it first and then jumps.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_TX},
    macros::{map, xdp},
    maps::{Array, ProgramArray},
    programs::XdpContext,
};

/// Bytes restored: all headers that a program may change.
const RESTORED: usize = 96;

/// The packet's first bytes, as words.
#[map]
static TEMPLATE: Array<[u64; RESTORED / 8]> = Array::with_max_entries(1, 0);
/// How the template changes from run to run: added to the word at byte 32, where an untagged IPv4 packet has its ports.
#[map]
static STEP: Array<u64> = Array::with_max_entries(2, 0);
/// Entry 0: the program under test.
#[map]
static UNDER_TEST: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Writes the template over the packet at `data`.
///
/// # Safety
/// [`RESTORED`] bytes at `data` are the packet's.
#[inline(always)]
unsafe fn restore(data: usize, template: &[u64; RESTORED / 8]) {
    for (i, word) in template.iter().enumerate() {
        // SAFETY: the caller's. Volatile, or it becomes a byte-wise copy.
        unsafe { (data as *mut u64).add(i).write_volatile((&raw const *word).read_volatile()) };
    }
}

/// Restores the packet, then runs the program under test.
#[xdp]
pub fn restored(ctx: XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + RESTORED > end {
        return XDP_ABORTED;
    }
    let Some(template) = TEMPLATE.get(0) else {
        return XDP_ABORTED;
    };
    // SAFETY: so many bytes are there.
    unsafe { restore(data, template) };
    // SAFETY: a program array's entry, or nothing.
    unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    XDP_ABORTED
}

/// As [`restored`], with another source port in each run: every packet is another flow's.
#[xdp]
pub fn varied(ctx: XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + RESTORED > end {
        return XDP_ABORTED;
    }
    let (Some(template), Some(count), Some(mask)) = (TEMPLATE.get(0), STEP.get_ptr_mut(0), STEP.get(1)) else {
        return XDP_ABORTED;
    };
    // SAFETY: so many bytes are there.
    unsafe { restore(data, template) };
    // SAFETY: an array's value; benchmarks run on one CPU. A program array's entry, or nothing. Bytes 28 and 29 are the end of the source address, 34 and 35
    // the source port.
    unsafe {
        let n = *count & *mask;
        *count += 1;
        ((data + 34) as *mut u16).write_unaligned(n as u16);
        ((data + 28) as *mut u16).write_unaligned((n >> 16) as u16);
        UNDER_TEST.tail_call(&ctx, 0);
    }
    XDP_ABORTED
}

/// The floor: what any program that sends a packet back costs here.
#[xdp]
pub fn floor(_ctx: XdpContext) -> u32 {
    XDP_TX
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";
