//! A fragment of an IPv4 or IPv6 packet.

/// A fragment, first or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Offset in the frame of what it brings of the whole packet: L4's header, if it is the first.
    pub at: usize,
    /// Protocol of the whole packet.
    pub proto: u8,
    /// Length of this IP packet, header included, in bytes.
    pub ip_len: u32,
    /// The identification, as loaded; IPv4's in the low half.
    pub id: u32,
    /// Where what it brings belongs in the whole packet, in bytes.
    pub offset: u32,
    /// How much it brings, in bytes.
    pub len: u32,
    /// Whether others come behind it.
    pub more: bool,
}

impl Part {
    /// Whether a packet can have such a part: in units of eight bytes unless it is the last (RFC 791, section 3.2; RFC 8200,
    /// section 4.5), within what a length field can say, and not empty.
    #[inline(always)]
    pub const fn is_possible(&self) -> bool {
        self.len != 0 && (!self.more || self.len.is_multiple_of(8)) && self.offset + self.len <= 0xffff
    }
}
