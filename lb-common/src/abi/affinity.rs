//! Which member a client had: the memory of source affinity. It owns nothing, so it may forget.

use super::{Addr6, pod};

/// Most clients remembered at once, over all services and both families.
pub const MAX_AFFINITIES: u32 = 65536;

/// A client of a service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    /// The client's address; IPv4 in word 0, the rest zero.
    pub client: Addr6,
    /// Service id.
    pub service: u32,
}

/// Its member.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Member id. Ids are used again: whether it is a member of the service that takes new flows is its entry's to say.
    pub member: u32,
    /// Low 32 bits of jiffies when the client opened its latest flow.
    pub seen: u32,
}

impl Affinity {
    /// Whether it still holds, `limit` jiffies after the latest flow at most.
    #[inline(always)]
    pub const fn holds(&self, now: u32, limit: u32) -> bool {
        let age = now.wrapping_sub(self.seen);
        // Two CPUs' clocks may differ by a jiffy.
        age <= limit || age == u32::MAX
    }
}

pod! { AffinityKey = 20, Affinity = 8 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_ends_after_its_limit_and_survives_the_wrap() {
        let one = Affinity { member: 1, seen: u32::MAX - 1 };
        assert!(one.holds(u32::MAX - 1, 10) && one.holds(8, 10) && one.holds(u32::MAX - 2, 10));
        assert!(!one.holds(9, 10) && !one.holds(u32::MAX - 3, 10));
    }
}
