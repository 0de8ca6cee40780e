//! Which headroom is little, and which is enough again: apart, so that the fact does not flap.

/// Shares of headroom below which memory is tight or exhausted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    tight: f64,
    exhausted: f64,
}

impl Default for Thresholds {
    /// 20 % and 5 %.
    fn default() -> Self {
        Self { tight: 0.20, exhausted: 0.05 }
    }
}

impl Thresholds {
    /// `None` unless 0 < `exhausted` < `tight` < 1.
    pub fn new(tight: f64, exhausted: f64) -> Option<Self> {
        (0.0 < exhausted && exhausted < tight && tight < 1.0).then_some(Self { tight, exhausted })
    }

    /// Below it, memory is tight.
    pub fn tight(self) -> f64 {
        self.tight
    }

    /// Below it, memory is exhausted.
    pub fn exhausted(self) -> f64 {
        self.exhausted
    }

    /// From here on it is ample again: a quarter above `tight` (25 % by default), but reachable.
    pub fn ample_again(self) -> f64 {
        (self.tight * 1.25).min(f64::midpoint(self.tight, 1.0))
    }

    /// From here on it is no longer exhausted: half above `exhausted` (7.5 % by default), but below `tight`.
    pub fn tight_again(self) -> f64 {
        (self.exhausted * 1.5).min(f64::midpoint(self.exhausted, self.tight))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn thresholds_that_make_no_sense_are_none() {
        assert!(Thresholds::new(0.2, 0.05).is_some());
        for (tight, exhausted) in [(0.05, 0.2), (0.2, 0.2), (1.0, 0.1), (0.2, 0.0), (f64::NAN, 0.1), (0.2, f64::NAN)] {
            assert_eq!(Thresholds::new(tight, exhausted), None, "{tight} {exhausted}");
        }
    }

    proptest! {
        #[test]
        fn thresholds_to_leave_lie_above_those_to_enter_and_can_be_reached(a in 0.001f64..0.999, b in 0.001f64..0.999) {
            if let Some(t) = Thresholds::new(a.max(b), a.min(b)) {
                prop_assert!(t.exhausted() < t.tight_again() && t.tight_again() < t.tight());
                prop_assert!(t.tight() < t.ample_again() && t.ample_again() < 1.0);
            }
        }
    }
}
