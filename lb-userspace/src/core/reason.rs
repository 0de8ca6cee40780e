//! Why a backend's effective weight is below its configured one.

use serde::{Deserialize, Serialize};

use super::api::Time;

/// One thing that lowers a member's weight. Several may hold at once; while the effective weight is below the configured
/// one there is at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it is.
    pub kind: ReasonKind,
    /// Since when.
    pub since: Time,
    /// What caused it, in words: the probe's error, the interface's name, the person's reason.
    pub cause: String,
    /// Who answers for it: the lease's person, else the service's or the backend's owner.
    pub owner: Option<String>,
    /// When it escalates if it still stands: the lease's end, else `since` + the service's `expected_out`. `None`: never, it
    /// is as it was configured.
    pub review_at: Option<Time>,
}

impl Reason {
    /// With its times as people see them at `now`.
    #[must_use]
    pub fn seen_at(&self, now: Time) -> Self {
        Self { since: self.since.seen_at(now), review_at: self.review_at.map(|at| at.seen_at(now)), ..self.clone() }
    }

    /// Whether it stands past its review.
    pub fn is_overdue(&self, now: Time) -> bool {
        self.review_at.is_some_and(|at| at.boot_ms <= now.boot_ms)
    }
}

/// Whether these reasons of a member that is out of rotation come to no more than standing by, as configured.
pub fn is_standby(mut kinds: impl Iterator<Item = ReasonKind> + Clone) -> bool {
    let harmless = |kind: ReasonKind| kind.is_standby() || kind.is_partial() || kind == ReasonKind::Unverified;
    kinds.clone().all(harmless) && kinds.any(ReasonKind::is_standby)
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// Probes failed `fall` times in a row.
    ProbeFailed,
    /// A new backend that has not had its first success.
    NotYetProbed,
    /// No neighbour answers for its next hop, or there is no route.
    NoNextHop,
    /// No conclusive probe within the start's grace: in rotation all the same, unverified. (The weight is not lowered;
    /// the roll call shows it.)
    Unverified,
    /// A drain: new flows go elsewhere until its end.
    Drained,
    /// A maintenance: no packet until its end.
    Maintenance,
    /// Its memory is short: it gets a part of its weight.
    MemoryShort,
    /// Its own agent advises less of its weight.
    Advised,
    /// Its own agent says that it is down, or should get nothing.
    AgentDown,
    /// A lease is over; back as soon as a probe that began since has succeeded.
    Returning,
    /// It came into rotation a short while ago and gets its weight in steps.
    Ramping,
    /// Its server has as many flows as it may, and others of the service have not.
    AtLimit,
    /// It is of the backup tier and stands by, because a primary member serves.
    Backup,
    /// No member can serve, and it gets new flows all the same. (The weight is not lowered; the roll call shows it.)
    Panic,
}

impl ReasonKind {
    /// Whether it leaves a part of the weight: the member still serves, so it is not *out*, and may stand for longer.
    pub const fn is_partial(self) -> bool {
        matches!(self, Self::MemoryShort | Self::Advised | Self::Ramping)
    }

    /// Whether it is what the configuration asks for: nobody is missing, and nothing escalates.
    pub const fn is_standby(self) -> bool {
        matches!(self, Self::Backup)
    }

    /// Whether it is somebody's wish, with an end of its own.
    pub const fn is_lease(self) -> bool {
        matches!(self, Self::Drained | Self::Maintenance)
    }

    /// The name that CLI and metrics print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProbeFailed => "probe_failed",
            Self::NotYetProbed => "not_yet_probed",
            Self::NoNextHop => "no_next_hop",
            Self::Unverified => "unverified",
            Self::Drained => "drained",
            Self::Maintenance => "maintenance",
            Self::MemoryShort => "memory_short",
            Self::Advised => "advised",
            Self::AgentDown => "agent_down",
            Self::Returning => "returning",
            Self::Ramping => "ramping",
            Self::AtLimit => "at_limit",
            Self::Backup => "backup",
            Self::Panic => "panic",
        }
    }
}
