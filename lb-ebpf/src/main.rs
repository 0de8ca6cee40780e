//! Rollcall's kernel side: parse, look up, select, rewrite, count. No policy.
//!
//! `lb` gives each packet its verdict:
//!
//! ```text
//! main     parse; destination address in the bitmap?  no: pass
//! forward  a known flow? one look-up, one counter, rewrite, send
//! miss     a service? a half-open flow? else pass, reset or drop
//! open     take a half-open slot
//! choose   a backend, by the service's table
//! admit    claim a port, fill the slot
//! chance   a SYN that was refused or not answered: another backend
//! promote  both sides proved themselves: established
//! direct   a service whose backends answer by themselves: as it came, or in an outer header
//! call     what is rare is another program's: ICMP to our addresses `icmp`, a TTL that ends `expired`,
//!          `fragment`
//! expire   two records examined for each new flow; `collect` for the rest
//! ```
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features)]

mod admit;
mod atomics;
mod call;
mod chance;
mod choose;
mod control;
mod count;
mod direct;
mod expire;
mod expired;
mod family;
mod findings;
mod forward;
mod fragment;
mod frame;
mod half_open;
mod icmp;
mod link;
mod maps;
mod mem;
mod miss;
mod open;
mod originate;
mod peek;
mod promote;
mod remember;
mod reset;
mod step;
mod time;

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};
use lb_common::abi::{Called, FlowKey, Reason};
use lb_common::wire::load::{load16, load32, store64};
use lb_common::wire::{Fault, Located, Packet, eth, l4};

use family::{Aligned, Family, V4, V6};
use frame::{Frame, Layout, Window};
use step::Step;

/// The balancer.
#[xdp]
pub fn lb(ctx: XdpContext) -> u32 {
    let step = packet(&ctx);
    if step < Step::CALL {
        return step;
    }
    call::program(&ctx, step)
}

/// ICMP to our addresses: reached from `lb` by tail call.
#[xdp]
pub fn icmp(ctx: XdpContext) -> u32 {
    icmp::packet(&ctx)
}

/// A TTL or hop limit that ends here: reached from `lb` by tail call.
#[xdp]
pub fn expired(ctx: XdpContext) -> u32 {
    expired::packet(&ctx)
}

/// Fragments to addresses that may be ours: reached from `lb` by tail call.
#[xdp]
pub fn fragment(ctx: XdpContext) -> u32 {
    fragment::packet(&ctx)
}

/// A packet's verdict, or the step that hands it over to another program.
#[inline(always)]
fn packet(ctx: &XdpContext) -> u32 {
    let window = Window::new(ctx);
    let Some(link) = window.ptr(0, eth::HEADER) else {
        return count::pass(Reason::PassMalformed);
    };
    // SAFETY: 14 bytes at `link`.
    let proto = unsafe { load16(link.add(eth::TYPE)) };
    if proto == eth::IPV4 {
        let step = untagged::<V4>(ctx, window);
        return step::run::<V4>(ctx, step);
    }
    if proto == eth::IPV6 {
        let step = untagged::<V6>(ctx, window);
        return step::run::<V6>(ctx, step);
    }
    if eth::is_tag(proto) {
        let step = tagged(ctx);
        if step & IPV6 != 0 {
            return step::run::<V6>(ctx, step & !IPV6);
        }
        return step::run::<V4>(ctx, step);
    }
    count::pass(Reason::PassNotIp)
}

/// The collector: run by user space, never attached.
#[xdp]
pub fn collect(ctx: XdpContext) -> u32 {
    expire::run(&ctx);
    XDP_PASS
}

/// Set in a step of `tagged` that is IPv6's.
const IPV6: u32 = 1 << 8;

/// The first step of a frame with VLAN tags. Apart, so that offsets are constants on the untagged path; the other steps
/// are the caller's to run, for this function's frame on top of theirs would be too much stack for Linux 6.1.
#[inline(never)]
fn tagged(ctx: &XdpContext) -> u32 {
    let window = Window::new(ctx);
    let Some(link) = eth::link(&window) else {
        return count::pass(Reason::PassNotIp);
    };
    let tags = u32::from(link.outer) | u32::from(link.inner) << 16;
    match link.proto {
        eth::IPV4 => unusual::<V4>(ctx, link.l3, tags),
        eth::IPV6 => unusual::<V6>(ctx, link.l3, tags) | IPV6,
        _ => count::pass(Reason::PassNotIp),
    }
}

