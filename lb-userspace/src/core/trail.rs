//! What members' flows have done lately: what each really got in the last minutes, and when one that was taken out had its
//! last flow.
//!
//! The share that a table gives and the share that is observed are two things: only the second one is proof.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Core;
use super::api::{EventKind, Load, MemberName, Observed, Time, millis};

/// How far back is looked.
const WINDOW: Duration = Duration::from_secs(300);

/// Counts of one member, the oldest first, and no older than [`WINDOW`] but for one.
#[derive(Debug, Default)]
pub struct Trail(VecDeque<(u64, Load)>);

impl Trail {
    fn record(&mut self, load: Load, now: Time) {
        // Another id, or a new data plane: counters began again.
        if self.0.back().is_some_and(|(_, last)| load.opened < last.opened || load.bytes < last.bytes) {
            self.0.clear();
        }
        self.0.push_back((now.boot_ms, load));
        while self.0.get(1).is_some_and(|(at, _)| at + millis(WINDOW) <= now.boot_ms) {
            self.0.pop_front();
        }
    }

    /// What it got between the oldest count and the newest.
    fn observed(&self) -> Option<Observed> {
        let ((since, first), (until, last)) = (self.0.front()?, self.0.back()?);
        let over = Duration::from_millis(until - since);
        let (opened, bytes) = (last.opened - first.opened, last.bytes - first.bytes);
        (!over.is_zero()).then_some(Observed { over, opened, bytes })
    }
}

impl Core {
    /// Follows a count of the flows, and tells of members that were taken out when their last flow has ended.
    pub(super) fn follow_trails(&mut self, loads: &BTreeMap<MemberName, Load>) {
        let now = self.now;
        self.trails.retain(|name, _| loads.contains_key(name));
        for (name, load) in loads {
            self.trails.entry(name.clone()).or_default().record(*load, now);
            let leased = self.is_leased(name);
            let Some(member) = self.members.get_mut(name) else { continue };
            if !leased || member.in_rotation || load.active > 0 {
                member.empty_since = None;
            } else if member.empty_since.is_none() {
                member.empty_since = Some(now);
                let seconds = now.boot_ms.saturating_sub(member.since.boot_ms) / 1000;
                let cause = format!("its last flow has ended, within {seconds} s after it left the rotation");
                self.event(Some(name), EventKind::Emptied, cause);
            }
        }
    }

    pub(super) fn observed(&self, name: &MemberName) -> Option<Observed> {
        self.trails.get(name)?.observed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time { boot_ms: 1_000, wall_ms: 0 };

    fn load(opened: u64) -> Load {
        Load { opened, active: 0, bytes: opened * 100 }
    }

    #[test]
    fn observed_is_of_the_last_five_minutes() {
        let mut trail = Trail::default();
        trail.record(load(50), START);
        assert_eq!(trail.observed(), None, "one count is no span");
        for n in 1..=60 {
            trail.record(load(50 + n), START + Duration::from_secs(n * 10));
        }
        assert_eq!(trail.observed(), Some(Observed { over: WINDOW, opened: 30, bytes: 3000 }));
        assert_eq!(trail.0.len(), 31);
    }

    #[test]
    fn counters_that_begin_again_begin_the_window_again() {
        let mut trail = Trail::default();
        trail.record(load(50), START);
        trail.record(load(3), START + WINDOW / 2);
        assert_eq!(trail.observed(), None);
        trail.record(load(5), START + WINDOW);
        assert_eq!(trail.observed(), Some(Observed { over: WINDOW / 2, opened: 2, bytes: 200 }));
    }
}
