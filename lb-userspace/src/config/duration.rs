//! Durations as people write them: `500ms`, `2s`, `1h30m`. Whole units only, so that text and value agree exactly.

use std::fmt;
use std::time::Duration;

/// Units and their milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration: one or more of number and unit, without spaces.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let ms = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(ms)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(Duration::from_millis(total))
}

/// Writes a duration so that [`parse`] reads it back; anything below a millisecond is dropped.
pub(super) struct Display(pub(super) Duration);

impl fmt::Display for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, ms) in UNITS {
            if rest >= ms {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("500ms", 500)]
    #[case("2s", 2000)]
    #[case("10m", 600_000)]
    #[case("1h30m", 5_400_000)]
    #[case("1d", 86_400_000)]
    #[case("0s", 0)]
    fn parse_of_number_and_unit_is_their_product(#[case] text: &str, #[case] ms: u64) {
        assert_eq!(parse(text), Some(Duration::from_millis(ms)));
    }

    #[rstest]
    fn parse_of_anything_else_is_none(
        #[values("", "2", "s", "2 s", "-2s", "2.5s", "2S", "2s3", "18446744073709551615d", "٣s")] text: &str,
    ) {
        assert_eq!(parse(text), None);
    }

    proptest! {
        #[test]
        fn display_is_read_back_exactly(ms: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&Display(duration).to_string()), Some(duration));
        }
    }
}
