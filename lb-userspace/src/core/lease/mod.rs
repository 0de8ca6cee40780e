//! Leases: a server taken out of rotation on purpose, by whom, why, and until when.
//!
//! Owns a lease's bounds and what becomes of its end when the host restarts; not what it does to weights
//! ([`super::weight`]), nor when it ends ([`expiry`]).

mod expiry;
mod grant;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::api::{Scope, Time, millis};
use super::reason::ReasonKind;
use crate::config::model::BackendName;

pub use grant::{Asked, Refusal};

/// A lease without a stated duration.
pub const DEFAULT: Duration = Duration::from_secs(30 * 60);
/// The longest a lease may last, all extensions included.
pub const LONGEST: Duration = Duration::from_secs(72 * 3600);
/// The shortest.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The owner is reminded so long before the end, or a quarter of the lease before it if that is shorter.
const REMINDER: Duration = Duration::from_secs(5 * 60);

/// What becomes of the server's flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseKind {
    /// It gets no new flows; those it has go on.
    Drain,
    /// It gets no packet at all; its flows are ended.
    Maintenance,
}

impl LeaseKind {
    /// As the command line names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        }
    }

    /// What it is called where it lowers a weight.
    pub const fn reason(self) -> ReasonKind {
        match self {
            Self::Drain => ReasonKind::Drained,
            Self::Maintenance => ReasonKind::Maintenance,
        }
    }

    /// "drained" or "in maintenance".
    pub const fn participle(self) -> &'static str {
        match self {
            Self::Drain => "drained",
            Self::Maintenance => "in maintenance",
        }
    }
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// A name for people.
    pub name: String,
    /// Whether the name is only what the caller said (`--owner`, SUDO_USER), not what the kernel knew.
    pub claimed: bool,
    /// Effective uid of who asked.
    pub uid: u32,
    /// Their login uid, which survives sudo.
    pub loginuid: Option<u32>,
}

impl Owner {
    /// The name, and whether it is only claimed.
    pub fn in_words(&self) -> String {
        if self.claimed { format!("{} (claimed)", self.name) } else { self.name.clone() }
    }
}

/// A server taken out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What it is on; there is at most one lease for each scope. By name: a lease survives that the server is removed and
    /// added again.
    pub scope: Scope,
    /// What becomes of the flows.
    pub kind: LeaseKind,
    /// Who answers for it.
    pub owner: Owner,
    /// Why, in the owner's words.
    pub reason: String,
    /// When it began.
    pub begun: Time,
    /// When it ends. In the boot that it names, `boot_ms` decides; after a reboot the wall clock does.
    pub ends: Time,
    /// From beginning to end, extensions included, ms.
    pub granted_ms: u64,
    /// The boot whose CLOCK_BOOTTIME `begun` and `ends` are by (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Whether the server may be called back before the end if the others become too few, or cannot carry its load.
    pub recallable: bool,
    /// What the capacity guard had against it, and why it was overridden; `None`: nothing.
    #[serde(default)]
    pub overrode: Option<String>,
}

/// Whose the leases are that a server's own agent asked for.
pub fn agent_of(backend: &BackendName) -> String {
    format!("agent@{backend}")
}

/// A moment that was certainly reached, in some boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The moment.
    pub time: Time,
    /// The boot.
    pub boot_id: String,
}

/// What a lease's end was carried over by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It is of this boot: nothing to do.
    SameBoot,
    /// By the wall clock.
    ByWall,
    /// The wall clock is behind what was once read from it: what remained then counts from this boot's start.
    FromBoot,
}

impl Lease {
    /// `the drain by ada (kernel test)`.
    pub fn in_words(&self) -> String {
        format!("the {} by {} ({})", self.kind.name(), self.owner.in_words(), self.reason)
    }

    /// When the owner is reminded, CLOCK_BOOTTIME ms.
    pub fn reminder_ms(&self) -> u64 {
        let ahead = millis(REMINDER).min(self.granted_ms / 4);
        self.ends.boot_ms.saturating_sub(ahead)
    }

    /// Whether the server may take new flows before its end, if the others become too few.
    pub fn may_be_recalled(&self) -> bool {
        self.kind == LeaseKind::Drain && self.recallable
    }

    /// How long it still holds.
    pub fn left(&self, now: Time) -> Duration {
        Duration::from_millis(self.ends.boot_ms.saturating_sub(now.boot_ms))
    }

    /// With its end as people see it at `now`. Its beginning may be another boot's.
    #[must_use]
    pub fn seen_at(&self, now: Time) -> Self {
        Self { ends: self.ends.seen_at(now), ..self.clone() }
    }

    /// Carries a lease of an earlier boot over into this one. `mark` is the last moment known of that boot.
    pub fn carry_over(&mut self, mark: Option<&Mark>, boot_id: &str, now: Time) -> Carried {
        carry_over(&mut self.begun, &mut self.ends, self.granted_ms, &mut self.boot_id, mark, boot_id, now)
    }
}

/// Carries what was granted for a time over from the boot `of` into this one, `boot_id`. `mark` is the last moment known of
/// that boot.
pub fn carry_over(
    begun: &mut Time,
    ends: &mut Time,
    granted_ms: u64,
    of: &mut String,
    mark: Option<&Mark>,
    boot_id: &str,
    now: Time,
) -> Carried {
    if of == boot_id {
        return Carried::SameBoot;
    }
    let mark = mark.filter(|m| m.boot_id == *of).map_or(*begun, |m| m.time);
    let seen = mark.wall_ms.max(begun.wall_ms);
    let (carried, end_ms) = if now.wall_ms >= seen {
        // Where the wall clock had been set within the earlier boot, its two clocks tell by how much.
        let end_wall = i128::from(mark.wall_ms) + i128::from(ends.boot_ms) - i128::from(mark.boot_ms);
        let left = (end_wall - i128::from(now.wall_ms)).clamp(0, i128::from(granted_ms));
        (Carried::ByWall, now.boot_ms.saturating_add(u64::try_from(left).unwrap_or(0)))
    } else {
        let left = ends.boot_ms.saturating_sub(mark.boot_ms.max(begun.boot_ms)).min(granted_ms);
        (Carried::FromBoot, left)
    };
    boot_id.clone_into(of);
    begun.boot_ms = 0;
    ends.boot_ms = end_ms;
    *ends = ends.seen_at(now);
    carried
}

#[cfg(test)]
mod tests;
