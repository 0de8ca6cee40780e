//! Counters. All are per CPU; user space sums them. Each counter has one kind of writer.

use super::pod;

/// Traffic of one direction of one member.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded: IP packets without link headers or padding.
    pub bytes: u64,
}

/// Where a member's traffic is counted.
pub struct TrafficSlot;

impl TrafficSlot {
    /// Client to backend.
    #[inline(always)]
    pub const fn forward(member: u32) -> u32 {
        member * 2
    }

    /// Backend to client.
    #[inline(always)]
    pub const fn reverse(member: u32) -> u32 {
        member * 2 + 1
    }
}

/// Flows and passive signals of one member. Active flows = opened - closed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberStats {
    /// Flows opened (a source port was claimed and a half-open slot filled).
    pub opened: u64,
    /// Flows closed: both FINs, a reset, idle, or overwritten while half-open. Never more than `opened`.
    pub closed: u64,
    /// Flows promoted to established.
    pub established: u64,
    /// Half-open flows overwritten by a newcomer.
    pub overwritten: u64,
    /// Half-open flows that ended without an answer of the backend.
    pub unanswered: u64,
    /// SYNs that the client sent again while half-open.
    pub syn_retransmits: u64,
    /// Resets by the client.
    pub resets_client: u64,
    /// Resets by the backend.
    pub resets_backend: u64,
    /// Handshakes measured: first packet to the backend's first answer.
    pub answers: u64,
    /// Their total, ns, in the clock's coarseness (a jiffy).
    pub answer_ns: u64,
    /// No free source port towards this member.
    pub ports_exhausted: u64,
    /// Attempts given to another member, because this one refused the SYN or did not answer it.
    pub moved_away: u64,
    /// Attempts taken over from another member.
    pub moved_to: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

/// Drops of one service by [`super::Reason`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceStats {
    /// By reason's number.
    pub drops: [u64; 48],
}

pod! { Traffic = 16, MemberStats = 128, ServiceStats = 384 }
