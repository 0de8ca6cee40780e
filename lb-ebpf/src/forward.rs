//! The hot path: a packet of a known flow, and the rewrite that every forwarded packet gets.

use aya_ebpf::{bindings::xdp_action::XDP_TX, helpers::bpf_redirect, programs::XdpContext};
use lb_common::abi::{Called, Flow, Hop, Reason, Settings};
use lb_common::checksum::{update_udp, update16};
use lb_common::conntrack::{Direction, Phase, State};
use lb_common::wire::load::{load16, load64, store16, store32, store64};
use lb_common::wire::{Packet, eth, l4};

use crate::control;
use crate::count;
use crate::family::Family;
use crate::frame::{Frame, Window};
use crate::link;
use crate::maps::{MEMBERS, SETTINGS};
use crate::miss;
use crate::step::{self, Step};
use crate::time::jiffies;

/// A packet that was parsed the long way.
#[inline(never)]
pub fn look_up<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    let window = Window::new(ctx);
    // SAFETY: this CPU's.
    packet::<F>(ctx, window, settings, &unsafe { &*work }.found.frame())
}

/// A packet whose destination may be ours: its verdict, or [`Step::MISS`].
#[inline(always)]
pub fn packet<F: Family>(ctx: &XdpContext, window: Window, settings: &Settings, frame: &Frame<F::Addr>) -> u32 {
    // By a constant before anything else: checked after an unknown offset, the compiler would see that it follows, but
    // the verifier would not.
    let Some(link) = window.ptr(0, eth::HEADER) else {
        return count::drop(Reason::DropInternal);
    };
    let mut tag = F::tag(frame.key);
    // SAFETY: no instruction. It keeps the tag's computation before the look-up, whose hash is one long chain of
    // dependent steps: beside that it costs nothing, and afterwards the key need not be kept in registers.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) tag, options(nomem, nostack)) };
    let Some(flow) = F::flows().get_ptr_mut(frame.key) else {
        return step::leave::<F>(frame, Step::MISS);
    };
    // SAFETY: a map value; it may be another flow's by now, which the tag tells.
    if tag != unsafe { (*flow).tag } {
        return step::leave::<F>(frame, Step::MISS);
    }
    let tcp = frame.key.proto == u32::from(l4::TCP);
    if tcp {
        let Some(tcp) = window.ptr(frame.at.l4, l4::TCP_HEADER) else {
            return count::drop(Reason::DropTruncated);
        };
        // SAFETY: a TCP header at `tcp`.
        if unsafe { *tcp.add(l4::TCP_FLAGS) } & (l4::FIN | l4::SYN | l4::RST) != 0 {
            // For `segment`, and for `MISS` if that is what follows.
            step::leave::<F>(frame, Step::MISS);
            let step = control::segment::<F>(ctx, flow);
            if step != Step::FORWARD {
                return step;
            }
        }
    }
    // SAFETY: a map value.
    let (direction, way_back) = unsafe { ((*flow).direction, &(*flow).hop) };
    if direction == Direction::Forward as u32 {
        // SAFETY: a map value.
        let Some(member) = MEMBERS.get_ptr(unsafe { (*flow).member }) else {
            return count::drop(Reason::DropInternal);
        };
        let ingress = ctx.ingress_ifindex() as u32;
        if !is_from(ingress, link, frame, way_back) {
            step::leave::<F>(frame, Step::FORWARD);
            if !miss::refresh::<F>(ctx, flow) {
                return count::pass(Reason::PassOtherMac);
            }
        }
        // SAFETY: an array's value.
        send::<F>(ctx, ingress, window, settings, frame, flow, unsafe { &(*member).hop })
    } else {
        if !is_to_us(link, settings) {
            return count::pass(Reason::PassOtherMac);
        }
        // SAFETY: a map value.
        if !tcp && State(unsafe { (*flow).state }).phase() == Phase::Opening as u32 {
            control::answer::<F>(flow, 0);
        }
        let ingress = ctx.ingress_ifindex() as u32;
        send::<F>(ctx, ingress, window, settings, frame, flow, way_back)
    }
}

/// Whether a frame came exactly the way that `hop` leads back: MACs, tags and interface.
#[inline(always)]
fn is_from<A>(ingress: u32, link: *const u8, frame: &Frame<A>, hop: &Hop) -> bool {
    let back = way_back(ingress, link, frame.at.tags);
    back.dst == hop.dst && back.src == hop.src && back.link == hop.link
}

