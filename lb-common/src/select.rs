//! Picking an index in a service's selection table. The table's content is user space's; the kernel only picks.

use crate::abi::{Algorithm, FlowKey};

/// Index for a hash: a multiplication instead of a division (Lemire 2016, "fast range").
#[inline(always)]
pub const fn by_hash(hash: u32, size: u32) -> u32 {
    ((hash as u64 * size as u64) >> 32) as u32
}

/// Index for round robin's cursor. A `size` of 0 yields 0.
#[inline(always)]
pub const fn by_cursor(cursor: u64, size: u32) -> u32 {
    if size == 0 { 0 } else { (cursor % size as u64) as u32 }
}

/// The parts of a flow's key that an algorithm (its number) hashes; the others are zero. `none` is the zero address.
#[inline(always)]
pub fn fields<A: Copy>(key: &FlowKey<A>, none: A, algorithm: u8) -> FlowKey<A> {
    let FlowKey { mut src, mut dst, mut ports, mut proto } = *key;
    if algorithm == Algorithm::Source as u8 {
        // The client alone, so that it has the same backend in all services with the same members.
        (dst, ports, proto) = (none, 0, 0);
    } else if algorithm == Algorithm::Addresses as u8 {
        ports = 0;
    } else if algorithm == Algorithm::Destination as u8 {
        (src, ports) = (none, ports & 0xffff_0000);
    }
    FlowKey { src, dst, ports, proto }
}

/// Whether the second of two members carries less than the first for its weight, were each given one more flow. Each is
/// (active flows, weight); a member of weight 0 is never taken for another.
#[inline(always)]
pub const fn is_lighter(first: (u64, u32), second: (u64, u32)) -> bool {
    // A weight has 24 bits: no product overflows.
    const MOST: u64 = (1 << 39) - 1;
    ((second.0 & MOST) + 1) * (first.1 as u64) < ((first.0 & MOST) + 1) * second.1 as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn index_is_within_the_table(hash: u32, cursor: u64, size in 1u32..=(1 << 22)) {
            prop_assert!(by_hash(hash, size) < size);
            prop_assert!(by_cursor(cursor, size) < size);
        }

        #[test]
        fn lighter_is_the_smaller_quotient(a in 0u64..1 << 32, w in 1u32..1 << 24, b in 0u64..1 << 32, v in 1u32..1 << 24) {
            let exact = (u128::from(b) + 1) * u128::from(w) < (u128::from(a) + 1) * u128::from(v);
            prop_assert_eq!(is_lighter((a, w), (b, v)), exact);
            prop_assert!(!(is_lighter((a, w), (b, v)) && is_lighter((b, v), (a, w))));
        }
    }

    #[test]
    fn lighter_equal_members_stay_in_turn_and_a_weightless_one_is_never_taken() {
        assert!(!is_lighter((3, 256), (3, 256)));
        assert!(!is_lighter((3, 256), (0, 0)));
        assert!(is_lighter((0, 0), (9, 256)));
        assert!(!is_lighter((0, 0), (0, 0)));
        // Twice the weight carries twice the flows.
        assert!(!is_lighter((9, 256), (19, 512)) && is_lighter((9, 256), (18, 512)));
    }

    #[test]
    fn fields_are_those_of_the_algorithm() {
        let key = FlowKey { src: 1u32, dst: 2, ports: 0x5000_1234, proto: 6 };
        let of = |algorithm: Algorithm| fields(&key, 0, algorithm as u8);
        assert_eq!(of(Algorithm::Maglev), key);
        assert_eq!(of(Algorithm::Source), FlowKey { src: 1, dst: 0, ports: 0, proto: 0 });
        assert_eq!(of(Algorithm::Addresses), FlowKey { ports: 0, ..key });
        assert_eq!(of(Algorithm::Destination), FlowKey { src: 0, ports: 0x5000_0000, ..key });
    }

    #[test]
    fn by_hash_covers_the_table_evenly() {
        let mut counts = [0u32; 1009];
        for i in 0..1_009_000u32 {
            counts[by_hash(i.wrapping_mul(0x9e37_79b1), 1009) as usize] += 1;
        }
        assert!(counts.iter().all(|&n| (990..=1010).contains(&n)));
    }
}
