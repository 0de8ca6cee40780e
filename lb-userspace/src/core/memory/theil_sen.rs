//! A robust slope: Theil-Sen, with Sen's confidence interval.
//!
//! The slope is the median of the slopes of all pairs of points. Nearly a third of the points may be anything without
//! carrying it away, and nothing is assumed of the noise but that the points are independent.
//!
//! - H. Theil, "A rank-invariant method of linear and polynomial regression analysis", Proc. Kon. Ned. Akad. v. Wetensch.
//!   A 53 (1950).
//! - P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", J. Am. Stat. Assoc. 63 (1968): ties, and
//!   the interval.
//! - M. G. Kendall, "Rank Correlation Methods", 4th ed. (1970), chapter 4: the variance of S with ties in both.
//! - R. O. Gilbert, "Statistical Methods for Environmental Pollution Monitoring" (1987), 16.5: which slopes bound it.

/// Fewer points than this give no answer: the interval would be nearly all of the slopes.
pub const FEWEST: usize = 6;
/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.96;

/// A slope, y per x. All three are finite, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Lower end of the 95 % confidence interval.
    pub low: f64,
    /// The estimate.
    pub middle: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The slope of y over x. Work grows with the square of the points: the caller bounds them. Points that are not finite
/// are left out. `None`: fewer than [`FEWEST`] points, or too few different x, to bound it.
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    if points.len() < FEWEST {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (i, a) in points.iter().enumerate() {
        for b in &points[i + 1..] {
            let slope = (b.1 - a.1) / (b.0 - a.0);
            if slope.is_finite() {
                slopes.push(slope);
            }
        }
    }
    let half = Z * variance(&points).sqrt();
    let count = slopes.len() as f64;
    // Ranks from 1: the interval is from the M1-th to the (M2 + 1)-th slope, rounded outwards.
    let (first, last) = (((count - half) / 2.0).floor(), ((count + half) / 2.0).ceil() + 1.0);
    if first < 1.0 || last > count {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    // Both ranks are from 1 to the number of slopes.
    let (low, high) = (slopes[first as usize - 1], slopes[last as usize - 1]);
    Some(Slope { low, middle: median_of_sorted(&slopes), high })
}

/// The median; `None` without values. Values must not be NaN.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    (!values.is_empty()).then(|| median_of_sorted(&values))
}

fn median_of_sorted(values: &[f64]) -> f64 {
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// Variance of Kendall's S if there were no trend, with ties among x and among y.
fn variance(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let x = ties(points.iter().map(|p| p.0).collect());
    let y = ties(points.iter().map(|p| p.1).collect());
    let sum = |ties: &[f64], f: fn(f64) -> f64| ties.iter().map(|&t| f(t)).sum::<f64>();
    let all = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
    let triples = |t: f64| t * (t - 1.0) * (t - 2.0);
    let pairs = |t: f64| t * (t - 1.0);
    let main = (all(n) - sum(&x, all) - sum(&y, all)) / 18.0;
    let both = sum(&x, triples) * sum(&y, triples) / (9.0 * triples(n));
    main + both + sum(&x, pairs) * sum(&y, pairs) / (2.0 * pairs(n))
}

/// How many values each group of equal ones has, for groups of two and more.
fn ties(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.chunk_by(|a, b| a == b).map(|group| group.len() as f64).filter(|&n| n > 1.0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::models::Noise;
    use super::*;

    fn line(n: u32, f: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..n).map(|i| (f64::from(i), f(f64::from(i)))).collect()
    }

    #[test]
    fn slope_of_a_textbook_series_has_its_known_interval() {
        // Ten points, one far off. All 45 slopes by hand: the median is 1; S has the variance 10 · 9 · 25 / 18 = 125, so
        // the 11th and the 35th bound it, which are both 1 since nine points lie on the line.
        let mut points = line(10, |x| x);
        points[4].1 = 1e6;
        assert_eq!(slope(&points), Some(Slope { low: 1.0, middle: 1.0, high: 1.0 }));
        assert!((variance(&points) - 125.0).abs() < 1e-9);
    }

    #[test]
    fn variance_with_ties_is_kendalls() {
        // x: 1 1 2 2 2 3, y: 1 2 2 3 3 3. By the formula: (510 - (18 + 66) - (18 + 66)) / 18 + 6 · 6 / (9 · 120) +
        // 8 · 8 / (2 · 30).
        let points = [(1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (2.0, 3.0), (2.0, 3.0), (3.0, 3.0)];
        let expected = (510.0 - 84.0 - 84.0) / 18.0 + 36.0 / 1080.0 + 64.0 / 60.0;
        assert!((variance(&points) - expected).abs() < 1e-9);
    }

    #[test]
    fn slope_without_spread_or_with_few_points_has_no_answer_or_none_in_y() {
        assert_eq!(slope(&line(5, |x| x)), None);
        assert_eq!(slope(&[(1.0, 2.0); 20]), None);
        assert_eq!(slope(&line(20, |_| 5.0)), Some(Slope { low: 0.0, middle: 0.0, high: 0.0 }));
        let mut odd = line(20, |x| 2.0 * x);
        odd.extend([(f64::NAN, 1.0), (1.0, f64::INFINITY)]);
        assert_eq!(slope(&odd).map(|s| s.middle), Some(2.0));
    }

    #[test]
    fn interval_holds_the_true_slope_in_about_95_of_100_cases() {
        let mut noise = Noise::new(7);
        let mut held = 0;
        for _ in 0..1000 {
            let points: Vec<_> =
                line(30, |x| 3.0 * x).into_iter().map(|(x, y)| (x, y + 5.0 * noise.normal())).collect();
            let slope = slope(&points).unwrap();
            held += usize::from(slope.low <= 3.0 && 3.0 <= slope.high);
        }
        assert!((930..=980).contains(&held), "{held} of 1000");
    }

    proptest! {
        #[test]
        fn slope_a_quarter_of_arbitrary_points_does_not_carry_it_away(
            wild in proptest::collection::vec((0usize..40, -1e12f64..1e12), 0..10),
        ) {
            let mut points = line(40, |x| 10.0 * x);
            for (at, y) in wild {
                points[at].1 = y;
            }
            let slope = slope(&points).unwrap();
            prop_assert!(slope.low <= slope.middle && slope.middle <= slope.high);
            prop_assert_eq!(slope.middle, 10.0);
        }
    }
}
