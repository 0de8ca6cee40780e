//! Services whose backends answer clients themselves: the member of a packet, remembered or chosen, and the packet's way
//! there. Such a flow has no source port and no reverse entry, and proves nothing.

use aya_ebpf::{bindings::xdp_action::XDP_TX, helpers::bpf_redirect, programs::XdpContext};
use lb_common::abi::{Hop, MAX_POOL, Member, NO_MEMBER, Reason, Settings, TrafficSlot, service_flags};
use lb_common::conntrack::Phase;
use lb_common::hash::FlowHash;
use lb_common::select::by_hash;
use lb_common::wire::load::{store32, store64};
use lb_common::wire::{Packet, eth, ipv4, ipv6, l4, tunnel};

use crate::family::Family;
use crate::frame::{Frame, Window};
use crate::maps::{MEMBERS, SETTINGS};
use crate::step::{Step, Work};
use crate::time::jiffies;
use crate::{choose, count, link, miss, remember};

/// Seconds after which a SYN that is sent again is taken for an unanswered one, and may go to another member. Clients send
/// one after one second and after three: the first may only mean that the answer was lost.
const UNANSWERED_S: u32 = 2;

/// A packet of a direct service that passed the checks of `miss`: its verdict, or [`Step::DELIVER`].
#[inline(never)]
pub fn packet<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let frame = found.frame();
    let key = frame.key;
    let service = next.service.id;
    let tcp = key.proto == u32::from(l4::TCP);
    let mut flags = l4::ACK;
    if tcp {
        let Some(tcp) = Window::new(ctx).ptr(frame.at.l4, l4::TCP_HEADER) else {
            return count::drop_of(service, Reason::DropTruncated);
        };
        // SAFETY: a TCP header at `tcp`.
        flags = unsafe { *tcp.add(l4::TCP_FLAGS) };
    }
    let opens = !tcp || l4::opens(flags);
    let Some(bucket) = remember::bucket::<F>(next.hash, settings.direct_mask) else {
        return count::drop(Reason::DropInternal);
    };
    let now = jiffies();
    let coarse = (now >> (settings.coarse_shift & 63)) as u32;
    let known = remember::find::<F>(bucket, key, service, settings.seed);
    if let Some(known) = &known {
        let again = tcp && opens && known.phase == Phase::Opening as u32;
        if again {
            count::member(known.member, |stats| stats.syn_retransmits += 1);
        }
        // A SYN on a living tuple does not move it: it may be spoofed.
        let begins = tcp && opens && known.phase >= Phase::Closing as u32;
        let unanswered = again && (now as u32).wrapping_sub(known.opened) > UNANSWERED_S * settings.hz;
        if known.is_valid && !begins && !unanswered {
            known.note(flags, coarse);
            next.way = known.member;
            return Step::DELIVER;
        }
    }
    let by_hash = choose::is_by_hash(service);
    if !opens {
        // What a member that is gone left unfinished nobody can finish; and in turn means that nobody knows whose turn it was.
        if known.is_some() || !by_hash || flags & l4::ACK == 0 {
            if let Some(held) = known.and_then(|known| known.take()) {
                remember::end(&held, false);
                held.vacate();
            }
            return miss::no_flow::<F>(ctx, settings, &frame, service, flags);
        }
        if flags & (l4::RST | l4::FIN) != 0 {
            return chosen::<F>(settings.seed, service, &mut next.way);
        }
    }
    let claimed = match known {
        Some(known) => known.take().map(|held| (held, true)),
        None => remember::claim::<F>(bucket, settings, coarse),
    };
    let Some((held, occupied)) = claimed else {
        return if by_hash {
            chosen::<F>(settings.seed, service, &mut next.way)
        } else {
            count::drop_of(service, Reason::DropBusy)
        };
    };
    let step = chosen::<F>(settings.seed, service, &mut next.way);
    let member = MEMBERS.get_ptr(next.way);
    let (Step::DELIVER, Some(member)) = (step, member) else {
        if occupied {
            held.keep()
        } else {
            held.vacate()
        }
        return step;
    };
    if occupied {
        remember::end(&held, true);
    }
    // SAFETY: an array's value.
    remember::fill::<F>(&held, key, service, next.way, unsafe { &*member }.mark(), coarse);
    held.keep();
    Step::DELIVER
}

/// Chooses a member: its verdict, or [`Step::DELIVER`].
#[inline(always)]
fn chosen<F: Family>(seed: u32, service: u32, member: &mut u32) -> u32 {
    *member = choose::pick::<F>(seed);
    if *member == NO_MEMBER {
        return count::drop_of(service, Reason::DropNoBackend);
    }
    // SAFETY: an array's value.
    if MEMBERS.get_ptr(*member).is_none_or(|member| !unsafe { &*member }.hop.is_resolved()) {
        return count::drop_of(service, Reason::DropNoNextHop);
    }
    Step::DELIVER
}

