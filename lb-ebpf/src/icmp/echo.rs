//! Echo: an edge that answers for its VIPs shows that packets reach the program, not only the host.

use aya_ebpf::{bindings::xdp_action::XDP_TX, programs::XdpContext};
use lb_common::abi::Reason;
use lb_common::checksum::update;
use lb_common::wire::load::{load16, store16};
use lb_common::wire::{Packet, eth, icmp};

use crate::count;
use crate::family::Family;
use crate::frame::Window;
use crate::link;

/// Turns the request in [`crate::step::Work`] into its answer (RFC 792; RFC 4443, section 4.2). A wrong checksum stays
/// wrong, so who asked refuses the answer.
#[inline(never)]
pub fn answer<F: Family>(ctx: &XdpContext) -> u32 {
    let Some(work) = F::work().get_ptr(0) else {
        return count::drop(Reason::DropInternal);
    };
    // SAFETY: this CPU's.
    let frame = unsafe { &*work }.found.frame();
    let window = Window::new(ctx);
    let (Some(link), Some(ip), Some(head)) =
        (window.ptr(0, eth::HEADER), window.ptr(frame.at.l3, F::HEADER), window.ptr(frame.at.l4, icmp::HEADER))
    else {
        return count::drop(Reason::DropTruncated);
    };
    // SAFETY: the headers are there.
    unsafe {
        link::turn_round(link);
        F::turn_round(ip, &frame.key.src, &frame.key.dst);
        // Type and code are one word of the checksum; exchanged addresses do not change the pseudo-header's sum.
        let (old, check) = (load16(head), load16(head.add(icmp::CHECK)));
        let new = old & 0xff00 | u16::from(F::ECHO_REPLY);
        store16(head, new);
        store16(head.add(icmp::CHECK), update(check, u64::from(!old) + u64::from(new)));
    }
    count::sent(Reason::TxEcho);
    XDP_TX
}
