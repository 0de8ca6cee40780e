//! Numbers and times as people read them.

use jiff::Timestamp;

use super::output::Tone;
use crate::core::api::EventKind;
use crate::core::reason::ReasonKind;

/// A span of time in its two largest units: `4 m`, `1 h 5 m`, `2 d 3 h`. Negative spans (a clock that was set back)
/// are `0 s`.
pub(super) fn span_ms(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} m"),
        (0, h, 0) => format!("{h} h"),
        (0, h, m) => format!("{h} h {m} m"),
        (d, 0, _) => format!("{d} d"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// From `then` to `now`, as [`span_ms`].
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    span_ms(now.as_millisecond() - then.as_millisecond())
}

/// A measured time: `350 µs`, `1.2 ms`, `2.5 s`.
pub(super) fn duration_ms(ms: f64) -> String {
    match ms {
        // 0.9995 would print as 1000 µs.
        ..0.9995 => format!("{:.0} µs", ms * 1000.0),
        ..999.95 => format!("{ms:.1} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// A number with a decimal prefix and a unit: `9.0 MB`, `72.5 kbit/s`, `120 B`.
pub(super) fn scaled(value: f64, unit: &str) -> String {
    let mut value = value;
    for prefix in ["", "k", "M", "G", "T"] {
        // 999.95 would print as 1000.0.
        if value < 999.95 {
            return if prefix.is_empty() { format!("{value:.0} {unit}") } else { format!("{value:.1} {prefix}{unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} P{unit}")
}

/// A weight: whole if it is.
pub(super) fn weight(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A reason's kind in words.
pub(super) fn reason(kind: ReasonKind) -> String {
    kind.name().replace('_', " ")
}

/// An event's kind in words.
pub(super) fn event(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Configured => "configured",
        EventKind::Up => "up",
        EventKind::Down => "down",
        EventKind::BackupInUse => "BACKUP in use",
        EventKind::BackupStandby => "backup stands by",
        EventKind::Panic => "PANIC: all in",
        EventKind::PanicOver => "panic over",
        EventKind::AtLimit => "AT its LIMIT",
        EventKind::BelowLimit => "below its limit",
        EventKind::ServiceAtLimit => "service AT its LIMIT",
        EventKind::ServiceBelowLimit => "service below its limit",
        EventKind::Ramping => "ramp begins",
        EventKind::Ramped => "full weight",
        EventKind::InRotation => "in rotation",
        EventKind::OutOfRotation => "OUT of rotation",
        EventKind::EdgeSuspected => "edge suspected",
        EventKind::EdgeCleared => "edge cleared",
        EventKind::ApplyFailed => "apply failed",
        EventKind::Unverified => "unverified",
        EventKind::Drained => "drained",
        EventKind::Maintenance => "in maintenance",
        EventKind::LeaseExtended => "lease extended",
        EventKind::Renamed => "goes by the new name",
        EventKind::LeaseIdle => "lease covers nobody",
        EventKind::Emptied => "no flow left",
        EventKind::LeaseEnding => "lease ends soon",
        EventKind::LeaseEnded => "lease over",
        EventKind::Restored => "restored",
        EventKind::Recalled => "called back",
        EventKind::TooFew => "TOO FEW left",
        EventKind::Outgrown => "the rest CANNOT CARRY it",
        EventKind::GuardOverridden => "guard OVERRIDDEN",
        EventKind::NMinusOneUnmet => "N-1 NOT met",
        EventKind::NMinusOneMet => "N-1 met",
        EventKind::RiskAccepted => "risk accepted",
        EventKind::RiskWithdrawn => "risk withdrawn",
        EventKind::RiskEnded => "risk no longer accepted",
        EventKind::ReturnFailed => "RETURN FAILED",
        EventKind::Removed => "REMOVED",
        EventKind::Returned => "returned",
        EventKind::Forgotten => "forgotten",
        EventKind::Decommissioned => "decommissioned",
        EventKind::MemoryShort => "memory SHORT",
        EventKind::MemoryAmple => "memory ample",
        EventKind::MemoryUnknown => "memory unknown",
        EventKind::MemoryEnds => "memory ENDS",
        EventKind::MemoryHolds => "memory holds",
        EventKind::Advised => "agent advises",
        EventKind::AdviceSilent => "agent silent",
        EventKind::Shed => "weight for memory",
        EventKind::SheddingStuck => "shedding does NOT help",
        EventKind::DistributionOff => "new flows astray",
        EventKind::DistributionWell => "new flows as they should",
        EventKind::Overdue => "OVERDUE",
        EventKind::DaemonStarted => "daemon started",
        EventKind::DaemonStopped => "daemon stopped",
        EventKind::RevisionApplied => "revision applied",
        EventKind::DriftFound => "DRIFT found",
        EventKind::DriftRepaired => "drift repaired",
        EventKind::DriftLeft => "DRIFT LEFT",
        EventKind::ProgramAttached => "program attached",
        EventKind::WarningRaised => "WARNING raised",
        EventKind::WarningCleared => "warning cleared",
        EventKind::EventsLost => "EVENTS LOST",
        EventKind::AlertFired => "ALERT",
        EventKind::AlertResolved => "alert resolved",
        EventKind::AlertDelivered => "alert delivered",
        EventKind::AlertAcknowledged => "alert acknowledged",
        EventKind::AlertAckEnded => "acknowledgement ended",
    }
}

/// What an event means for the pool.
pub(super) fn event_tone(kind: EventKind) -> Tone {
    match kind {
        EventKind::Up
        | EventKind::InRotation
        | EventKind::PanicOver
        | EventKind::Ramped
        | EventKind::DriftRepaired
        | EventKind::NMinusOneMet
        | EventKind::WarningCleared
        | EventKind::AlertResolved => Tone::Good,
        EventKind::Down
        | EventKind::OutOfRotation
        | EventKind::BackupInUse
        | EventKind::Panic
        | EventKind::DriftLeft
        | EventKind::EventsLost
        | EventKind::AlertFired => Tone::Bad,
        EventKind::Configured
        | EventKind::RevisionApplied
        | EventKind::DaemonStarted
        | EventKind::DaemonStopped
        | EventKind::ProgramAttached => Tone::Plain,
        _ => Tone::Warn,
    }
}

/// `1 backend`, `2 backends`.
pub(super) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(-5000, "0 s")]
    #[case(59_999, "59 s")]
    #[case(60_000, "1 m")]
    #[case(3_600_000, "1 h")]
    #[case(3_900_000, "1 h 5 m")]
    #[case(86_400_000, "1 d")]
    #[case(97_200_000, "1 d 3 h")]
    fn span_of_milliseconds_has_its_two_largest_units(#[case] ms: i64, #[case] text: &str) {
        assert_eq!(span_ms(ms), text);
    }

    #[rstest]
    #[case(0.0424, "42 µs")]
    #[case(0.9996, "1.0 ms")]
    #[case(1.25, "1.2 ms")]
    #[case(999.96, "1.0 s")]
    fn duration_has_the_unit_that_shows_it(#[case] ms: f64, #[case] text: &str) {
        assert_eq!(duration_ms(ms), text);
    }

    #[rstest]
    #[case(0.0, "0 B")]
    #[case(999.0, "999 B")]
    #[case(1000.0, "1.0 kB")]
    #[case(999_960.0, "1.0 MB")]
    #[case(9_000_000.0, "9.0 MB")]
    fn scaled_number_has_at_most_three_digits_before_the_point(#[case] value: f64, #[case] text: &str) {
        assert_eq!(scaled(value, "B"), text);
    }

    #[rstest]
    #[case(2.0, "2")]
    #[case(0.25, "0.25")]
    #[case(10.0, "10")]
    #[case(0.0, "0")]
    fn weight_is_whole_if_it_can_be(#[case] value: f64, #[case] text: &str) {
        assert_eq!(weight(value), text);
    }
}
