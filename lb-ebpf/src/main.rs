//! Rollcall's kernel side: parse, look up, select, rewrite, count. No policy.
//!
//! `lb` gives each packet its verdict:
//!
//! ```text
//! main     link header, destination address in the bitmap?            no: pass
//! forward  a known flow? one look-up, one counter, rewrite, send
//! miss     a service? a half-open flow? else pass, reset or drop
//! open     choose a backend, claim a port, take a half-open slot
//! promote  both sides proved themselves: established
//! expire   two records examined for each new flow; `collect` for the rest
//! ```
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features)]

mod atomics;
mod control;
mod count;
mod expire;
mod family;
mod forward;
mod frame;
mod half_open;
mod link;
mod maps;
mod miss;
mod open;
mod promote;
mod reset;

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};
use lb_common::abi::{FlowKey, Reason};
use lb_common::wire::load::{load16, load32};
use lb_common::wire::{Fault, Packet, eth, l4};

use family::{Family, V4, V6};
use frame::{Frame, Window};

/// The balancer.
#[xdp]
pub fn lb(ctx: XdpContext) -> u32 {
    let window = Window::new(&ctx);
    let Some(link) = window.ptr(0, eth::HEADER) else { return count::pass(Reason::PassMalformed) };
    // SAFETY: 14 bytes at `link`.
    match unsafe { load16(link.add(eth::TYPE)) } {
        eth::IPV4 => ip::<V4>(&ctx, window, eth::HEADER, 0),
        eth::IPV6 => ip::<V6>(&ctx, window, eth::HEADER, 0),
        proto if eth::is_tag(proto) => tagged(&ctx),
        _ => count::pass(Reason::PassNotIp),
    }
}

/// The collector: run by user space, never attached.
#[xdp]
pub fn collect(_ctx: XdpContext) -> u32 {
    expire::run();
    XDP_PASS
}

/// A frame with VLAN tags. Apart, so that offsets are constants on the untagged path.
#[inline(never)]
fn tagged(ctx: &XdpContext) -> u32 {
    let window = Window::new(ctx);
    let Some(link) = eth::link(&window) else { return count::pass(Reason::PassNotIp) };
    let tags = u32::from(link.outer) | u32::from(link.inner) << 16;
    let l3 = link.l3 & 0x3f;
    match link.proto {
        eth::IPV4 => ip::<V4>(ctx, window, l3, tags),
        eth::IPV6 => ip::<V6>(ctx, window, l3, tags),
        _ => count::pass(Reason::PassNotIp),
    }
}

/// An IP packet: is it for one of our addresses?
#[inline(always)]
fn ip<F: Family>(ctx: &XdpContext, window: Window, l3: usize, tags: u32) -> u32 {
    let Some(header) = window.ptr(l3, F::HEADER) else { return count::pass(Reason::PassMalformed) };
    // SAFETY: an IP header's length at `header`.
    let dst = unsafe { F::destination(header) };
    let (word, bit) = F::bitmap_bit(&dst);
    let may_be_ours = maps::ADDRESSES.get(word).is_some_and(|bits| bits >> bit & 1 != 0);
    if !may_be_ours {
        return count::pass(Reason::PassNotOurs);
    }
    let found = match F::locate(&window, l3) {
        Ok(found) => found,
        Err(Fault::Truncated) => return miss::refuse_to::<F>(&dst, Reason::DropTruncated),
        Err(Fault::Malformed) => return miss::refuse_to::<F>(&dst, Reason::DropMalformed),
        Err(Fault::FirstFragment) => return miss::refuse_to::<F>(&dst, Reason::DropFragment),
        Err(Fault::LaterFragment) => return count::pass(Reason::PassFragment),
    };
    if found.proto != l4::TCP && found.proto != l4::UDP {
        return count::pass(Reason::PassOtherProtocol);
    }
    // The L4 header must be within the IP packet, not in its padding.
    let header_len = if found.proto == l4::TCP { l4::TCP_HEADER } else { l4::UDP_HEADER };
    if found.l4 + header_len > l3 + found.ip_len as usize {
        return miss::refuse_to::<F>(&dst, Reason::DropTruncated);
    }
    let Some(head) = window.ptr(found.l4, l4::UDP_HEADER) else {
        return miss::refuse_to::<F>(&dst, Reason::DropTruncated);
    };
    let Some(settings) = maps::SETTINGS.get(0) else { return count::pass(Reason::PassNotOurs) };
    // SAFETY: the headers are there.
    let key = unsafe { FlowKey { src: F::source(header), dst, ports: load32(head), proto: u32::from(found.proto) } };
    let hash = F::hash(&key, settings.seed);
    forward::packet::<F>(ctx, window, settings, &Frame { key, hash, l3, l4: found.l4, ip_len: found.ip_len, tags })
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";
