//! Selection tables: which member each slot names. Pure functions of names, ids and effective weights.
//!
//! Owns the slots' content, not where they lie in the arena ([`super::alloc`]) nor which weights hold
//! ([`super::weight`]).

pub mod maglev;
pub mod round_robin;

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::abi::ServiceKey;

use super::kernel::MemberId;
use crate::config::model::{Algorithm, BackendName};

/// A member that gets slots. Its name, not its id or place in the file, decides where they lie.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The backend.
    pub name: BackendName,
    /// What the slots hold.
    pub id: MemberId,
    /// Effective weight in 1/256, above 0.
    pub weight: u32,
}

/// What a table is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// How the service's flows are spread.
    pub algorithm: Algorithm,
    /// The service's table size.
    pub size: u32,
    /// Members with weight, sorted by name.
    pub entries: Vec<Entry>,
}

impl Recipe {
    /// Sorts the entries, so that their order does not matter.
    pub fn new(algorithm: Algorithm, size: u32, mut entries: Vec<Entry>) -> Self {
        entries.sort();
        Self { algorithm, size, entries }
    }

    /// Builds the table. Without entries it is empty: new flows are refused.
    pub fn build(&self) -> Arc<[u32]> {
        match self.algorithm {
            _ if self.entries.is_empty() => Arc::from([]),
            Algorithm::Maglev | Algorithm::Source => maglev::build(&self.entries, self.size),
            Algorithm::RoundRobin | Algorithm::LeastConn => round_robin::build(&self.entries, self.size),
        }
    }
}

/// The last table of each service: building is the costly part of a plan, and most plans change one service.
#[derive(Debug, Default)]
pub struct Cache(BTreeMap<ServiceKey, (Recipe, Arc<[u32]>)>);

impl Cache {
    /// The table for this recipe, built only if the service's recipe changed.
    pub fn table(&mut self, service: ServiceKey, recipe: Recipe) -> Arc<[u32]> {
        match self.0.get(&service) {
            Some((known, slots)) if *known == recipe => slots.clone(),
            _ => {
                let slots = recipe.build();
                self.0.insert(service, (recipe, slots.clone()));
                slots
            }
        }
    }

    /// Forgets services that are gone.
    pub fn retain(&mut self, keep: impl Fn(&ServiceKey) -> bool) {
        self.0.retain(|key, _| keep(key));
    }
}

/// Splits `size` slots by weight: largest remainders, ties by position; at least one slot each as long as there are
/// enough. The sum is `size`.
pub fn apportion(weights: &[u64], size: u32) -> Vec<u32> {
    let sum: u64 = weights.iter().sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |w: u64| u128::from(w) * u128::from(size);
    // A quotient is at most `size`, so it fits.
    let mut counts: Vec<u32> = weights.iter().map(|&w| (exact(w) / u128::from(sum)) as u32).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(exact(weights[i]) % u128::from(sum)), i));
    let rest = size - counts.iter().sum::<u32>();
    for &i in order.iter().take(rest as usize) {
        counts[i] += 1;
    }
    // The smallest get their one slot from whoever has most.
    while let Some(poor) = counts.iter().position(|&n| n == 0) {
        let rich = (0..counts.len()).max_by_key(|&i| (counts[i], std::cmp::Reverse(i))).filter(|&i| counts[i] > 1);
        let Some(rich) = rich else { break };
        counts[rich] -= 1;
        counts[poor] = 1;
    }
    counts
}

/// How many slots each member has.
pub fn count(slots: &[u32]) -> BTreeMap<MemberId, u32> {
    // Neighbouring slots often differ, so a sort beats a map look-up per slot.
    let mut sorted: Vec<u32> = slots.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}

#[cfg(test)]
pub(crate) fn entries(weights: &[u32]) -> Vec<Entry> {
    let name = |i| BackendName::new(&format!("backend-{i}")).unwrap();
    weights.iter().enumerate().map(|(i, &weight)| Entry { name: name(i), id: 100 + i as u32, weight }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn apportion_any_weights_sums_up_within_one_of_the_share(
            weights in proptest::collection::vec(1u64..1_000_000, 1..40),
            size in 40u32..70_000,
        ) {
            let counts = apportion(&weights, size);
            prop_assert_eq!(counts.iter().sum::<u32>(), size);
            let sum: u64 = weights.iter().sum();
            let raised = weights.iter().filter(|&&w| w * u64::from(size) < sum).count() as f64;
            for (&count, &weight) in counts.iter().zip(&weights) {
                let exact = weight as f64 * f64::from(size) / sum as f64;
                prop_assert!(count >= 1);
                prop_assert!((f64::from(count) - exact).abs() <= 1.0 + raised, "{} for {}", count, exact);
            }
        }
    }

    #[test]
    fn apportion_fewer_slots_than_members_gives_none_twice() {
        assert_eq!(apportion(&[1, 1, 5], 2), [1, 0, 1]);
    }

    #[test]
    fn cache_same_recipe_returns_the_same_table() {
        let key = ServiceKey { addr: [1, 0, 0, 0], port: 80, proto: 6, family: 4 };
        let mut cache = Cache::default();
        let mut turned = entries(&[256, 512, 256]);
        let first = cache.table(key, Recipe::new(Algorithm::Maglev, 1009, turned.clone()));
        turned.reverse();
        let second = cache.table(key, Recipe::new(Algorithm::Maglev, 1009, turned.clone()));
        assert!(Arc::ptr_eq(&first, &second));
        turned.pop();
        assert!(!Arc::ptr_eq(&first, &cache.table(key, Recipe::new(Algorithm::Maglev, 1009, turned))));
    }
}
