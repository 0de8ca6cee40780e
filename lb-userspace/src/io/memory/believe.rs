//! What numbers are believed. A wrong one would move traffic, so whatever cannot be true is refused with its reason.

use jiff::{SignedDuration, Timestamp};

use crate::core::memory::sample::Sample;

/// More memory than any server has: what claims more has another unit, or is broken.
const MAX_BYTES: f64 = (1u64 << 60) as f64;
/// Age from which a measurement says nothing of now.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(60);
/// How far a server's clock may be ahead of this host's.
const MAX_AHEAD: SignedDuration = SignedDuration::from_secs(5);

/// Why an answer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbelievable {
    /// It is not what was asked for.
    #[error("{0}")]
    Format(String),
    /// A number is missing.
    #[error("it does not say {0}")]
    Missing(&'static str),
    /// Not a number.
    #[error("{0} is not a number")]
    NotANumber(&'static str),
    /// Below 0.
    #[error("{0} is negative")]
    Negative(&'static str),
    /// No memory at all.
    #[error("total memory is 0")]
    NoMemory,
    /// More than 2^60 bytes.
    #[error("{0} is more than 2^60 bytes")]
    Absurd(&'static str),
    /// More available than there is.
    #[error("{available} bytes are said to be available of {total} in all")]
    MoreThanAll {
        /// What is said to be available, bytes.
        available: u64,
        /// What is said to be there, bytes.
        total: u64,
    },
    /// A share that is none.
    #[error("pressure is not a share of 0 to 1")]
    Pressure,
    /// Measured too long ago.
    #[error("it was measured {0} s ago, by that server's clock; compare the clocks")]
    Stale(i64),
    /// Measured in the future.
    #[error("it was measured {0} s in the future, by that server's clock; compare the clocks")]
    FromTheFuture(i64),
}

/// A sample of numbers that can be true, with at most 2^53 bytes' precision.
pub(super) fn sample(total: f64, available: f64, pressure: Option<f64>) -> Result<Sample, Unbelievable> {
    let total_bytes = bytes(total, "total memory")?;
    let available_bytes = bytes(available, "available memory")?;
    if total_bytes == 0 {
        return Err(Unbelievable::NoMemory);
    }
    if available_bytes > total_bytes {
        return Err(Unbelievable::MoreThanAll { available: available_bytes, total: total_bytes });
    }
    if pressure.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err(Unbelievable::Pressure);
    }
    Ok(Sample { total_bytes, available_bytes, pressure })
}

fn bytes(value: f64, what: &'static str) -> Result<u64, Unbelievable> {
    if value.is_nan() {
        return Err(Unbelievable::NotANumber(what));
    }
    if value < 0.0 {
        return Err(Unbelievable::Negative(what));
    }
    if value > MAX_BYTES {
        return Err(Unbelievable::Absurd(what));
    }
    // In range, as was just seen.
    Ok(value as u64)
}

/// Whether a measurement made at `time` says something of `now`.
pub(super) fn fresh(time: Timestamp, now: Timestamp) -> Result<(), Unbelievable> {
    let age = now.duration_since(time);
    if age > MAX_AGE {
        return Err(Unbelievable::Stale(age.as_secs()));
    }
    if age < -MAX_AHEAD {
        return Err(Unbelievable::FromTheFuture(age.as_secs().saturating_neg()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GIB: f64 = (1u64 << 30) as f64;

    #[test]
    fn sample_of_true_numbers_keeps_them() {
        let wanted = Sample { total_bytes: 4 << 30, available_bytes: 1 << 30, pressure: Some(0.5) };
        assert_eq!(sample(4.0 * GIB, GIB, Some(0.5)), Ok(wanted));
        assert_eq!(sample(GIB, GIB, None).unwrap().headroom(), 1.0);
        assert_eq!(sample(GIB, 0.0, None).unwrap().headroom(), 0.0);
    }

    #[rstest]
    #[case(f64::NAN, 1.0, None, "total memory is not a number")]
    #[case(GIB, f64::NAN, None, "available memory is not a number")]
    #[case(GIB, -1.0, None, "available memory is negative")]
    #[case(f64::NEG_INFINITY, 0.0, None, "total memory is negative")]
    #[case(f64::INFINITY, 1.0, None, "total memory is more than 2^60 bytes")]
    #[case(2.0 * MAX_BYTES, 1.0, None, "total memory is more than 2^60 bytes")]
    #[case(0.0, 0.0, None, "total memory is 0")]
    #[case(0.25, 0.0, None, "total memory is 0")]
    #[case(1024.0, 1025.0, None, "1025 bytes are said to be available of 1024 in all")]
    #[case(GIB, 1.0, Some(f64::NAN), "pressure is not a share of 0 to 1")]
    #[case(GIB, 1.0, Some(1.01), "pressure is not a share of 0 to 1")]
    #[case(GIB, 1.0, Some(-0.01), "pressure is not a share of 0 to 1")]
    fn sample_of_what_cannot_be_true_is_refused_with_the_reason(
        #[case] total: f64,
        #[case] available: f64,
        #[case] pressure: Option<f64>,
        #[case] why: &str,
    ) {
        assert_eq!(sample(total, available, pressure).unwrap_err().to_string(), why);
    }

    #[rstest]
    #[case(0, Ok(()))]
    #[case(60, Ok(()))]
    #[case(61, Err(Unbelievable::Stale(61)))]
    #[case(-5, Ok(()))]
    #[case(-6, Err(Unbelievable::FromTheFuture(6)))]
    #[case(i64::from(i32::MAX), Err(Unbelievable::Stale(i64::from(i32::MAX))))]
    fn fresh_is_what_was_measured_within_a_minute(#[case] age_s: i64, #[case] wanted: Result<(), Unbelievable>) {
        let now = Timestamp::from_second(4_000_000_000).unwrap();
        assert_eq!(fresh(now - SignedDuration::from_secs(age_s), now), wanted);
    }
}
