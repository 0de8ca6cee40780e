//! Allocation of ids and of arena regions: the lowest that is free.
//!
//! Owns no state across plans. What is in use is read off the kernel's state each time, so nothing leaks when a list of
//! operations fails half way, and adoption needs no special case.

use std::collections::BTreeSet;

/// Ids that may be given out, lowest first.
#[derive(Debug)]
pub struct Ids {
    used: BTreeSet<u32>,
    next: u32,
    limit: u32,
}

impl Ids {
    /// Ids below `limit`, without those in use.
    pub fn new(used: BTreeSet<u32>, limit: u32) -> Self {
        Self { used, next: 0, limit }
    }

    /// The lowest free id, or `None` if all are taken.
    pub fn take(&mut self) -> Option<u32> {
        while self.used.contains(&self.next) {
            self.next += 1;
        }
        let id = self.next;
        (id < self.limit).then(|| {
            self.next += 1;
            id
        })
    }
}

/// The arena of table slots: regions in use, sorted by offset.
#[derive(Debug)]
pub struct Arena {
    used: BTreeSet<(u32, u32)>,
    slots: u32,
}

impl Arena {
    /// An arena of `slots` slots with these regions (offset, size) in use. Empty regions take no room.
    pub fn new(slots: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        Self { used: used.into_iter().filter(|&(_, size)| size > 0).collect(), slots }
    }

    /// The first gap that holds `size` slots; it is in use from now on.
    pub fn take(&mut self, size: u32) -> Option<u32> {
        let offset = self.gaps().find(|&(_, gap)| gap >= size).map(|(offset, _)| offset)?;
        if size > 0 {
            self.used.insert((offset, size));
        }
        Some(offset)
    }

    /// Sizes of all free slots together and of the largest gap.
    pub fn free(&self) -> (u32, u32) {
        self.gaps().fold((0, 0), |(sum, max), (_, gap)| (sum + gap, max.max(gap)))
    }

    /// Gaps as (offset, size), the last one up to the arena's end.
    fn gaps(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut end = 0;
        self.used.iter().copied().chain([(self.slots, 0)]).map(move |(offset, size)| {
            let gap = (end, offset.saturating_sub(end));
            end = end.max(offset.saturating_add(size));
            gap
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lowest_free_first_until_the_limit() {
        let mut ids = Ids::new([0, 2].into(), 4);
        assert_eq!((ids.take(), ids.take(), ids.take()), (Some(1), Some(3), None));
    }

    #[test]
    fn arena_first_gap_that_fits_is_taken() {
        let mut arena = Arena::new(100, [(10, 20), (40, 10)]);
        assert_eq!(arena.free(), (70, 50));
        assert_eq!(arena.take(10), Some(0));
        assert_eq!(arena.take(11), Some(50));
        assert_eq!(arena.take(10), Some(30));
        assert_eq!(arena.take(40), None);
        assert_eq!(arena.take(39), Some(61));
        assert_eq!(arena.free(), (0, 0));
    }

    #[test]
    fn arena_empty_region_takes_no_room() {
        let mut arena = Arena::new(10, [(0, 0)]);
        assert_eq!(arena.take(10), Some(0));
    }
}
