//! Kinds of conditions: how bad each is, and how long it must stand before anybody is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::model::{BackendName, ServiceName, Severity};
use crate::core::api::Time;

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What kind of thing.
    pub kind: Kind,
    /// What it is about, within its kind; with the kind it stays the same for as long as the trouble does.
    pub subject: String,
    /// Which server, if one.
    pub backend: Option<BackendName>,
    /// In which service, if in one.
    pub service: Option<ServiceName>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// Since when, where that is known; else since it was first seen.
    pub since: Option<Time>,
}

impl Condition {
    /// One about neither service nor backend.
    pub(super) fn of(kind: Kind, subject: impl Into<String>, summary: impl Into<String>) -> Self {
        let (subject, summary) = (subject.into(), summary.into());
        Self { kind, subject, backend: None, service: None, owner: None, summary, since: None }
    }

    /// That no daemon answers, as whoever looks from beside it says.
    pub fn daemon_down(summary: &str) -> Self {
        Self::of(Kind::DaemonDown, "", summary)
    }

    /// The record of alerts cannot be kept, and why.
    pub fn unsaved(why: &str) -> Self {
        Self::of(Kind::NotRecorded, "alerts", why)
    }

    /// What one alert is told from another by: `backend_down/web/b1`.
    pub fn key(&self) -> String {
        if self.subject.is_empty() {
            self.kind.name().to_owned()
        } else {
            format!("{}/{}", self.kind.name(), self.subject)
        }
    }
}

