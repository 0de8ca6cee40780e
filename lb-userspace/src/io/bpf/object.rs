//! The embedded object and what it declares: the measure for pinned maps.

use aya_obj::Object;
use lb_common::abi::{AGES_SLACK, HALF_OPEN_WAYS, Meta, direct_buckets, maps};

use super::error::BpfError;

/// The eBPF object of this build, aligned as its parser wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rollcall.bpf.o"));

/// The sizes that are chosen at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Established flows per family.
    pub(super) max_flows: u32,
    /// Half-open buckets per family, a power of two.
    pub(super) buckets: u32,
    /// Slots in the arena.
    pub(super) arena_slots: u32,
}

impl Sizes {
    /// Checks the configuration's numbers.
    pub(super) fn new(max_flows: u32, max_half_open: u32, arena_slots: u32) -> Result<Self, BpfError> {
        let ways = HALF_OPEN_WAYS as u32;
        let bad = |key, value, why| Err(BpfError::BadSize { key, value, why });
        if max_flows == 0 {
            return bad("conntrack.max_flows", max_flows, "at least 1 flow");
        }
        if arena_slots == 0 {
            return bad("conntrack.arena_slots", arena_slots, "at least 1 slot");
        }
        if !max_half_open.is_multiple_of(ways) || !(max_half_open / ways).is_power_of_two() {
            return bad("conntrack.max_half_open", max_half_open, "a power of two, at least 4");
        }
        if max_flows.checked_mul(2).and_then(|n| n.checked_add(max_half_open)).is_none() {
            return bad("conntrack.max_flows", max_flows, "twice it plus conntrack.max_half_open must fit 32 bits");
        }
        Ok(Self { max_flows, buckets: max_half_open / ways, arena_slots })
    }

    /// The sizes that a pinned set was created with.
    pub(super) fn of(meta: &Meta) -> Self {
        Self { max_flows: meta.max_flows, buckets: meta.half_open_buckets, arena_slots: meta.arena_slots }
    }

    /// Half-open flows per family.
    pub(super) fn max_half_open(&self) -> u32 {
        self.buckets.saturating_mul(HALF_OPEN_WAYS as u32)
    }

    /// Maps whose number of entries depends on these sizes. A flow table holds both directions of each established
    /// flow and the reverse entry of each half-open one.
    pub(super) fn entries(&self) -> [(&'static str, u32); 9] {
        let flows = self.max_flows.saturating_mul(2).saturating_add(self.max_half_open());
        let ages = self.max_flows.saturating_add(AGES_SLACK);
        let direct = direct_buckets(self.max_flows);
        [
            (maps::SLOTS, self.arena_slots),
            (maps::FLOWS4, flows),
            (maps::FLOWS6, flows),
            (maps::AGES4, ages),
            (maps::AGES6, ages),
            (maps::HALF_OPEN4, self.buckets),
            (maps::HALF_OPEN6, self.buckets),
            (maps::DIRECT4, direct),
            (maps::DIRECT6, direct),
        ]
    }
}

/// A map's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Its name.
    pub(super) name: &'static str,
    /// `BPF_MAP_TYPE_*`.
    pub(super) kind: u32,
    /// Bytes of a key.
    pub(super) key_size: u32,
    /// Bytes of a value.
    pub(super) value_size: u32,
    /// Entries, with the sizes applied.
    pub(super) max_entries: u32,
    /// `BPF_F_*`.
    pub(super) flags: u32,
}

/// The shapes of all pinned maps, as the object declares them and `sizes` overrides them.
pub(super) fn shapes(sizes: &Sizes) -> Result<Vec<Shape>, BpfError> {
    let object = Object::parse(OBJECT).map_err(|e| BpfError::Object(e.to_string()))?;
    let overrides = sizes.entries();
    maps::ALL
        .iter()
        .map(|&name| {
            let map = object.maps.get(name).ok_or_else(|| BpfError::Object(format!("it declares no map {name}")))?;
            let chosen = overrides.iter().find(|(sized, _)| *sized == name).map(|&(_, entries)| entries);
            Ok(Shape {
                name,
                kind: map.map_type(),
                key_size: map.key_size(),
                value_size: map.value_size(),
                max_entries: chosen.unwrap_or_else(|| map.max_entries()),
                flags: map.map_flags(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_map_can_have_are_refused_by_key() {
        let key = |r: Result<Sizes, BpfError>| match r {
            Err(BpfError::BadSize { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(Sizes::new(0, 64, 64)), "conntrack.max_flows");
        assert_eq!(key(Sizes::new(u32::MAX / 2, 64, 64)), "conntrack.max_flows");
        assert_eq!(key(Sizes::new(1, 0, 64)), "conntrack.max_half_open");
        assert_eq!(key(Sizes::new(1, 24, 64)), "conntrack.max_half_open");
        assert_eq!(key(Sizes::new(1, 64, 0)), "conntrack.arena_slots");
    }

    #[test]
    fn object_declares_every_map_of_the_abi() {
        let sizes = Sizes::new(1000, 64, 4096).unwrap();
        let shapes = shapes(&sizes).unwrap();
        assert_eq!(shapes.len(), maps::ALL.len());
        let entries = |name| shapes.iter().find(|s| s.name == name).unwrap().max_entries;
        assert_eq!(entries(maps::FLOWS6), 2064);
        assert_eq!(entries(maps::HALF_OPEN4), 16);
        assert_eq!(entries(maps::AGES4), 1000 + AGES_SLACK);
        assert_eq!(entries(maps::DIRECT6), 256, "a slot for each flow");
        assert_eq!(entries(maps::META), 1);
    }
}
