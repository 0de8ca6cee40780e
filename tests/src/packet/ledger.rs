//! Who owns what in the program's maps, counted from outside while nothing runs.

use std::collections::HashMap as Known;
use std::hash::Hash;

use aya::Pod;
use aya::maps::{Array, HashMap, MapData, Queue};
use lb_common::abi::{Bucket, Clock, Flow, FlowKey, Slot, maps};
use lb_common::conntrack::{Direction, State};

use super::plane::Plane;

/// The counts of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Reverse entries: each holds a source port.
    pub records: u64,
    /// Of these, those whose flow is active.
    pub active: u64,
    /// Forward entries whose reverse entry is gone or another flow's.
    pub orphans: u64,
    /// Half-open slots that hold a flow.
    pub live_slots: u64,
    /// Half-open slots left in the middle of a change.
    pub busy_slots: u64,
    /// Keys in the record queue.
    pub queued: u64,
    /// Records that the program believes to keep.
    pub kept: u64,
}

impl Plane {
    /// Counts a family. Empties its record queue.
    pub fn ledger(&mut self, v6: bool) -> Ledger {
        let kept = self.array::<Clock>(maps::CLOCK).get(&0, 0).expect("CLOCK").kept[usize::from(v6)];
        let counts = if v6 {
            self.count::<[u32; 4]>(maps::FLOWS6, maps::HALF_OPEN6, maps::AGES6)
        } else {
            self.count::<u32>(maps::FLOWS4, maps::HALF_OPEN4, maps::AGES4)
        };
        Ledger { kept, ..counts }
    }

    fn count<A>(&mut self, flows: &str, half_open: &str, ages: &str) -> Ledger
    where
        A: Copy + Eq + Hash,
        FlowKey<A>: Pod,
        Flow<A>: Pod,
        Bucket<A>: Pod,
    {
        let mut counts = Ledger::default();
        let flows: HashMap<&mut MapData, FlowKey<A>, Flow<A>> = self.map(flows).try_into().expect("a hash");
        let all: Known<FlowKey<A>, Flow<A>> = flows.iter().map(|entry| entry.expect("an entry")).collect();
        for (key, flow) in &all {
            if flow.direction == Direction::Reverse as u32 {
                counts.records += 1;
                counts.active += u64::from(State(flow.state).is_active());
            } else {
                let answer =
                    FlowKey { src: flow.dst, dst: flow.src, ports: flow.ports.rotate_left(16), proto: key.proto };
                let back = FlowKey { src: key.dst, dst: key.src, ports: key.ports.rotate_left(16), proto: key.proto };
                let ours = |r: &Flow<A>| (r.src, r.dst, r.ports) == (back.src, back.dst, back.ports);
                counts.orphans += u64::from(!all.get(&answer).is_some_and(ours));
            }
        }
        let buckets = self.settings.half_open_mask + 1;
        let half_open: Array<&mut MapData, Bucket<A>> = self.array(half_open);
        for index in 0..buckets {
            for slot in half_open.get(&index, 0).expect("a bucket").slots {
                match slot.owner & Slot::<A>::STATE {
                    state if state == Slot::<A>::EMPTY => {}
                    state if state == Slot::<A>::LIVE => counts.live_slots += 1,
                    _ => counts.busy_slots += 1,
                }
            }
        }
        let mut ages: Queue<&mut MapData, FlowKey<A>> = self.map(ages).try_into().expect("a queue");
        while ages.pop(0).is_ok() {
            counts.queued += 1;
        }
        counts
    }
}
