//! Conntrack phases: pure transitions of a flow's 32-bit state word. The maps that hold it belong to the program.
//!
//! The word of the *reverse* entry is the authority. Phases only move forward, except that a new attempt replaces the
//! whole flow. Each word changes by compare-and-swap, and at most [`State::MOVES`] times in a flow's life.

/// Which direction an entry forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Client to backend.
    Forward = 0,
    /// Backend to client.
    Reverse = 1,
}

/// The phase in the low 8 bits of the state word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Phase {
    /// The client's first packet was forwarded. Evictable.
    Opening = 1,
    /// The backend answered. Evictable.
    Answered = 2,
    /// Both sides proved themselves. Never evicted by new flows.
    Established = 3,
    /// TCP: one side sent a FIN.
    Closing = 4,
    /// TCP: both sides sent a FIN, or one reset. The port rests until the record expires.
    Closed = 5,
}

impl Phase {
    /// The phase by number.
    pub const fn from_number(n: u32) -> Option<Self> {
        Some(match n {
            1 => Self::Opening,
            2 => Self::Answered,
            3 => Self::Established,
            4 => Self::Closing,
            5 => Self::Closed,
            _ => return None,
        })
    }

    /// The name that the CLI prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Answered => "answered",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// What moves a flow from state to state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The backend answered.
    Answered,
    /// The client proved that it heard the backend.
    Established,
    /// The client sent a FIN.
    FinClient,
    /// The backend sent a FIN.
    FinBackend,
    /// One side sent a reset.
    Reset,
    /// The record is given up.
    Closed,
}

/// A flow's state word: phase in bits 0-7, flags in bits 8-15, salt in bits 16-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u32);

impl State {
    const PHASE: u32 = 0xff;
    /// The client sent a FIN.
    pub const FIN_CLIENT: u32 = 0x100;
    /// The backend sent a FIN.
    pub const FIN_BACKEND: u32 = 0x200;
    /// The backend's FIN came first: its side holds TIME_WAIT.
    pub const BACKEND_FIRST: u32 = 0x400;
    /// A reset was seen.
    pub const RESET: u32 = 0x800;

    /// More often than this no word moves: to answered, to established, a FIN of either side, a reset, to closed. Who
    /// tries once more than that to move a word has moved it, or need not.
    pub const MOVES: u32 = 6;

    /// A flow's first state. The salt (low 16 bits of it) stays in the word's upper half to the end: a map element is
    /// reused at once, and a compare-and-swap by who still takes it for the old flow's must fail.
    #[inline(always)]
    pub const fn opening(salt: u32) -> Self {
        Self(Phase::Opening as u32 | salt << 16)
    }

    /// The phase's number, see [`Phase`].
    #[inline(always)]
    pub const fn phase(self) -> u32 {
        self.0 & Self::PHASE
    }

    /// Whether the flow counts as active.
    #[inline(always)]
    pub const fn is_active(self) -> bool {
        self.phase() < Phase::Closed as u32
    }

    /// Whether a newcomer may overwrite it.
    #[inline(always)]
    pub const fn is_half_open(self) -> bool {
        self.phase() <= Phase::Answered as u32
    }

    #[inline(always)]
    const fn with(self, phase: Phase) -> Self {
        Self((self.0 & !Self::PHASE) | phase as u32)
    }

    /// The backend answered: a SYN-ACK, or a datagram.
    #[inline(always)]
    pub const fn answered(self) -> Self {
        if self.phase() == Phase::Opening as u32 { self.with(Phase::Answered) } else { self }
    }

    /// The client proved that it heard the backend.
    #[inline(always)]
    pub const fn established(self) -> Self {
        if self.is_half_open() { self.with(Phase::Established) } else { self }
    }

    /// One side sent a FIN.
    #[inline(always)]
    pub const fn fin(self, from: Direction) -> Self {
        if self.phase() >= Phase::Closed as u32 {
            return self;
        }
        let mut bits = self.0;
        match from {
            Direction::Forward => bits |= Self::FIN_CLIENT,
            Direction::Reverse => {
                if bits & Self::FIN_CLIENT == 0 {
                    bits |= Self::BACKEND_FIRST;
                }
                bits |= Self::FIN_BACKEND;
            }
        }
        let both = Self::FIN_CLIENT | Self::FIN_BACKEND;
        if bits & both == both { Self(bits).with(Phase::Closed) } else { Self(bits).with(Phase::Closing) }
    }

    /// One side sent a reset.
    #[inline(always)]
    pub const fn reset(self) -> Self {
        Self(self.0 | Self::RESET).with(Phase::Closed)
    }

    /// The record is given up: idle, or overwritten.
    #[inline(always)]
    pub const fn closed(self) -> Self {
        self.with(Phase::Closed)
    }

    /// The state after an event.
    #[inline(always)]
    pub const fn after(self, event: Event) -> Self {
        match event {
            Event::Answered => self.answered(),
            Event::Established => self.established(),
            Event::FinClient => self.fin(Direction::Forward),
            Event::FinBackend => self.fin(Direction::Reverse),
            Event::Reset => self.reset(),
            Event::Closed => self.closed(),
        }
    }

    /// Whether the port must rest for the backend's TIME_WAIT.
    #[inline(always)]
    pub const fn backend_waits(self) -> bool {
        self.0 & Self::BACKEND_FIRST != 0 && self.0 & Self::RESET == 0
    }
}

/// Whether a client's ACK proves that it saw the backend's SYN (RFC 9293, section 3.5): it acknowledges exactly the
/// initial sequence number. Before the promotion no other ACK reaches the backend, so the backend has sent nothing else.
#[inline(always)]
pub const fn proves(ack: u32, backend_seq: u32) -> bool {
    ack == backend_seq.wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn close_by_client_first_leaves_no_time_wait_at_the_backend() {
        let s = State::opening(7).answered().established();
        assert!(!s.is_half_open() && s.is_active());
        let s = s.fin(Direction::Forward);
        assert_eq!(s.phase(), Phase::Closing as u32);
        let s = s.fin(Direction::Reverse);
        assert_eq!(s.phase(), Phase::Closed as u32);
        assert!(!s.backend_waits() && !s.is_active());
    }

    #[test]
    fn close_by_backend_first_rests_the_port() {
        let s = State::opening(7).answered().established().fin(Direction::Reverse).fin(Direction::Forward);
        assert!(s.backend_waits());
        assert!(!State::opening(7).fin(Direction::Reverse).reset().backend_waits());
    }

    #[test]
    fn proof_wraps_around() {
        assert!(proves(0, u32::MAX));
        assert!(!proves(1, u32::MAX));
        assert!(!proves(7, 7));
    }

    proptest! {
        #[test]
        fn phases_never_move_back_and_moves_are_bounded(steps in proptest::collection::vec(0u8..6, 0..20)) {
            let mut s = State::opening(0xbeef);
            let mut moves = 0;
            for step in steps {
                let next = s.after(match step {
                    0 => Event::Answered,
                    1 => Event::Established,
                    2 => Event::FinClient,
                    3 => Event::FinBackend,
                    4 => Event::Reset,
                    _ => Event::Closed,
                });
                prop_assert!(next.phase() >= s.phase());
                prop_assert!(Phase::from_number(next.phase()).is_some());
                prop_assert_eq!(next.0 >> 16, 0xbeef, "the salt stays");
                moves += u32::from(next != s);
                s = next;
            }
            prop_assert!(moves <= State::MOVES, "{} moves", moves);
        }
    }
}
