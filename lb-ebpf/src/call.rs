//! Other programs, reached by tail call: what is rare and needs much stack or many instructions. See [`Called`].

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Called, Reason};

use crate::count;
use crate::maps::PROGRAMS;
use crate::step::Step;

/// Hands the packet over to the program that a step at or above [`Step::CALL`] names. The result is the verdict where
/// that program is missing: ICMP passes, or the host would lose its neighbours; a packet of ours is dropped.
#[inline(always)]
pub fn program(ctx: &XdpContext, step: u32) -> u32 {
    // SAFETY: its entries are XDP programs. Returns only if there is none.
    unsafe { PROGRAMS.tail_call(ctx, step - Step::CALL) };
    if step == Step::call(Called::Icmp) {
        count::pass(Reason::PassNoProgram)
    } else {
        count::drop(Reason::DropNoProgram)
    }
}
