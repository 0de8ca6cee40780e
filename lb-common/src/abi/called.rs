//! Programs that other programs reach by tail call.

/// Size of `PROGRAMS`; room for programs to come.
pub const MAX_CALLED: u32 = 16;

/// A program reached by tail call. Its number is its index in `PROGRAMS`.
///
/// It begins with a fresh stack and with the packet alone, which is as it arrived: nothing else is handed over, for after
/// an upgrade the caller may be another build's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Called {
    /// ICMP and ICMPv6 to one of our addresses.
    Icmp = 0,
    /// TCP or UDP of a flow or for a service, whose TTL or hop limit would reach zero.
    Expired = 1,
    /// Fragments to an address that may be ours.
    Fragment = 2,
}

impl Called {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Icmp, Self::Expired, Self::Fragment];

    /// The program's name in the object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Expired => "expired",
            Self::Fragment => "fragment",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn called_programs_stand_at_their_number() {
        for (at, called) in Called::ALL.into_iter().enumerate() {
            assert_eq!(called as usize, at);
            assert!((called as u32) < MAX_CALLED);
        }
    }
}
