//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section
//! 3.4) with weights.
//!
//! Each backend has its own permutation of the slots, from its name alone, and backends take turns at claiming their
//! next free one. A weight is the number of slots to claim; turns come in proportion to it.

use std::sync::Arc;

use lb_common::abi::NO_MEMBER;
use lb_common::hash::mix;

use super::{Entry, apportion};

/// A backend's walk through its permutation.
struct Walk {
    position: u32,
    step: u32,
    /// Slots still to claim.
    left: u32,
    /// Turns saved up, in units of the largest weight.
    credit: u64,
}

/// Builds a table of `size` slots, a prime above the number of entries; a prime, so that every step visits all slots.
pub fn build(entries: &[Entry], size: u32) -> Arc<[u32]> {
    let weights: Vec<u64> = entries.iter().map(|e| u64::from(e.weight)).collect();
    let largest = weights.iter().copied().max().unwrap_or(0);
    let mut walks: Vec<Walk> = entries
        .iter()
        .zip(apportion(&weights, size))
        .map(|(entry, left)| {
            let (position, step) = permutation(entry.name.as_str(), size);
            Walk { position, step, left, credit: 0 }
        })
        .collect();
    let mut slots = vec![NO_MEMBER; size as usize];
    let mut open: u32 = walks.iter().map(|w| w.left).sum();
    while open > 0 {
        for ((walk, entry), &weight) in walks.iter_mut().zip(entries).zip(&weights) {
            walk.credit += weight;
            if walk.left == 0 || walk.credit < largest {
                continue;
            }
            walk.credit -= largest;
            walk.left -= 1;
            open -= 1;
            let slot = walk.claim(&slots);
            slots[slot] = entry.id;
        }
    }
    slots.into()
}

impl Walk {
    /// The next free slot of the permutation. There is one: the counts add up to the table's size.
    fn claim(&mut self, slots: &[u32]) -> usize {
        loop {
            let slot = self.position as usize;
            // Both are below the size, and a subtraction is several times cheaper than a remainder.
            let next = self.position + self.step;
            let size = slots.len() as u32;
            self.position = if next >= size { next - size } else { next };
            if slots[slot] == NO_MEMBER {
                return slot;
            }
        }
    }
}

/// First slot and step of a name. Edge nodes of different versions must agree on it, so it never changes.
fn permutation(name: &str, size: u32) -> (u32, u32) {
    // FNV-1a, then a strong finalizer: short names that differ in one character get unrelated walks.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let (first, second) = (mix(hash), mix(hash.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15));
    let size = u64::from(size);
    // Both remainders are below a u32.
    ((first % size) as u32, (second % (size - 1).max(1) + 1) as u32)
}

#[cfg(test)]
mod tests {
    use super::super::{count, entries};
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    use crate::config::defaults::TABLE_SIZE as DEFAULT;

    #[test]
    fn maglev_permutation_of_a_name_never_changes() {
        assert_eq!(permutation("web-1", 65_521), (26_629, 46_157));
    }

    #[rstest]
    #[case(&[256; 10])]
    #[case(&[256, 512, 768, 2560, 256])]
    #[case(&[128, 25_600, 3_000])]
    fn maglev_weights_hold_within_two_percent(#[case] weights: &[u32]) {
        let members = entries(weights);
        let counts = count(&build(&members, DEFAULT));
        let sum: u32 = weights.iter().sum();
        for member in &members {
            let exact = f64::from(member.weight) / f64::from(sum) * f64::from(DEFAULT);
            let error = (f64::from(counts[&member.id]) - exact).abs() / exact;
            assert!(error < 0.02, "{}: {} instead of {exact}", member.name, counts[&member.id]);
        }
    }

    #[rstest]
    #[case(&[256; 10])]
    #[case(&[256, 256, 512, 256, 768, 256, 256, 1024, 256, 256])]
    fn maglev_removing_one_of_ten_moves_little_more_than_its_share(#[case] weights: &[u32]) {
        let all = entries(weights);
        let before = build(&all, DEFAULT);
        for removed in 0..all.len() {
            let mut rest = all.clone();
            let gone = rest.remove(removed);
            let after = build(&rest, DEFAULT);
            let moved = before.iter().zip(after.iter()).filter(|(a, b)| a != b).count() as f64;
            let own = f64::from(count(&before)[&gone.id]);
            assert!(moved <= 1.2 * own, "{moved} moved for {own} of {}", gone.name);
        }
    }

    proptest! {
        #[test]
        fn maglev_any_weights_leaves_no_slot_free_and_no_member_without(
            weights in proptest::collection::vec(1u32..2_000_000, 1..30),
        ) {
            let members = entries(&weights);
            let slots = build(&members, 1009);
            let counts = count(&slots);
            prop_assert_eq!(counts.len(), members.len());
            prop_assert!(!counts.contains_key(&NO_MEMBER));
        }
    }
}
