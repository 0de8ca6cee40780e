//! Picking an index in a service's selection table. The table's content is user space's; the kernel only picks.

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
