//! The operations that lead from one kernel state to another, in the order that keeps every packet between them right.
//!
//! Additions come first, from what is referred to up to what refers: a packet that sees a service finds its descriptor,
//! its slots and its members. Removals come last, the other way round, and what they free is used by no later list
//! without the grace period in between.
//!
//! It trusts the plan ([`super::desired`]) for what cannot be ordered: a changed table lies in a region that `from` does
//! not use, and an id never changes its owner within one step.

use lb_common::abi::Descriptor;

use super::kernel::{KernelState, MapOp};

/// The operations from `from` to `to`.
pub fn diff(from: &KernelState, to: &KernelState) -> Vec<MapOp> {
    let mut ops = Vec::new();
    add_locals(from, to, &mut ops);
    // After the addresses, so that no flow gets a source address whose answers we would not recognise.
    if from.settings != to.settings {
        ops.push(MapOp::Settings(Box::new(to.settings)));
    }
    for (&id, member) in &to.members {
        if from.members.get(&id) != Some(member) {
            ops.push(MapOp::Member(id, *member));
        }
    }
    let replaced = tables_and_services(from, to, &mut ops);
    let removed = remove(from, to, &mut ops);
    let cleared = from.members.keys().filter(|id| !to.members.contains_key(id));
    let cleared: Vec<MapOp> = cleared.map(|&id| MapOp::ClearMember(id)).collect();
    // With other settings, no packet under way still opens a flow by the old ones: what a look at the flows then shows
    // stays true.
    if replaced || removed || !cleared.is_empty() || from.settings != to.settings {
        ops.push(MapOp::Grace);
    }
    ops.extend(cleared);
    ops
}

fn add_locals(from: &KernelState, to: &KernelState, ops: &mut Vec<MapOp>) {
    for (&ip, &kinds) in &to.locals {
        let old = from.locals.get(&ip).copied().unwrap_or(0);
        if old | kinds != old {
            ops.push(MapOp::Local(ip, old | kinds));
        }
    }
}

/// Whether a table was replaced or a service changed its id, so that packets under way may still use the old one.
fn tables_and_services(from: &KernelState, to: &KernelState, ops: &mut Vec<MapOp>) -> bool {
    let changed = || to.tables.iter().filter(|(id, table)| from.tables.get(id) != Some(table));
    for (_, table) in changed() {
        if !table.slots.is_empty() {
            ops.push(MapOp::Slots { offset: table.descriptor.offset(), slots: table.slots.clone() });
        }
    }
    let mut replaced = false;
    for (&id, table) in changed() {
        match from.tables.get(&id) {
            Some(old) => replaced |= old.descriptor.size() > 0,
            None => ops.push(MapOp::ResetCursor(id)),
        }
        ops.push(MapOp::Descriptor(id, table.descriptor));
    }
    for (&key, &info) in &to.services {
        let old = from.services.get(&key);
        if old != Some(&info) {
            replaced |= old.is_some_and(|old| old.id != info.id);
            ops.push(MapOp::Service(key, info));
        }
    }
    replaced
}

/// Whether anything was removed that packets under way may still use.
fn remove(from: &KernelState, to: &KernelState, ops: &mut Vec<MapOp>) -> bool {
    let first = ops.len();
    ops.extend(from.services.keys().filter(|key| !to.services.contains_key(key)).map(|&key| MapOp::RemoveService(key)));
    for (&ip, &old) in &from.locals {
        match to.locals.get(&ip) {
            None => ops.push(MapOp::RemoveLocal(ip)),
            Some(&kinds) if old | kinds != kinds => ops.push(MapOp::Local(ip, kinds)),
            Some(_) => {}
        }
    }
    ops.len() > first
}

