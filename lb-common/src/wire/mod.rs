//! Wire formats: where fields stand, and what a well-formed packet is.
//!
//! Everything is generic over [`Packet`], so the program and the tests run the same code. Fields are read by wide loads
//! from raw pointers ([`load`]): byte-wise reads, which network-types' accessors become on BPF, cost more than twice the
//! instructions. Offsets and numbers are network-types'.

pub mod eth;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod load;
mod part;
pub mod tunnel;

pub use part::Part;

/// Packet memory with bounds.
pub trait Packet {
    /// The address of `len` bytes at `offset`, if all of them are there.
    fn ptr(&self, offset: usize, len: usize) -> Option<*mut u8>;

    /// Length of the frame in bytes.
    fn len(&self) -> usize;

    /// Whether the frame has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a packet is refused or passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Shorter than its own length fields say.
    Truncated,
    /// A field that cannot be.
    Malformed,
    /// The first of several fragments: it has the ports, its followers do not.
    FirstFragment,
    /// A later fragment: no ports.
    LaterFragment,
}

/// Where the L4 header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Offset of the L4 header in the frame.
    pub l4: usize,
    /// Protocol of that header.
    pub proto: u8,
    /// Length of the IP packet, header included, in bytes.
    pub ip_len: u32,
}

/// Packets in memory, for tests and for building them.
impl Packet for &mut [u8] {
    fn ptr(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        (end <= <[u8]>::len(self)).then(|| self.as_ptr().wrapping_add(offset).cast_mut())
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

#[cfg(test)]
mod tests;