/// Sends a packet to the member in [`crate::step::Next::way`]: as it is, or in an outer header.
#[inline(never)]
pub fn deliver<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &*work };
    let frame = found.frame();
    let service = next.service.id;
    let Some(member) = MEMBERS.get_ptr(next.way) else {
        return count::drop_of(service, Reason::DropInternal);
    };
    // SAFETY: an array's value.
    let member = unsafe { &*member };
    // One read of each word: user space replaces them while we look.
    // SAFETY: as above.
    let hop = unsafe {
        Hop {
            dst: (&raw const member.hop.dst).read_volatile(),
            src: (&raw const member.hop.src).read_volatile(),
            link: (&raw const member.hop.link).read_volatile(),
        }
    };
    if !hop.is_resolved() {
        return count::drop_of(service, Reason::DropNoNextHop);
    }
    let refused = if next.service.flags & service_flags::TUNNEL != 0 {
        wrap::<F>(ctx, settings, &frame, next.hash, member, &hop)
    } else {
        address::<F>(ctx, &frame, member, &hop)
    };
    if let Some(reason) = refused {
        return count::drop_of(service, reason);
    }
    count::forwarded(TrafficSlot::forward(next.way), frame.at.ip_len);
    let ifindex = hop.ifindex();
    // SAFETY: no memory is involved.
    if ifindex == ctx.ingress_ifindex() as u32 { XDP_TX } else { unsafe { bpf_redirect(ifindex, 0) as u32 } }
}

/// Gives a frame its new link header and TTL: why not, if it could not be done.
#[inline(always)]
fn address<F: Family>(ctx: &XdpContext, frame: &Frame<F::Addr>, member: &Member, hop: &Hop) -> Option<Reason> {
    if member.family != u32::from(F::NUMBER) {
        return Some(Reason::DropInternal);
    }
    let window = Window::new(ctx);
    let (Some(link), Some(ip)) = (window.ptr(0, eth::HEADER), window.ptr(frame.at.l3, F::HEADER)) else {
        return Some(Reason::DropTruncated);
    };
    // SAFETY: the header is there, and its TTL is above 1.
    unsafe { F::decrement(ip) };
    let tags = (hop.dst >> 48) as u32 | (hop.src >> 48) as u32;
    if tags == 0 && frame.at.l3 == eth::HEADER {
        // SAFETY: 14 bytes at `link`; the EtherType stays.
        unsafe {
            store64(link, hop.dst & Hop::MAC | hop.src << 48);
            store32(link.add(8), (hop.src >> 16) as u32);
        }
        return None;
    }
    (!link::replace(ctx, frame.at.l3, hop.dst, hop.src, 0)).then_some(Reason::DropTags)
}

/// Puts a packet into an outer header from a source address of ours to the member: why not, if it could not be done.
#[inline(always)]
fn wrap<F: Family>(
    ctx: &XdpContext,
    settings: &Settings,
    frame: &Frame<F::Addr>,
    hash: FlowHash,
    member: &Member,
    hop: &Hop,
) -> Option<Reason> {
    let over_ipv4 = member.family == 4;
    if over_ipv4 && F::NUMBER == 6 {
        return Some(Reason::DropInternal);
    }
    let (header, proto, sources) = if over_ipv4 {
        (ipv4::HEADER, eth::IPV4, settings.pool4_len)
    } else {
        (ipv6::HEADER, eth::IPV6, settings.pool6_len)
    };
    if sources == 0 {
        return Some(Reason::DropNoSource);
    }
    let total = frame.at.ip_len + header as u32;
    if total > 0xffff || (hop.mtu() != 0 && total > hop.mtu()) {
        return Some(Reason::DropTooBig);
    }
    let Some(ip) = Window::new(ctx).ptr(frame.at.l3, F::HEADER) else {
        return Some(Reason::DropTruncated);
    };
    // SAFETY: the header is there, and its TTL is above 1.
    let class = unsafe {
        F::decrement(ip);
        F::class(ip)
    };
    if !link::replace(ctx, frame.at.l3, hop.dst, hop.src, (header as u32) << 16 | u32::from(proto)) {
        return Some(Reason::DropTags);
    }
    let (outer, inner) = ((hop.dst >> 48) as u16, (hop.src >> 48) as u16);
    let tags = if outer == 0 { 0 } else { 1 + (inner != 0) as usize };
    let at = eth::HEADER + tags * eth::TAG;
    let window = Window::new(ctx);
    // Several source addresses spread an edge's packets over a receiver's queues, which see the outer header alone.
    let source = by_hash(hash.bucket(), sources) as usize & (MAX_POOL - 1);
    let next = if F::NUMBER == 4 { tunnel::IPV4 } else { tunnel::IPV6 };
    if over_ipv4 {
        let Some(to) = window.ptr(at, ipv4::HEADER) else {
            return Some(Reason::DropTags);
        };
        // SAFETY: so many bytes at `to`.
        unsafe { tunnel::write4(to, settings.pool4[source], member.addr[0], class, frame.at.ip_len as u16) };
    } else {
        let Some(to) = window.ptr(at, ipv6::HEADER) else {
            return Some(Reason::DropTags);
        };
        let len = frame.at.ip_len as u16;
        // SAFETY: so many bytes at `to`.
        unsafe { tunnel::write6(to, &settings.pool6[source], &member.addr, class, hash.bucket(), next, len) };
    }
    None
}
