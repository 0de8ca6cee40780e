//! A token bucket in one word (the "generic cell rate algorithm" of ATM): when the bucket would be full again.

/// Takes one token, if there is one. `full_at` is the bucket's word, `now` the time, `each` what one token takes to come
/// back, all in one unit; `burst` is how many tokens the bucket holds. A clock that steps back only makes it stricter.
#[inline(always)]
pub const fn take(full_at: &mut u64, now: u64, each: u64, burst: u64) -> bool {
    let from = if *full_at > now { *full_at } else { now };
    if from - now + each > each * burst {
        return false;
    }
    *full_at = from + each;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bucket_gives_its_burst_at_once_and_then_its_rate() {
        let mut word = 0;
        let taken = |word: &mut u64, now| (0..100).filter(|_| take(word, now, 10, 5)).count();
        assert_eq!(taken(&mut word, 1000), 5);
        assert_eq!(taken(&mut word, 1009), 0);
        assert_eq!(taken(&mut word, 1010), 1);
        assert_eq!(taken(&mut word, 1035), 2, "the half of a third stays");
        assert_eq!(taken(&mut word, 1040), 1);
        assert_eq!(taken(&mut word, 9000), 5, "never more than its burst");
    }

    proptest! {
        #[test]
        fn bucket_never_gives_more_than_burst_and_rate(steps in proptest::collection::vec(0u64..50, 1..200), each in 1u64..20, burst in 1u64..10) {
            let (mut word, mut now, mut given) = (0, 1_000, 0);
            for step in steps {
                now += step;
                given += u64::from(take(&mut word, now, each, burst));
                prop_assert!(given <= burst + (now - 1_000) / each);
            }
        }
    }
}