/// The generation that follows the one of `old`.
pub fn next_generation(old: Option<Descriptor>) -> u32 {
    old.map_or(1, |d| d.generation().wrapping_add(1) & 0xfff)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use lb_common::abi::{Algorithm, Member, ServiceInfo, ServiceKey, Settings};
    use proptest::prelude::*;

    use super::super::kernel::Table;
    use super::*;

    /// Carries operations out on plain data. What the safe order forbids is checked on the simulated kernel (`tests/sim`),
    /// which knows regions and grace periods.
    fn apply(state: &mut KernelState, slots: &mut BTreeMap<u32, u32>, ops: Vec<MapOp>) {
        for op in ops {
            match op {
                MapOp::Settings(s) => state.settings = *s,
                MapOp::Member(id, m) => drop(state.members.insert(id, m)),
                MapOp::ClearMember(id) => drop(state.members.remove(&id)),
                MapOp::Slots { offset, slots: new } => slots.extend((offset..).zip(new.iter().copied())),
                MapOp::Descriptor(id, descriptor) => {
                    let region = descriptor.offset()..descriptor.offset() + descriptor.size();
                    let slots = region.map(|i| slots[&i]).collect();
                    state.tables.insert(id, Table { descriptor, slots });
                }
                MapOp::Service(key, info) => drop(state.services.insert(key, info)),
                MapOp::RemoveService(key) => {
                    let info = state.services.remove(&key).unwrap();
                    state.tables.remove(&info.id);
                }
                MapOp::Local(ip, kinds) => drop(state.locals.insert(ip, kinds)),
                MapOp::RemoveLocal(ip) => drop(state.locals.remove(&ip)),
                MapOp::ResetCursor(_) | MapOp::Grace => {}
            }
            // Whatever a table names exists, at every step.
            for table in state.tables.values() {
                assert!(table.slots.iter().all(|id| state.members.contains_key(id)));
            }
        }
    }

    /// A state whose tables lie at `base` and above.
    fn state(base: u32) -> impl Strategy<Value = KernelState> {
        let services = proptest::collection::btree_map(0u32..5, proptest::collection::vec(0u32..8, 0..9), 0..5);
        let members = proptest::collection::btree_map(0u32..12, 1u32..3, 0..12);
        let locals = proptest::collection::btree_map(0u8..5, 1u32..4, 0..5);
        (services, members, locals, 0u32..3).prop_map(move |(services, members, locals, seed)| {
            let mut s = KernelState { settings: Settings { seed, ..Settings::default() }, ..KernelState::default() };
            s.members =
                members.into_iter().map(|(id, port)| (id, Member { port, family: 4, ..Member::default() })).collect();
            s.locals = locals.into_iter().map(|(last, kinds)| (IpAddr::from([10, 0, 0, last]), kinds)).collect();
            for (id, slots) in services {
                let slots: Vec<u32> = slots.into_iter().filter(|id| s.members.contains_key(id)).collect();
                let descriptor = Descriptor::new(base + id * 10, slots.len() as u32, Algorithm::Maglev, base + 1);
                s.tables.insert(id, Table { descriptor, slots: slots.into() });
                let key = ServiceKey { addr: [id, 0, 0, 0], port: 80, proto: 6, family: 4 };
                s.services.insert(key, ServiceInfo { id, ..ServiceInfo::default() });
            }
            s
        })
    }

    proptest! {
        #[test]
        fn diff_carried_out_on_from_yields_to(from in state(0), to in state(1000)) {
            let (mut at, mut slots) = (KernelState::default(), BTreeMap::new());
            for next in [&from, &to, &from] {
                let ops = diff(&at, next);
                apply(&mut at, &mut slots, ops);
                prop_assert_eq!(&at, next);
            }
            prop_assert!(diff(&to, &to).is_empty());
        }
    }

    #[test]
    fn diff_replaced_table_waits_before_members_are_cleared() {
        let member = Member { family: 4, ..Member::default() };
        let table = |offset, id, generation| Table {
            descriptor: Descriptor::new(offset, 1, Algorithm::Maglev, generation),
            slots: [id].into(),
        };
        let from = KernelState {
            tables: [(0, table(0, 1, 1))].into(),
            members: [(1, member)].into(),
            ..KernelState::default()
        };
        let to = KernelState {
            tables: [(0, table(1, 2, 2))].into(),
            members: [(2, member)].into(),
            ..KernelState::default()
        };
        let expected = [
            MapOp::Member(2, member),
            MapOp::Slots { offset: 1, slots: [2].into() },
            MapOp::Descriptor(0, table(1, 2, 2).descriptor),
            MapOp::Grace,
            MapOp::ClearMember(1),
        ];
        assert_eq!(diff(&from, &to), expected);
    }
}
