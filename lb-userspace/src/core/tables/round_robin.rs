//! Round robin with weights: one cycle of picks, each member's spread as evenly as it goes.
//!
//! The kernel's cursor walks the table, so equal weights give exactly equal counts over a cycle.

use std::sync::Arc;

use super::{Entry, apportion};

/// Builds one cycle: as long as the weights without their common divisor, at most `limit` slots.
pub fn build(entries: &[Entry], limit: u32) -> Arc<[u32]> {
    let divisor = entries.iter().fold(0, |d, e| gcd(d, u64::from(e.weight))).max(1);
    let weights: Vec<u64> = entries.iter().map(|e| u64::from(e.weight) / divisor).collect();
    let counts = match u32::try_from(weights.iter().sum::<u64>()) {
        // Each is at most the sum, which fits.
        Ok(sum) if sum <= limit => weights.iter().map(|&w| w as u32).collect(),
        _ => apportion(&weights, limit),
    };
    interleave(entries, &counts)
}

/// Puts the k-th of a member's n picks at (2k + 1) / 2n of the cycle; ties go by name.
fn interleave(entries: &[Entry], counts: &[u32]) -> Arc<[u32]> {
    let mut picks: Vec<(u64, u64, usize)> = Vec::with_capacity(counts.iter().map(|&n| n as usize).sum());
    for (i, &n) in counts.iter().enumerate() {
        picks.extend((0..u64::from(n)).map(|k| (2 * k + 1, u64::from(n), i)));
    }
    picks.sort_unstable_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)).then(a.2.cmp(&b.2)));
    picks.into_iter().map(|(_, _, i)| entries[i].id).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::{count, entries};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_robin_equal_weights_takes_strict_turns() {
        assert_eq!(build(&entries(&[768, 768, 768]), 65_521)[..], [100, 101, 102]);
    }

    #[test]
    fn round_robin_unequal_weights_interleaves() {
        assert_eq!(build(&entries(&[1280, 256, 256]), 65_521)[..], [100, 100, 100, 101, 102, 100, 100]);
        assert_eq!(build(&entries(&[512, 256]), 65_521)[..], [100, 101, 100]);
    }

    #[test]
    fn round_robin_weights_over_the_limit_are_apportioned() {
        let slots = build(&entries(&[65_535 * 256, 256, 32_768 * 256]), 1009);
        assert_eq!(slots.len(), 1009);
        let counts = count(&slots);
        assert_eq!(counts[&101], 1);
        assert!((671..=673).contains(&counts[&100]), "{counts:?}");
    }

    proptest! {
        #[test]
        fn round_robin_any_weights_gives_each_its_exact_count_spread_out(
            weights in proptest::collection::vec(1u32..200, 1..20),
        ) {
            let members = entries(&weights.iter().map(|w| w * 256).collect::<Vec<_>>());
            let slots = build(&members, 65_521);
            let counts = count(&slots);
            let sum: u32 = weights.iter().sum();
            for (member, weight) in members.iter().zip(&weights) {
                prop_assert_eq!(counts[&member.id] * sum, weight * slots.len() as u32);
                // No stretch of the cycle holds more than its share, by more than one pick in each direction.
                let mut seen = 0;
                for (i, &slot) in slots.iter().enumerate() {
                    seen += u32::from(slot == member.id);
                    let due = f64::from(*weight) * (i + 1) as f64 / f64::from(sum);
                    prop_assert!((f64::from(seen) - due).abs() <= members.len() as f64, "{} of {}", seen, due);
                }
            }
        }
    }
}