/// The hot path: an untagged packet, all offsets constant.
#[inline(always)]
fn untagged<F: Family>(ctx: &XdpContext, window: Window) -> u32 {
    // One check for all headers; a frame too short for TCP's may still hold UDP.
    let Some(window) = window.with(eth::HEADER + F::HEADER + l4::TCP_HEADER) else {
        return unusual::<F>(ctx, eth::HEADER, 0);
    };
    let Some(header) = window.ptr(eth::HEADER, F::HEADER) else {
        return count::pass(Reason::PassMalformed);
    };
    // SAFETY: an IP header's length at `header`, in this and the following reads.
    let dst = unsafe { F::destination(header) };
    if !may_be_ours::<F>(&dst) {
        return count::pass(Reason::PassNotOurs);
    }
    let Some(settings) = maps::SETTINGS.get(0) else {
        return count::pass(Reason::PassNotOurs);
    };
    // SAFETY: as above.
    let Some(found) = (unsafe { F::plain(header, eth::HEADER) }) else {
        return unusual::<F>(ctx, eth::HEADER, 0);
    };
    // Loaded once more: kept from above, it would be written to the stack for each packet.
    // SAFETY: as above.
    let refuse = |reason| miss::refuse::<F>(ctx, &unsafe { F::destination(header) }, reason);
    if eth::HEADER + found.ip_len as usize > window.len() {
        return refuse(Reason::DropTruncated);
    }
    match key::<F, _>(&window, eth::HEADER, &found) {
        Ok(key) => {
            let at = Layout { l3: eth::HEADER, l4: found.l4, ip_len: found.ip_len, tags: 0 };
            let frame = Frame { key: &key.0, at };
            forward::packet::<F>(ctx, window, settings, &frame)
        }
        Err(Reason::PassOtherProtocol) => count::pass(Reason::PassOtherProtocol),
        Err(reason) => refuse(reason),
    }
}

/// A packet with tags, IP options, extension headers or a fault: parsed the long way.
#[inline(never)]
fn unusual<F: Family>(ctx: &XdpContext, l3: usize, tags: u32) -> u32 {
    let window = Window::new(ctx);
    let Some(header) = window.ptr(l3, F::HEADER) else {
        return count::pass(Reason::PassMalformed);
    };
    // SAFETY: an IP header's length at `header`.
    let dst = unsafe { F::destination(header) };
    if !may_be_ours::<F>(&dst) {
        return count::pass(Reason::PassNotOurs);
    }
    let found = match F::locate(&window, l3) {
        Ok(found) => found,
        Err(Fault::Truncated) => return miss::refuse::<F>(ctx, &dst, Reason::DropTruncated),
        Err(Fault::Malformed) => return miss::refuse::<F>(ctx, &dst, Reason::DropMalformed),
        Err(Fault::FirstFragment | Fault::LaterFragment) => return Step::call(Called::Fragment),
    };
    if found.proto == F::ICMP {
        return Step::call(Called::Icmp);
    }
    match key::<F, _>(&window, l3, &found) {
        Ok(key) => {
            let at = Layout { l3, l4: found.l4, ip_len: found.ip_len, tags };
            step::leave::<F>(&Frame { key: &key.0, at }, Step::LOOK_UP)
        }
        Err(Reason::PassOtherProtocol) => count::pass(Reason::PassOtherProtocol),
        Err(reason) => miss::refuse::<F>(ctx, &dst, reason),
    }
}

/// Whether the bitmap knows the address. It may err on the side of yes.
#[inline(always)]
fn may_be_ours<F: Family>(dst: &F::Addr) -> bool {
    let (word, bit) = F::bitmap_bit(dst);
    maps::ADDRESSES.get(word).is_some_and(|bits| bits >> bit & 1 != 0)
}

/// Reads the 5-tuple of a packet whose L4 header was found.
#[inline(always)]
fn key<F: Family, P: Packet>(window: &P, l3: usize, found: &Located) -> Result<Aligned<FlowKey<F::Addr>>, Reason> {
    let header_len = match found.proto {
        l4::TCP => l4::TCP_HEADER,
        l4::UDP => l4::UDP_HEADER,
        _ => return Err(Reason::PassOtherProtocol),
    };
    // Within the IP packet, not in the frame's padding.
    if found.l4 + header_len > l3 + found.ip_len as usize {
        let holds_ip = found.l4 <= l3 + found.ip_len as usize;
        return Err(if holds_ip { Reason::DropTruncated } else { Reason::DropMalformed });
    }
    let (Some(ip), Some(head)) = (window.ptr(l3, F::HEADER), window.ptr(found.l4, l4::UDP_HEADER)) else {
        return Err(Reason::DropTruncated);
    };
    let mut key = Aligned(F::EMPTY_KEY);
    // SAFETY: the headers are there. The key ends with ports and protocol, aligned to eight bytes in both families: one
    // store for both.
    unsafe {
        F::addresses(ip, &mut key);
        let rest = u64::from(load32(head)) | u64::from(found.proto) << 32;
        store64((&raw mut key.0.ports).cast(), rest);
    }
    Ok(key)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";
