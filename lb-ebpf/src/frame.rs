//! The packet at hand: its memory, and what parsing found.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::FlowKey;
use lb_common::hash::FlowHash;
use lb_common::wire::Packet;

/// Packet memory. Void after `bpf_xdp_adjust_*`: take a new one.
#[derive(Clone, Copy)]
pub struct Window {
    data: usize,
    end: usize,
}

impl Window {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end() }
    }
}

impl Packet for Window {
    #[inline(always)]
    fn ptr(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let at = self.data + offset;
        if at + len > self.end { None } else { Some(at as *mut u8) }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.data
    }
}

/// Offsets that the verifier can bound in functions that get a [`Frame`] through memory.
const OFFSET: usize = 0xfff;

/// What parsing found.
pub struct Frame<A> {
    /// The 5-tuple as it arrived.
    pub key: FlowKey<A>,
    /// Its hash.
    pub hash: FlowHash,
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the L4 header.
    pub l4: usize,
    /// Length of the IP packet.
    pub ip_len: u32,
    /// TCIs of outer (low half) and inner tag (high half), as loaded.
    pub tags: u32,
}

impl<A> Frame<A> {
    /// Offset of the IP header, bounded anew.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        self.l3 & OFFSET
    }

    /// Offset of the L4 header, bounded anew.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        self.l4 & OFFSET
    }
}
