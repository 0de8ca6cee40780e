//! Conntrack records: keys, values, half-open slots. Phases and their transitions are in [`crate::conntrack`].

use super::{Addr4, Addr6, Hop, pod};

/// A flow's key: the 5-tuple as it arrives. `ports` is the four bytes at the start of the L4 header as one little-endian
/// load: source port in the low half, destination port in the high half, each in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source and destination port.
    pub ports: u32,
    /// IP protocol number, zero-extended.
    pub proto: u32,
}

/// Key of an IPv4 flow, 16 bytes.
pub type FlowKey4 = FlowKey<Addr4>;
/// Key of an IPv6 flow, 40 bytes.
pub type FlowKey6 = FlowKey<Addr6>;

impl<A: Copy> FlowKey<A> {
    /// The key of the packets that answer this key's packets.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, ports: self.ports.rotate_left(16), proto: self.proto }
    }
}

/// All that forwarding one direction of a flow needs.
///
/// Both directions share the type. The *reverse* entry (backend to edge) is the flow's authority: it exists from the
/// claim of its source port until the port may be used again, and carries `state`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<A> {
    /// Tag of the key ([`crate::hash::tag4`], [`crate::hash::tag6`]), compared after the look-up: preallocated elements are reused at
    /// once, so a value may belong to another key by the time it is read.
    pub tag: u32,
    /// Coarse time of the last packet: jiffies >> [`super::Settings::coarse_shift`].
    pub last_seen: u32,
    /// Source address after the rewrite.
    pub src: A,
    /// Destination address after the rewrite.
    pub dst: A,
    /// Ports after the rewrite, as in [`FlowKey::ports`].
    pub ports: u32,
    /// Change of the IPv4 header's one's-complement sum, the TTL's included (unused for IPv6), folded to 16 bits.
    pub l3_delta: u32,
    /// Change of the L4 checksum's sum: addresses and ports, folded to 16 bits.
    pub l4_delta: u32,
    /// Slot in `TRAFFIC`: [`super::TrafficSlot`].
    pub counter: u32,
    /// [`crate::conntrack::State`], moved by compare-and-swap in the reverse entry, which alone has it: in the forward
    /// entry and in a half-open slot it stays as it was at the flow's first packet.
    pub state: u32,
    /// In the reverse entry the backend's initial sequence number; in the half-open slot the client's. Host order.
    pub seq: u32,
    /// Low 32 bits of jiffies when the flow was opened.
    pub opened: u32,
    /// Member id.
    pub member: u32,
    /// Service id.
    pub service: u32,
    /// [`crate::conntrack::Direction`] of this entry.
    pub direction: u32,
    /// The way back to the client: written by its first packet, refreshed by each packet that differs. The forward entry
    /// keeps it for comparison only; its own next hop is the member's.
    pub hop: Hop,
    /// Jiffies (low 32 bits) of the first answer of the backend, 0 before it. Reverse entry.
    pub answered: u32,
    /// How many other members may still be tried if this one refuses the client's SYN or does not answer it. The same in both
    /// entries and the half-open slot.
    pub chances: u32,
    /// Half-open slot: members that were tried before this one, ids + 1; 0 is none.
    pub tried: [u32; 2],
    /// Zero.
    pub reserved: [u32; 2],
}

/// Value of an IPv4 flow.
pub type FlowV4 = Flow<Addr4>;
/// Value of an IPv6 flow.
pub type FlowV6 = Flow<Addr6>;

/// Slots of a half-open bucket.
pub const HALF_OPEN_WAYS: usize = 4;

/// A half-open flow's forward side. Its reverse entry, and with it its source port, is the slot's while the slot is
/// `LIVE`; promotion hands it to the record queue. So at any time exactly one hand may free it.
///
/// `owner` guards the rest: its low two bits are [`Slot::EMPTY`], [`Slot::BUSY`] or [`Slot::LIVE`], the rest a
/// generation that each change raises. Who swaps a value for `BUSY` owns the slot; who reads the same `LIVE` value before
/// and after has read one flow.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slot<A> {
    /// See above.
    pub owner: u64,
    /// The forward key.
    pub key: FlowKey<A>,
    /// The forward value; becomes the established forward entry when the flow is promoted.
    pub flow: Flow<A>,
    /// The client's SYN, if its flow has chances.
    pub syn: Syn,
}

/// What of a client's SYN is needed to send it once more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syn {
    /// Bits 0-15: window, as loaded; 16-23: flags; 24-31: length of the options in words of four bytes, at most
    /// [`Syn::WORDS`].
    pub head: u32,
    /// Zero.
    pub reserved: u32,
    /// The options, as loaded.
    pub options: [u32; Syn::WORDS],
}

impl Syn {
    /// Most words of options (RFC 9293, section 3.1: 40 bytes).
    pub const WORDS: usize = 10;

    /// Packs what is not an option.
    #[inline(always)]
    pub const fn head(window: u16, flags: u8, words: u32) -> u32 {
        window as u32 | (flags as u32) << 16 | words << 24
    }

    /// The window, as loaded.
    #[inline(always)]
    pub const fn window(head: u32) -> u16 {
        head as u16
    }

    /// The flags.
    #[inline(always)]
    pub const fn flags(head: u32) -> u8 {
        (head >> 16) as u8
    }

    /// Words of options.
    #[inline(always)]
    pub const fn words(head: u32) -> u32 {
        head >> 24 & 0xf
    }
}

impl<A> Slot<A> {
    /// Holds nothing.
    pub const EMPTY: u64 = 0;
    /// Is being changed.
    pub const BUSY: u64 = 1;
    /// Holds a flow.
    pub const LIVE: u64 = 2;
    /// The bits of `owner` that say which.
    pub const STATE: u64 = 3;

    /// The owner word after `owner`, in the given state.
    #[inline(always)]
    pub const fn next(owner: u64, state: u64) -> u64 {
        ((owner | Self::STATE) + 1) | state
    }
}

/// Half-open slot of an IPv4 flow.
pub type SlotV4 = Slot<Addr4>;
/// Half-open slot of an IPv6 flow.
pub type SlotV6 = Slot<Addr6>;

/// A bucket of half-open flows. A newcomer takes an empty or expired slot, else the oldest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bucket<A> {
    /// The slots.
    pub slots: [Slot<A>; HALF_OPEN_WAYS],
}

// The program moves IPv6 addresses by words of eight bytes.
const _: () = assert!(core::mem::offset_of!(FlowV6, src) % 8 == 0 && core::mem::offset_of!(FlowV6, dst) % 8 == 0);

pod! {
    FlowKey4 = 16,
    FlowKey6 = 40,
    FlowV4 = 4 * 2 + 2 * 4 + 10 * 4 + 24 + 4 + 20,
    FlowV6 = 4 * 2 + 2 * 16 + 10 * 4 + 24 + 4 + 20,
    Syn = 48,
    SlotV4 = 8 + 16 + 104 + 48,
    SlotV6 = 8 + 40 + 128 + 48,
    Bucket<Addr4> = 176 * HALF_OPEN_WAYS,
    Bucket<Addr6> = 224 * HALF_OPEN_WAYS,
}
