//! The program `icmp`: ICMP and ICMPv6 to one of our addresses, VIP or source address.
//!
//! Echo requests to a VIP are answered here, errors about packets of a flow are translated for its other side. All else is
//! the host's, neighbour discovery above all.

mod echo;
mod error;

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{LocalKind, Reason};
use lb_common::wire::icmp::{self, Kind};
use lb_common::wire::{Packet, eth};

use crate::count;
use crate::family::{Aligned, Family, V4, V6};
use crate::frame::{Frame, Layout, Window};
use crate::maps::SETTINGS;
use crate::step::{self, Step};
use crate::{forward, miss};

/// A packet's verdict.
#[inline(always)]
pub fn packet(ctx: &XdpContext) -> u32 {
    let Some(link) = eth::link(&Window::new(ctx)) else {
        return count::pass(Reason::PassNotIp);
    };
    let tags = u32::from(link.outer) | u32::from(link.inner) << 16;
    match link.proto {
        eth::IPV4 => message::<V4>(ctx, link.l3, tags),
        eth::IPV6 => message::<V6>(ctx, link.l3, tags),
        _ => count::pass(Reason::PassNotIp),
    }
}

#[inline(always)]
fn message<F: Family>(ctx: &XdpContext, l3: usize, tags: u32) -> u32 {
    let mut step = sort::<F>(ctx, l3, tags);
    if step == Step::ECHO {
        return echo::answer::<F>(ctx);
    }
    if step == Step::ERROR {
        step = error::find::<F>(ctx);
    }
    if step == Step::TRANSLATE {
        step = error::translate::<F>(ctx);
    }
    step
}

/// What is to become of a message, whose frame is left in [`step::Work`]: a verdict, or which step is next.
#[inline(never)]
fn sort<F: Family>(ctx: &XdpContext, l3: usize, tags: u32) -> u32 {
    let Some(settings) = SETTINGS.get(0) else {
        return count::drop(Reason::DropInternal);
    };
    let window = Window::new(ctx);
    let (Some(link), Some(ip)) = (window.ptr(0, eth::HEADER), window.ptr(l3, F::HEADER)) else {
        return count::pass(Reason::PassMalformed);
    };
    if !forward::is_to_us(link, settings) {
        return count::pass(Reason::PassOtherMac);
    }
    let mut key = Aligned(F::EMPTY_KEY);
    // SAFETY: the header is there.
    unsafe { F::addresses(ip, &mut key) };
    let kind = miss::local::<F>(&key.0.dst);
    if kind == 0 {
        return count::pass(Reason::PassNotOurs);
    }
    // Who called has found ICMP here, so this is another packet only if the caller is at fault.
    let Ok(found) = F::locate(&window, l3) else {
        return count::drop(Reason::DropInternal);
    };
    if found.proto != F::ICMP {
        return count::drop(Reason::DropInternal);
    }
    if found.l4 + icmp::HEADER > l3 + found.ip_len as usize {
        return count::drop(Reason::DropTruncated);
    }
    let Some(head) = window.ptr(found.l4, icmp::HEADER) else {
        return count::drop(Reason::DropTruncated);
    };
    // SAFETY: an ICMP header at `head`.
    let step = match F::icmp_kind(unsafe { *head.add(icmp::TYPE) }) {
        // With options or extension headers it is the host's to answer: a route in them would have to be reversed
        // (RFC 1122, section 3.2.2.6).
        Kind::Echo if kind & LocalKind::VIP != 0 && found.l4 == l3 + F::HEADER => Step::ECHO,
        Kind::Error => Step::ERROR,
        _ => return count::pass(Reason::PassOtherProtocol),
    };
    if !F::is_unicast(&key.0.src) || miss::local::<F>(&key.0.src) != 0 {
        return count::drop(Reason::DropMartian);
    }
    let at = Layout { l3, l4: found.l4, ip_len: found.ip_len, tags };
    step::leave::<F>(&Frame { key: &key.0, at }, step)
}