/// Kinds of conditions. Each has an entry in `docs/playbook.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A backend is down, and nobody took it out on purpose.
    BackendDown,
    /// A reason, a lease or a removal stands past its review.
    Overdue,
    /// A lease ends soon.
    LeaseEnding,
    /// A lease is over.
    LeaseEnded,
    /// A server was called back before its lease's end.
    Recalled,
    /// A lease covers nobody: its service is gone.
    LeaseIdle,
    /// After its lease, a backend does not answer.
    ReturnFailed,
    /// Fewer in rotation than the service needs.
    TooFew,
    /// None in rotation.
    NoneInRotation,
    /// No primary member can serve: the backups do.
    BackupInUse,
    /// Nobody can serve, and all get new flows all the same.
    Panic,
    /// A server has had as many flows as it may for a while.
    AtLimit,
    /// All members of a service that could serve have.
    ServiceAtLimit,
    /// The loss of any one server could not be borne.
    #[serde(rename = "n_minus_1")]
    NMinusOne,
    /// The others cannot carry the load of a server that is out.
    Outgrown,
    /// A server's memory is tight or exhausted.
    MemoryShort,
    /// A server's memory is exhausted.
    MemoryExhausted,
    /// A server's memory is going to run out.
    MemoryEnds,
    /// A server's memory cannot be read any more.
    MemoryUnknown,
    /// A server's own agent does not answer.
    AgentSilent,
    /// Less weight has not given a server more memory.
    SheddingStuck,
    /// A member gets far less than its configured weight, and nothing is known against it.
    ShareMissing,
    /// New flows do not go where the table says.
    DistributionOff,
    /// A member answers far more slowly than it used to.
    LatencyDegraded,
    /// Connections to a member come to nothing.
    ConnectionErrors,
    /// So many failed at once that the edge itself is suspected.
    EdgeSuspected,
    /// The file is not what runs.
    FileDiffers,
    /// The file was bad at the start; an older revision runs.
    BadFile,
    /// Someone else changed maps, links or pins.
    AuditDrift,
    /// What was decided is not in force.
    NotApplied,
    /// What must outlive the daemon cannot be stored.
    NotRecorded,
    /// The daemon contradicts itself.
    InvariantBroken,
    /// The table of flows is nearly full.
    FlowsNearFull,
    /// The source ports towards a backend are nearly used up.
    PortsNearFull,
    /// The daemon's main task does not move.
    DaemonStuck,
    /// No daemon answers. Told by `rollcall watch`.
    DaemonDown,
    /// An alert route does not take what it is sent.
    RouteFailing,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 37] = [
        Self::BackendDown,
        Self::Overdue,
        Self::LeaseEnding,
        Self::LeaseEnded,
        Self::Recalled,
        Self::LeaseIdle,
        Self::ReturnFailed,
        Self::TooFew,
        Self::NoneInRotation,
        Self::BackupInUse,
        Self::Panic,
        Self::AtLimit,
        Self::ServiceAtLimit,
        Self::NMinusOne,
        Self::Outgrown,
        Self::MemoryShort,
        Self::MemoryExhausted,
        Self::MemoryEnds,
        Self::MemoryUnknown,
        Self::AgentSilent,
        Self::SheddingStuck,
        Self::ShareMissing,
        Self::DistributionOff,
        Self::LatencyDegraded,
        Self::ConnectionErrors,
        Self::EdgeSuspected,
        Self::FileDiffers,
        Self::BadFile,
        Self::AuditDrift,
        Self::NotApplied,
        Self::NotRecorded,
        Self::InvariantBroken,
        Self::FlowsNearFull,
        Self::PortsNearFull,
        Self::DaemonStuck,
        Self::DaemonDown,
        Self::RouteFailing,
    ];

    /// As JSON, labels and the playbook name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BackendDown => "backend_down",
            Self::Overdue => "overdue",
            Self::LeaseEnding => "lease_ending",
            Self::LeaseEnded => "lease_ended",
            Self::Recalled => "recalled",
            Self::LeaseIdle => "lease_idle",
            Self::ReturnFailed => "return_failed",
            Self::TooFew => "too_few",
            Self::NoneInRotation => "none_in_rotation",
            Self::BackupInUse => "backup_in_use",
            Self::Panic => "panic",
            Self::AtLimit => "at_limit",
            Self::ServiceAtLimit => "service_at_limit",
            Self::NMinusOne => "n_minus_1",
            Self::Outgrown => "outgrown",
            Self::MemoryShort => "memory_short",
            Self::MemoryExhausted => "memory_exhausted",
            Self::MemoryEnds => "memory_ends",
            Self::MemoryUnknown => "memory_unknown",
            Self::AgentSilent => "agent_silent",
            Self::SheddingStuck => "shedding_stuck",
            Self::ShareMissing => "share_missing",
            Self::DistributionOff => "distribution_off",
            Self::LatencyDegraded => "latency_degraded",
            Self::ConnectionErrors => "connection_errors",
            Self::EdgeSuspected => "edge_suspected",
            Self::FileDiffers => "file_differs",
            Self::BadFile => "bad_file",
            Self::AuditDrift => "audit_drift",
            Self::NotApplied => "not_applied",
            Self::NotRecorded => "not_recorded",
            Self::InvariantBroken => "invariant_broken",
            Self::FlowsNearFull => "flows_near_full",
            Self::PortsNearFull => "ports_near_full",
            Self::DaemonStuck => "daemon_stuck",
            Self::DaemonDown => "daemon_down",
            Self::RouteFailing => "route_failing",
        }
    }

    /// How bad it is.
    pub const fn severity(self) -> Severity {
        match self {
            Self::LeaseEnding | Self::LeaseEnded => Severity::Info,
            Self::BackendDown
            | Self::Recalled
            | Self::LeaseIdle
            | Self::TooFew
            | Self::BackupInUse
            | Self::AtLimit
            | Self::NMinusOne
            | Self::MemoryShort
            | Self::MemoryUnknown
            | Self::AgentSilent
            | Self::SheddingStuck
            | Self::DistributionOff
            | Self::LatencyDegraded
            | Self::ConnectionErrors
            | Self::FileDiffers
            | Self::AuditDrift
            | Self::NotRecorded
            | Self::FlowsNearFull
            | Self::PortsNearFull => Severity::Warning,
            Self::Overdue
            | Self::ReturnFailed
            | Self::NoneInRotation
            | Self::Panic
            | Self::ServiceAtLimit
            | Self::Outgrown
            | Self::MemoryExhausted
            | Self::MemoryEnds
            | Self::ShareMissing
            | Self::EdgeSuspected
            | Self::BadFile
            | Self::NotApplied
            | Self::InvariantBroken
            | Self::DaemonStuck
            | Self::DaemonDown
            | Self::RouteFailing => Severity::Critical,
        }
    }

    /// How long it must stand before anybody is told. What probes say has been weighed already.
    pub(super) const fn hold(self) -> Duration {
        let seconds = match self {
            Self::FileDiffers | Self::AtLimit => 300,
            // A start decides within its grace; a refused write is tried again at once.
            Self::TooFew | Self::NoneInRotation | Self::NotApplied | Self::RouteFailing => 10,
            Self::ServiceAtLimit
            | Self::FlowsNearFull
            | Self::PortsNearFull
            | Self::MemoryShort
            | Self::MemoryUnknown => 30,
            // What ends at its review ends by itself.
            Self::Overdue => 2,
            _ => 0,
        };
        Duration::from_secs(seconds)
    }

    /// Where the documentation explains it.
    pub fn playbook(self) -> String {
        format!("docs/playbook.md#{}", self.name())
    }
}
