//! Link headers whose number of VLAN tags changes between ingress and egress, or that move to make room for an outer IP
//! header.

use aya_ebpf::{
    bindings::xdp_action::XDP_TX,
    helpers::{bpf_redirect, bpf_xdp_adjust_head},
    programs::XdpContext,
};
use lb_common::abi::Hop;
use lb_common::wire::load::{load16, load64, store16, store32, store64};
use lb_common::wire::{Packet, eth};

use crate::frame::Window;

/// Exchanges the MACs of a link header: back to where the frame came from. Tags stay.
///
/// # Safety
/// An Ethernet header is at `link`.
#[inline(always)]
pub unsafe fn turn_round(link: *mut u8) {
    // SAFETY: the caller's.
    unsafe {
        let (to, from) = (load64(link), load64(link.add(eth::SRC)));
        store64(link, from & Hop::MAC | to << 48);
        store32(link.add(8), (to >> 16) as u32);
    }
}

/// Replaces the link header before an L3 header at `l3` by one with the tags of a next hop (`dst`, `src`: words of
/// [`Hop`]). The IP header is complete already. `outer_ip`: in the high half bytes to leave free between both, in the low one
/// the EtherType of what will stand there; 0 for none. Says whether there was room.
#[inline(never)]
pub fn replace(ctx: &XdpContext, l3: usize, dst: u64, src: u64, outer_ip: u32) -> bool {
    let (outer, inner) = ((dst >> 48) as u16, (src >> 48) as u16);
    let n_in = eth::tags(l3).min(2);
    let n_out = if outer == 0 { 0 } else { 1 + (inner != 0) as usize };
    let window = Window::new(ctx);
    // The L3 header's EtherType, before anything moves.
    let at = eth::TYPE + n_in * eth::TAG;
    let Some(proto) = window.ptr(at, 2) else {
        return false;
    };
    // SAFETY: two bytes at `proto`.
    let proto = unsafe { load16(proto) };
    let proto = if outer_ip == 0 { proto } else { outer_ip as u16 };
    let shift = (n_in as i32 - n_out as i32) * eth::TAG as i32 - (outer_ip >> 16) as i32;
    // SAFETY: the packet's context. Pointers into the packet are taken anew below.
    if shift != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, shift) } != 0 {
        return false;
    }
    let window = Window::new(ctx);
    let Some(link) = window.ptr(0, eth::HEADER) else {
        return false;
    };
    // SAFETY: as many bytes as each pointer was asked for.
    unsafe {
        store64(link, dst & Hop::MAC | src << 48);
        store32(link.add(8), (src >> 16) as u32);
        match n_out {
            0 => store16(link.add(eth::TYPE), proto),
            1 => {
                let Some(tag) = window.ptr(eth::TYPE, 2 + eth::TAG) else {
                    return false;
                };
                store16(tag, eth::VLAN);
                store16(tag.add(2), outer);
                store16(tag.add(4), proto);
            }
            _ => {
                let Some(tag) = window.ptr(eth::TYPE, 2 + 2 * eth::TAG) else {
                    return false;
                };
                store16(tag, eth::QINQ);
                store16(tag.add(2), outer);
                store16(tag.add(4), eth::VLAN);
                store16(tag.add(6), inner);
                store16(tag.add(8), proto);
            }
        }
    }
    true
}

/// A next hop by one read of each word: user space replaces them while we look.
///
/// # Safety
/// A map's value.
#[inline(always)]
pub unsafe fn read(hop: *const Hop) -> Hop {
    // SAFETY: the caller's.
    unsafe {
        Hop {
            dst: (&raw const (*hop).dst).read_volatile(),
            src: (&raw const (*hop).src).read_volatile(),
            link: (&raw const (*hop).link).read_volatile(),
        }
    }
}

/// Sends a complete frame out of an interface.
#[inline(always)]
pub fn send(ctx: &XdpContext, ifindex: u32) -> u32 {
    if ifindex == ctx.ingress_ifindex() as u32 {
        return XDP_TX;
    }
    // SAFETY: no memory is involved.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}
