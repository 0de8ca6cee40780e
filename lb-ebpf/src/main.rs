//! Rollcall's kernel side.
#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::xdp,
    programs::XdpContext,
};

#[xdp]
pub fn lb(_ctx: XdpContext) -> u32 {
    if let Some(n) = maps::VERDICTS.get_ptr_mut(0) {
        unsafe { *n += 1 };
    }
    let _ = (maps::META.get(0), maps::SETTINGS.get(0), maps::ADDRESSES.get(0), maps::DESCRIPTORS.get(0));
    xdp_action::XDP_PASS
}

#[xdp]
pub fn collect(_ctx: XdpContext) -> u32 {
    if let Some(clock) = maps::CLOCK.get_ptr_mut(0) {
        unsafe {
            (*clock).jiffies = bpf_jiffies64();
            (*clock).monotonic_ns = bpf_ktime_get_ns();
        }
    }
    xdp_action::XDP_PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";
