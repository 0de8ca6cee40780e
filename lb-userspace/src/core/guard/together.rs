//! Changes of several services at once: a server that goes out of all its services leaves the flows of all of them to the
//! others. And N-1, which is such a change for each server in turn.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::spread::Spread;
use super::{Assessment, Change, Pool, Verdict, assess};
use crate::config::model::BackendName;

/// Answers for changes of several pools that happen together, each given by the pool's place. What members have elsewhere
/// after them is worked out here.
pub fn assess_together<'a>(pools: &mut [Pool<'a>], changes: &[(usize, Change<'a>)]) -> Vec<Assessment> {
    spread_together(pools, changes);
    changes.iter().map(|(place, change)| assess(&pools[*place], *change)).collect()
}

/// N-1: for each pool the server in rotation whose loss, out of all its services, the others would bear worst, and the
/// answer for it; of equally bad ones, that with the most flows. `None`: nobody is in rotation. Work grows with the number
/// of members, not with its square: the worst is among [`candidates`].
pub fn worst_losses<'a>(pools: &mut [Pool<'a>]) -> Vec<Option<(&'a BackendName, Assessment)>> {
    let lost: BTreeSet<&BackendName> = pools.iter().flat_map(candidates).collect();
    let mut worst: Vec<Option<(Key<'a>, Assessment)>> = pools.iter().map(|_| None).collect();
    for backend in lost {
        let changes: Vec<_> = (0..pools.len())
            .filter(|place| pools[*place].members.iter().any(|m| m.backend == backend && m.weight > 0))
            .map(|place| (place, Change::Out(backend)))
            .collect();
        spread_together(pools, &changes);
        for (place, change) in changes {
            let pool = &pools[place];
            let flows = pool.members.iter().find(|m| m.backend == backend).and_then(|m| m.flows);
            let key = (Spread::new(pool, change).verdict(pool), flows, Reverse(backend));
            if worst[place].as_ref().is_none_or(|(other, _)| key > *other) {
                worst[place] = Some((key, assess(pool, change)));
            }
        }
    }
    worst.into_iter().map(|worst| worst.map(|((_, _, Reverse(backend)), assessment)| (backend, assessment))).collect()
}

/// By what losses are compared.
type Key<'a> = (Verdict, Option<u64>, Reverse<&'a BackendName>);

/// Of a pool, servers among which the worst loss is. What member i would have without m, per its weight, is the larger of
/// all flows over the weights that are left, and of its own and its part of m's flows: the first grows with the weight of
/// m, the second with m's flows over the weights that are left. So whatever i can carry, the first by each of these that is
/// not i itself is the worst. The two with the most flows are for those that are equally bad.
fn candidates<'a>(pool: &Pool<'a>) -> Vec<&'a BackendName> {
    let serving: Vec<_> = pool.members.iter().filter(|m| m.weight > 0).collect();
    let sum: u64 = serving.iter().map(|m| u64::from(m.weight)).sum();
    let out = pool.members.iter().filter(|m| m.weight == 0);
    let moving = out.fold(0_u64, |moving, m| moving.saturating_add(m.flows.unwrap_or(0)));
    let mut found = Vec::new();
    let mut first_two = |key: &dyn Fn(&super::Member<'a>) -> (f64, u64)| {
        let mut by: Vec<_> = serving.iter().map(|m| (key(m), Reverse(m.backend))).collect();
        by.sort_by(|a, b| b.0.0.total_cmp(&a.0.0).then(b.0.1.cmp(&a.0.1)).then(b.1.cmp(&a.1)));
        found.extend(by.iter().take(2).map(|(_, Reverse(backend))| *backend));
    };
    first_two(&|m| (f64::from(m.weight), 0));
    first_two(&|m| {
        let left = sum - u64::from(m.weight);
        let moved = moving.saturating_add(m.flows.unwrap_or(0));
        (if left == 0 { f64::INFINITY } else { moved as f64 / left as f64 }, moved)
    });
    first_two(&|m| (0.0, m.flows.unwrap_or(0)));
    found
}

/// Works out what each member of the changed pools has elsewhere once all of them have changed.
fn spread_together<'a>(pools: &mut [Pool<'a>], changes: &[(usize, Change<'a>)]) {
    let more: Vec<Vec<u64>> = changes
        .iter()
        .map(|(place, change)| {
            let (pool, after) = (&pools[*place], Spread::new(&pools[*place], *change));
            let more =
                |(index, m): (usize, &super::Member<'_>)| Some(after.expected(index, m)?.saturating_sub(m.flows?));
            pool.members.iter().enumerate().map(|one| more(one).unwrap_or(0)).collect()
        })
        .collect();
    let mut sums: BTreeMap<&BackendName, u64> = BTreeMap::new();
    for ((place, _), more) in changes.iter().zip(&more) {
        for (member, more) in pools[*place].members.iter().zip(more) {
            let sum = sums.entry(member.backend).or_default();
            *sum = sum.saturating_add(*more);
        }
    }
    for ((place, _), more) in changes.iter().zip(&more) {
        for (member, more) in pools[*place].members.iter_mut().zip(more) {
            let others = sums.get(member.backend).copied().unwrap_or(0).saturating_sub(*more);
            member.elsewhere.1 = member.elsewhere.0.saturating_add(others);
        }
    }
}