/// The way back to where a frame came from. An Ethernet header is at `link`.
#[inline(always)]
pub fn way_back(ingress: u32, link: *const u8, tags: u32) -> Hop {
    // SAFETY: 14 bytes at `link`.
    let (to, from) = unsafe { (load64(link), load64(link.add(eth::SRC))) };
    Hop {
        dst: from & Hop::MAC | u64::from(tags) << 48,
        src: to & Hop::MAC | u64::from(tags >> 16) << 48,
        link: u64::from(ingress),
    }
}

/// Where the packets of a copied flow go: to its member, or the way back.
#[inline(always)]
pub fn hop_of<A>(flow: &Flow<A>) -> Hop {
    if flow.direction != Direction::Forward as u32 {
        return flow.hop;
    }
    // SAFETY: an array's value.
    MEMBERS.get_ptr(flow.member).map_or(Hop::default(), |member| unsafe { link::read(&raw const (*member).hop) })
}

/// Whether a frame is addressed to one of our interfaces. An Ethernet header is at `link`.
#[inline(always)]
pub fn is_to_us(link: *const u8, settings: &Settings) -> bool {
    // SAFETY: 14 bytes at `link`.
    let to = unsafe { load64(link) } & Hop::MAC;
    let m = &settings.macs;
    to != 0 && (to == m[0] || to == m[1] || to == m[2] || to == m[3])
}

/// Rewrites and sends: TTL, addresses, ports, checksums, link header.
#[inline(always)]
pub fn send<F: Family>(
    ctx: &XdpContext,
    ingress: u32,
    window: Window,
    settings: &Settings,
    frame: &Frame<F::Addr>,
    flow: *mut Flow<F::Addr>,
    hop: &Hop,
) -> u32 {
    // The link header first: see `packet`.
    let (Some(link), Some(ip), Some(head)) =
        (window.ptr(0, eth::HEADER), window.ptr(frame.at.l3, F::HEADER), window.ptr(frame.at.l4, l4::UDP_HEADER))
    else {
        // SAFETY: a map value.
        return count::drop_of(unsafe { (*flow).service }, Reason::DropTruncated);
    };
    // One read of each word: user space replaces them while we look.
    // SAFETY: a map value.
    let (dst, src, ifindex) = unsafe {
        (
            (&raw const hop.dst).read_volatile(),
            (&raw const hop.src).read_volatile(),
            (&raw const hop.link).read_volatile(),
        )
    };
    // SAFETY: a map value.
    let service = unsafe { (*flow).service };
    if dst & Hop::MAC == 0 {
        return count::drop_of(service, Reason::DropNoNextHop);
    }
    // SAFETY: the header is there.
    if unsafe { *ip.add(F::TTL) } <= 1 {
        return Step::call(Called::Expired);
    }
    // SAFETY: both headers are there; the flow is a map value whose tag was compared.
    unsafe {
        let delta = (*flow).l4_delta as u16;
        if frame.key.proto == u32::from(l4::TCP) {
            let Some(tcp) = window.ptr(frame.at.l4, l4::TCP_HEADER) else {
                return count::drop_of(service, Reason::DropTruncated);
            };
            let check = load16(tcp.add(l4::TCP_CHECK));
            store16(tcp.add(l4::TCP_CHECK), update16(check, delta));
        } else {
            let check = load16(head.add(l4::UDP_CHECK));
            // 0 means "none" over IPv4 (RFC 768) and is not allowed over IPv6 (RFC 8200, section 8.1).
            if check != 0 {
                store16(head.add(l4::UDP_CHECK), update_udp(check, delta));
            } else if F::NUMBER == 6 {
                return count::drop_of(service, Reason::DropMalformed);
            }
        }
        store32(head, (*flow).ports);
        F::rewrite(ip, &(*flow).src, &(*flow).dst, (*flow).l3_delta);

        let now = (jiffies() >> (settings.coarse_shift & 63)) as u32;
        if (*flow).last_seen != now {
            (*flow).last_seen = now;
        }
    }
    let tags = (dst >> 48) as u32 | (src >> 48 << 16) as u32;
    if tags == 0 && frame.at.l3 == eth::HEADER {
        // SAFETY: 14 bytes at `link`; the EtherType stays.
        unsafe {
            store64(link, dst & Hop::MAC | src << 48);
            store32(link.add(8), (src >> 16) as u32);
        }
    } else if !link::replace(ctx, frame.at.l3, dst, src, 0) {
        return count::drop_of(service, Reason::DropTags);
    }
    // SAFETY: a map value.
    count::forwarded(unsafe { (*flow).counter }, frame.at.ip_len);
    // SAFETY: no memory is involved.
    if ifindex as u32 == ingress { XDP_TX } else { unsafe { bpf_redirect(ifindex as u32, 0) as u32 } }
}
