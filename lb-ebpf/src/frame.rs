//! The packet at hand: its memory, and what parsing found.

use aya_ebpf::programs::XdpContext;
use lb_common::abi::FlowKey;
use lb_common::wire::Packet;

/// Packet memory. Void after `bpf_xdp_adjust_*`: take a new one.
#[derive(Clone, Copy)]
pub struct Window {
    data: usize,
    end: usize,
    /// Bytes at the start that were checked to be there: a constant wherever it is not 0.
    sure: usize,
}

impl Window {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        let (data, end): (usize, usize);
        // SAFETY: `xdp_md` begins with `data` and `data_end`, four bytes each, which the verifier turns into pointers.
        // Loaded here, because the compiler, seeing 32 bits, may move them with 32-bit instructions, and that turns a
        // packet pointer into a number. Not `pure`: two windows of one function must not be merged, or a check that
        // follows from another is removed that the verifier still needs.
        unsafe {
            core::arch::asm!(
                "{data} = *(u32 *)({ctx} + 0)",
                "{end} = *(u32 *)({ctx} + 4)",
                ctx = in(reg) ctx.ctx,
                data = out(reg) data,
                end = lateout(reg) end,
                options(readonly, nostack),
            );
        }
        Self { data, end, sure: 0 }
    }

    /// The same memory after one check for its first `len` bytes, so that none within them is checked again.
    #[inline(always)]
    pub fn with(self, len: usize) -> Option<Self> {
        if self.data + len > self.end { None } else { Some(Self { sure: len, ..self }) }
    }
}

impl Packet for Window {
    #[inline(always)]
    fn ptr(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let at = self.data + offset;
        if self.sure >= len && offset <= self.sure - len {
            return Some(at as *mut u8);
        }
        if at + len > self.end { None } else { Some(at as *mut u8) }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        let mut len = self.end - self.data;
        // SAFETY: no instruction. The compiler must not conclude from a comparison of lengths that a pointer is in
        // bounds: the verifier only believes comparisons of pointers.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) len, options(pure, nomem, nostack)) };
        len
    }
}

/// Bound of `l3`: an Ethernet header and two tags.
const L3: usize = 0x1f;
/// Bound of `l4`: see [`lb_common::wire::ipv6::MAX_CHAIN`].
const L4: usize = 0xfff;

/// What parsing found.
pub struct Frame<'a, A> {
    /// The 5-tuple as it arrived.
    pub key: &'a FlowKey<A>,
    /// Where headers are.
    pub at: Layout,
}

/// Where headers are.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Layout {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the L4 header.
    pub l4: usize,
    /// Length of the IP packet.
    pub ip_len: u32,
    /// TCIs of outer (low half) and inner tag (high half), as loaded; 0 is none, see [`lb_common::wire::eth::Link`].
    pub tags: u32,
}

impl Layout {
    /// Bytes from the L4 header to the end of the IP packet.
    #[inline(always)]
    pub fn room(&self) -> u32 {
        (self.l3 as u32 + self.ip_len).wrapping_sub(self.l4 as u32)
    }

    /// A copy whose offsets the verifier can bound, of one that lies in a map.
    #[inline(always)]
    pub fn bounded(&self) -> Self {
        Self { l3: self.l3 & L3, l4: self.l4 & L4, ..*self }
    }
}

/// The same number, but the verifier forgets what it knew of it beyond `0..=mask`.
///
/// Each value that the verifier tracks, such as one of four ways of a bucket, is a state of its own, and all that follows
/// is verified again for each. `unknown` is any value that the verifier cannot know, such as one read from a map.
#[inline(always)]
pub fn forget(n: usize, mask: usize, unknown: u32) -> usize {
    let mut n = n as u64;
    // SAFETY: arithmetic on registers.
    unsafe {
        core::arch::asm!(
            "{n} += {u}",
            "{n} -= {u}",
            n = inout(reg) n,
            u = in(reg) u64::from(unknown),
            options(pure, nomem, nostack),
        );
    }
    n as usize & mask
}
