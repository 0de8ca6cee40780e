//! A service's first packet, in three steps: here the half-open slot is taken, [`crate::choose`] chooses a backend,
//! [`crate::admit`] claims a source port and fills the slot. Then it is forwarded, by [`send`].

use aya_ebpf::programs::XdpContext;
use lb_common::abi::Reason;
use lb_common::wire::{Packet, eth};

use crate::family::Family;
use crate::frame::{Frame, Window};
use crate::half_open::{self, Owned};
use crate::maps::{MEMBERS, SETTINGS};
use crate::step::{Next, Step, Work};
use crate::time::jiffies;
use crate::{chance, count, expire, forward};

/// Begins a flow: its verdict if it is refused, else [`Step::CHOOSE`].
///
/// Whatever can be refused without knowing the member is refused before the member is chosen, the half-open slot
/// included, so that round robin's cursor counts opened flows. What is refused for the member's sake does take its turn:
/// if it did not, one member without a free port would hold up the whole service.
#[inline(never)]
pub fn flow<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let Frame { key, at } = found.frame();
    let service = next.service.id;
    if F::pool_len(settings) == 0 || settings.port_count == 0 {
        return count::drop_of(service, Reason::DropNoSource);
    }
    let Some(link) = Window::new(ctx).ptr(0, eth::HEADER) else {
        return count::drop(Reason::DropInternal);
    };
    let back = forward::way_back(ctx.ingress_ifindex() as u32, link, at.tags);
    if back.dst & 1 != 0 || !back.is_resolved() {
        return count::drop_of(service, Reason::DropMartian);
    }
    let claimed = half_open::bucket::<F>(next.hash, settings.half_open_mask)
        .and_then(|bucket| half_open::claim::<F>(bucket, jiffies() as u32, settings.seed));
    let Some((owned, occupied)) = claimed else {
        return count::drop_of(service, Reason::DropBusy);
    };
    next.reverse.hop = back;
    chance::first(next, key.proto);
    (next.way, next.owner, next.occupied) = (owned.way, owned.owner, u32::from(occupied));
    Step::CHOOSE
}

/// The slot that [`flow`] took.
#[inline(always)]
pub fn taken<F: Family>(next: &Next<F::Addr>, mask: u32) -> Option<Owned<F::Addr>> {
    let bucket = half_open::bucket::<F>(next.hash, mask)?;
    Some(Owned { slot: half_open::slot_at(bucket, next.way as usize), way: next.way, owner: next.owner })
}

/// Refuses the flow: gives the slot back as it was, and counts. Where it was another member's already, that goes on with
/// it.
#[inline(always)]
pub fn refuse<F: Family>(owned: Owned<F::Addr>, next: &mut Next<F::Addr>, reason: Reason) -> u32 {
    if next.why == chance::UNANSWERED {
        next.vacate = 0;
        return Step::SEND;
    }
    if next.why == chance::REFUSED {
        owned.keep();
        return Step::GIVE_UP;
    }
    if next.occupied != 0 {
        owned.keep()
    } else {
        owned.vacate()
    }
    count::drop_of(next.service.id, reason)
}

/// Forwards a packet by the half-open slot that is ours, gives the slot back, and examines two records.
#[inline(never)]
pub fn send<F: Family>(ctx: &XdpContext) -> u32 {
    let (Some(settings), Some(work)) = (SETTINGS.get(0), F::work().get_ptr_mut(0)) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let Work { found, next } = unsafe { &mut *work };
    let frame = found.frame();
    let Some(owned) = taken::<F>(next, settings.half_open_mask) else {
        return count::drop(Reason::DropInternal);
    };
    let vacate = next.vacate;
    // SAFETY: the slot is ours.
    let member = MEMBERS.get_ptr(unsafe { (*owned.flow()).member });
    let verdict = match member {
        Some(member) => {
            // SAFETY: an array's value.
            let hop = unsafe { &(*member).hop };
            let ingress = ctx.ingress_ifindex() as u32;
            forward::send::<F>(ctx, ingress, Window::new(ctx), settings, &frame, owned.flow(), hop)
        }
        None => count::drop(Reason::DropInternal),
    };
    if vacate != 0 {
        owned.vacate()
    } else {
        owned.keep()
    }
    expire::some::<F>();
    verdict
}
