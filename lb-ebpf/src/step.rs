//! The program in steps, one after the other rather than one within the other.
//!
//! A packet that is not of a known flow passes through several functions. Were each to call the next, their stack frames
//! would add up beyond the kernel's 512 bytes, and the verifier would walk the later ones again for each way through the
//! earlier ones. So each step returns the number of the next, or the verdict, and leaves what it found in a per-CPU
//! record. Nothing interrupts the program on its CPU to run it again, so the record has one user at a time.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::{Called, Flow, FlowKey, ServiceInfo};
use lb_common::hash::FlowHash;

use crate::family::Family;
use crate::frame::{Frame, Layout};
use crate::mem::copy;
use crate::{admit, chance, choose, direct, forward, miss, open};

/// What to do next: a verdict (an XDP action, below 8), or one of these.
pub struct Step;

impl Step {
    /// Look the flow up: the frame was parsed the long way.
    pub const LOOK_UP: u32 = 8;
    /// No known flow: a service's, a half-open flow's, or not ours.
    pub const MISS: u32 = 9;
    /// Open a flow.
    pub const OPEN: u32 = 10;
    /// Choose the member for a flow that has its slot.
    pub const CHOOSE: u32 = 11;
    /// Open it there.
    pub const ADMIT: u32 = 12;
    /// Keep the SYN of the flow that was opened.
    pub const KEEP: u32 = 13;
    /// A backend refused a SYN: another member's chance.
    pub const REFUSED: u32 = 14;
    /// Make the refusal the SYN that it refused.
    pub const REBUILD: u32 = 15;
    /// Nobody else is left: the refusal goes to the client.
    pub const GIVE_UP: u32 = 16;
    /// Forward by the half-open slot that is ours.
    pub const SEND: u32 = 17;
    /// Forward by the flow at hand.
    pub const FORWARD: u32 = 18;
    /// A packet of a service whose backends answer by themselves: find its member.
    pub const DIRECT: u32 = 19;
    /// Send it to the member that was found.
    pub const DELIVER: u32 = 20;
    /// Answer an echo request. Of the program `icmp`.
    pub const ECHO: u32 = 21;
    /// Find the flow that an ICMP error is about.
    pub const ERROR: u32 = 22;
    /// Translate an ICMP error about the flow at hand.
    pub const TRANSLATE: u32 = 23;
    /// Answer the packet at hand with an error. Of the program `expired`.
    pub const ANSWER: u32 = 24;
    /// Follow a first fragment. Of the program `fragment`.
    pub const FOLLOW: u32 = 25;
    /// From here on: the verdict is another program's, [`Called`] by its number above this.
    pub const CALL: u32 = 32;

    /// The step that hands over to a program.
    pub const fn call(program: Called) -> u32 {
        Self::CALL + program as u32
    }
}

/// What one step leaves for the next.
#[repr(C)]
pub struct Work<A> {
    /// What parsing found.
    pub found: Found<A>,
    /// What later steps found.
    pub next: Next<A>,
}

/// A frame that outlives its step.
#[repr(C)]
pub struct Found<A> {
    pub key: FlowKey<A>,
    pub at: Layout,
    /// Of a fragment, while the program `fragment` runs: where a first one's payload ends, where a later one's begins. Else 0.
    pub part: u32,
    /// Of a first fragment: its identification.
    pub id: u32,
}

impl<A> Found<A> {
    /// The frame.
    #[inline(always)]
    pub fn frame(&self) -> Frame<'_, A> {
        Frame { key: &self.key, at: self.at.bounded() }
    }
}

/// What later steps found.
#[repr(C)]
pub struct Next<A> {
    /// The key's hash. From `MISS` on.
    pub hash: FlowHash,
    /// From `MISS` on.
    pub service: ServiceInfo,
    /// TCP sequence number. For `OPEN`.
    pub seq: u32,
    /// For `DELIVER` the member id; else, from `CHOOSE` on, the way of the slot that is ours.
    pub way: u32,
    /// Its owner word. From `CHOOSE` on.
    pub owner: u64,
    /// Whether the slot becomes empty after the packet was sent. For `SEND`.
    pub vacate: u32,
    /// Whether the slot holds another flow. For `CHOOSE` and `ADMIT`.
    pub occupied: u32,
    /// The member chosen. For `ADMIT`.
    pub member: u32,
    /// Why the flow is opened: [`crate::chance::FIRST`], [`crate::chance::REFUSED`] or [`crate::chance::UNANSWERED`]. For
    /// `CHOOSE` and `ADMIT`.
    pub why: u32,
    /// [`Flow::chances`]. For `ADMIT`.
    pub chances: u32,
    /// [`Flow::tried`]. For `CHOOSE` and `ADMIT`.
    pub tried: [u32; 2],
    pub pad: u32,
    /// The reverse key of the attempt that was refused. For `GIVE_UP`.
    pub refused: FlowKey<A>,
    /// The key of the reverse entry.
    pub reverse_key: FlowKey<A>,
    /// A reverse entry under construction.
    pub reverse: Flow<A>,
}

/// Leaves a frame for the next step.
#[inline(always)]
pub fn leave<F: Family>(frame: &Frame<F::Addr>, step: u32) -> u32 {
    let Some(work) = F::work().get_ptr_mut(0) else {
        return aya_ebpf::bindings::xdp_action::XDP_ABORTED;
    };
    // SAFETY: this CPU's.
    let found = unsafe { &mut (*work).found };
    // SAFETY: different places.
    unsafe { copy(&mut found.key, frame.key) };
    found.at = frame.at;
    step
}

/// Runs the steps from `step` on, to the verdict.
#[inline(always)]
pub fn run<F: Family>(ctx: &XdpContext, mut step: u32) -> u32 {
    if step == Step::LOOK_UP {
        step = forward::look_up::<F>(ctx);
    }
    if step == Step::REFUSED {
        step = chance::refused::<F>(ctx);
    }
    if step == Step::MISS {
        step = miss::packet::<F>(ctx);
    }
    if step == Step::DIRECT {
        step = direct::packet::<F>(ctx);
    }
    if step == Step::DELIVER {
        return direct::deliver::<F>(ctx);
    }
    if step == Step::OPEN {
        step = open::flow::<F>(ctx);
    }
    if step == Step::CHOOSE {
        step = choose::member::<F>(ctx);
    }
    if step == Step::ADMIT {
        step = admit::flow::<F>(ctx);
    }
    if step == Step::KEEP {
        step = chance::keep::<F>(ctx);
    }
    if step == Step::REBUILD {
        step = chance::rebuild::<F>(ctx);
    }
    if step == Step::SEND {
        step = open::send::<F>(ctx);
    }
    if step == Step::GIVE_UP {
        step = chance::give_up::<F>(ctx);
    }
    step
}
