//! Direct flows, of which only the client's direction is seen: what its packets show of a flow's phase, when a flow is
//! over, and which of several a newcomer overwrites. Pure; the maps belong to the program.

use crate::abi::Settings;
use crate::conntrack::Phase;
use crate::wire::l4;

/// The phase of a flow after another packet of its client. `flags`: TCP's, [`l4::ACK`] for UDP.
///
/// One direction proves nothing: a client that sends a second packet is taken for one that was answered.
#[inline(always)]
pub const fn after(phase: u32, flags: u8) -> u32 {
    if flags & l4::RST != 0 {
        Phase::Closed as u32
    } else if flags & l4::FIN != 0 && phase < Phase::Closing as u32 {
        Phase::Closing as u32
    } else if flags & l4::ACK != 0 && phase == Phase::Opening as u32 {
        Phase::Established as u32
    } else {
        phase
    }
}

/// Whether a flow counts as active: until its client's FIN or reset.
#[inline(always)]
pub const fn is_active(phase: u32) -> bool {
    phase < Phase::Closing as u32
}

/// How long a flow may be idle, jiffies.
#[inline(always)]
pub const fn limit(phase: u32, proto: u32, settings: &Settings) -> u32 {
    if phase >= Phase::Closed as u32 {
        settings.closed
    } else if phase == Phase::Closing as u32 {
        settings.closing
    } else if phase == Phase::Opening as u32 && proto == l4::TCP as u32 {
        settings.half_open
    } else if proto == l4::TCP as u32 {
        settings.established
    } else {
        settings.udp
    }
}

/// How long ago a flow's last packet was, jiffies. `now`: coarse, as `last_seen`.
#[inline(always)]
pub const fn idle(now: u32, last_seen: u32, coarse_shift: u32) -> u64 {
    let units = now.wrapping_sub(last_seen);
    // A clock read on two CPUs may step back by one.
    if (units as i32) < 0 { 0 } else { (units as u64) << (coarse_shift & 31) }
}

/// How readily a newcomer overwrites a flow: the highest first. An idle flow before one that was reset, this before one
/// whose client sent a single packet, this before one that is closing, an established one last; of equals the one that was
/// silent longest.
#[inline(always)]
pub const fn readiness(phase: u32, idle: u64, limit: u32) -> u32 {
    let class = if idle > limit as u64 {
        5
    } else if phase >= Phase::Closed as u32 {
        4
    } else if phase == Phase::Opening as u32 {
        3
    } else if phase == Phase::Closing as u32 {
        2
    } else {
        1
    };
    let silent = if idle > 0x0fff_ffff { 0x0fff_ffff } else { idle as u32 };
    class << 28 | silent
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const OPENING: u32 = Phase::Opening as u32;
    const ESTABLISHED: u32 = Phase::Established as u32;
    const CLOSING: u32 = Phase::Closing as u32;
    const CLOSED: u32 = Phase::Closed as u32;

    #[rstest]
    #[case::retransmission(OPENING, l4::SYN, OPENING)]
    #[case::second_packet(OPENING, l4::ACK, ESTABLISHED)]
    #[case::data(ESTABLISHED, l4::ACK, ESTABLISHED)]
    #[case::spoofed_syn(ESTABLISHED, l4::SYN, ESTABLISHED)]
    #[case::fin(ESTABLISHED, l4::FIN | l4::ACK, CLOSING)]
    #[case::fin_at_once(OPENING, l4::FIN | l4::ACK, CLOSING)]
    #[case::ack_of_the_rest(CLOSING, l4::ACK, CLOSING)]
    #[case::reset(ESTABLISHED, l4::RST | l4::ACK, CLOSED)]
    #[case::reset_after_fin(CLOSING, l4::RST, CLOSED)]
    #[case::late_fin(CLOSED, l4::FIN | l4::ACK, CLOSED)]
    fn phase_follows_the_clients_flags(#[case] phase: u32, #[case] flags: u8, #[case] expected: u32) {
        assert_eq!(after(phase, flags), expected);
    }

    #[test]
    fn limits_are_those_of_the_phase() {
        let settings = Settings { half_open: 1, established: 2, udp: 3, closing: 4, closed: 5, ..Settings::default() };
        let tcp = |phase| limit(phase, u32::from(l4::TCP), &settings);
        assert_eq!([OPENING, ESTABLISHED, CLOSING, CLOSED].map(tcp), [1, 2, 4, 5]);
        let udp = |phase| limit(phase, u32::from(l4::UDP), &settings);
        assert_eq!([OPENING, ESTABLISHED].map(udp), [3, 3]);
    }

    #[test]
    fn newcomer_takes_the_idle_then_the_ended_then_the_unconfirmed() {
        let order = [
            readiness(ESTABLISHED, 11, 10),
            readiness(CLOSED, 3, 10),
            readiness(OPENING, 9, 10),
            readiness(OPENING, 8, 10),
            readiness(CLOSING, 9, 10),
            readiness(ESTABLISHED, 9, 10),
            readiness(ESTABLISHED, 0, 10),
        ];
        assert!(order.is_sorted_by(|a, b| a > b), "{order:x?}");
    }

    proptest! {
        #[test]
        fn phases_never_move_back(flags: [u8; 12]) {
            let mut phase = OPENING;
            for flags in flags {
                let next = after(phase, flags);
                prop_assert!(next >= phase && Phase::from_number(next).is_some());
                phase = next;
            }
        }

        #[test]
        fn readiness_is_above_nothing_and_below_an_empty_slot(phase in 1u32..=5, idle: u64, limit: u32) {
            prop_assert!((1..u32::MAX).contains(&readiness(phase, idle, limit)));
        }

        #[test]
        fn idle_time_never_underflows(now: u32, shift in 0u32..10) {
            prop_assert_eq!(idle(now, now.wrapping_add(1), shift), 0);
            prop_assert_eq!(idle(now, now.wrapping_sub(3), shift), 3 << shift);
        }
    }
}
