//! What the kernel holds, as far as we know, and the one list of operations that may be under way.

use std::collections::BTreeMap;

use lb_common::abi::Meta;

use super::diff::diff;
use super::kernel::{KernelState, MapOp, MemberId, ServiceId, Table};
use super::tables;

/// The longest pause between two attempts after failures.
const LONGEST_PAUSE_MS: u64 = 30_000;

/// Slots of each member in one table.
pub type Counts = BTreeMap<MemberId, u32>;

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The maps have not been seen, or not since a write failed.
    Blind,
    /// The kernel holds what we believe.
    Ready,
    /// List `0` is being carried out.
    Applying(u64),
}

/// The kernel as the core knows it.
#[derive(Debug)]
pub struct Kernel {
    meta: Option<Meta>,
    phase: Phase,
    held: KernelState,
    target: KernelState,
    counts: BTreeMap<ServiceId, (Table, Counts)>,
    last_id: u64,
    /// What was read back may be the work of a list that failed, or whose daemon died, before its own grace period:
    /// packets may still use what looks free.
    unsure: bool,
    failures: u32,
    not_before_ms: u64,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            meta: None,
            phase: Phase::Blind,
            held: KernelState::default(),
            target: KernelState::default(),
            counts: BTreeMap::new(),
            last_id: 0,
            unsure: true,
            failures: 0,
            not_before_ms: 0,
        }
    }
}

impl Kernel {
    /// Takes a read-back. It is the truth, whatever was believed or under way.
    pub fn read_back(&mut self, meta: Meta, state: KernelState) {
        self.meta = Some(meta);
        self.phase = Phase::Ready;
        self.unsure = true;
        self.hold(state);
    }

    /// Makes the kernel hold `target`. Returns the list to carry out, if there is any difference.
    pub fn make(&mut self, target: KernelState) -> Option<(u64, Vec<MapOp>)> {
        self.target = target;
        let mut ops = diff(&self.held, &self.target);
        if ops.is_empty() {
            return None;
        }
        if self.unsure {
            ops.insert(0, MapOp::Grace);
        }
        self.last_id += 1;
        self.phase = Phase::Applying(self.last_id);
        Some((self.last_id, ops))
    }

    /// Takes the end of a list; `None` if it is not the one under way. After a failure nothing is known until the maps
    /// are read back. The first new attempt may follow at once, later ones after growing pauses.
    pub fn applied(&mut self, id: u64, result: Result<(), String>, now_ms: u64) -> Option<Result<(), String>> {
        if self.phase != Phase::Applying(id) {
            return None;
        }
        if result.is_ok() {
            self.phase = Phase::Ready;
            self.failures = 0;
            self.unsure = false;
            self.hold(self.target.clone());
        } else {
            self.phase = Phase::Blind;
            let pause = if self.failures == 0 { 0 } else { 1000 << (self.failures - 1).min(10) };
            self.not_before_ms = now_ms + pause.min(LONGEST_PAUSE_MS);
            self.failures = self.failures.saturating_add(1);
        }
        Some(result)
    }

    fn hold(&mut self, state: KernelState) {
        self.held = state;
        let mut known = std::mem::take(&mut self.counts);
        for (&id, table) in &self.held.tables {
            let entry = match known.remove(&id) {
                Some(entry) if entry.0 == *table => entry,
                _ => (table.clone(), tables::count(&table.slots)),
            };
            self.counts.insert(id, entry);
        }
    }

    /// Sizes of the maps, once they were seen.
    pub fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }

    /// Whether a list may be started now.
    pub fn is_ready(&self, now_ms: u64) -> bool {
        self.phase == Phase::Ready && now_ms >= self.not_before_ms
    }

    /// When a postponed list may be started, CLOCK_BOOTTIME ms.
    pub fn next(&self, now_ms: u64) -> Option<u64> {
        (self.phase == Phase::Ready && self.not_before_ms > now_ms).then_some(self.not_before_ms)
    }

    /// Whether it holds what it should.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Ready && self.held == self.target
    }

    /// What it holds.
    pub fn held(&self) -> &KernelState {
        &self.held
    }

    /// What it should hold.
    pub fn target(&self) -> &KernelState {
        &self.target
    }

    /// Slots of each member in a service's live table, and all of them.
    pub fn counts(&self, service: ServiceId) -> (Option<&Counts>, u32) {
        self.counts.get(&service).map_or((None, 0), |(table, counts)| (Some(counts), table.descriptor.size()))
    }

    /// Slots of one member in its service's live table.
    pub fn slots(&self, service: ServiceId, member: MemberId) -> u32 {
        self.counts(service).0.and_then(|counts| counts.get(&member)).copied().unwrap_or(0)
    }

    /// Whether any live table names the member.
    pub fn is_in_a_table(&self, member: MemberId) -> bool {
        self.counts.values().any(|(_, counts)| counts.contains_key(&member))
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::Settings;

    use super::*;

    fn target(seed: u32) -> KernelState {
        KernelState { settings: Settings { seed, ..Settings::default() }, ..KernelState::default() }
    }

    #[test]
    fn apply_failed_waits_for_the_maps_then_starts_with_grace_and_pauses_longer() {
        let mut kernel = Kernel::default();
        kernel.read_back(Meta::default(), target(0));
        assert!(kernel.make(target(0)).is_none() && kernel.is_settled());
        let mut now = 0;
        for pause in [0, 1000, 2000, 4000] {
            let (id, _) = kernel.make(target(1)).unwrap();
            assert!(!kernel.is_ready(now) && kernel.applied(id + 1, Ok(()), now).is_none());
            assert!(kernel.applied(id, Err("no".into()), now).unwrap().is_err());
            assert!(!kernel.is_ready(now + 60_000), "blind");
            kernel.read_back(Meta::default(), target(0));
            assert_eq!((kernel.is_ready(now), kernel.is_ready(now + pause)), (pause == 0, true));
            assert_eq!(kernel.next(now), (pause > 0).then_some(now + pause));
            now += pause;
        }
        let (id, ops) = kernel.make(target(1)).unwrap();
        assert_eq!(ops[0], MapOp::Grace);
        assert!(kernel.applied(id, Ok(()), now).unwrap().is_ok() && kernel.is_settled());
        assert!(!matches!(kernel.make(target(2)).unwrap().1[0], MapOp::Grace));
    }
}
