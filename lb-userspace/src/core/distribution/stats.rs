//! The likelihood-ratio test of counts against expected counts (G-test), with Williams' correction.

use statrs::function::gamma::gamma_ur;

/// Cells whose expected count is below this are one.
const LEAST: f64 = 5.0;

/// How likely counts are so far from what is expected by chance: `(observed, expected)`, whose sums are equal. 1 where
/// there is nothing to compare.
pub(super) fn p_value(cells: &[(f64, f64)]) -> f64 {
    let (small, mut cells): (Vec<_>, Vec<_>) = cells.iter().copied().partition(|(_, expected)| *expected < LEAST);
    let rest = small.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
    if rest.1 >= LEAST {
        cells.push(rest);
    }
    let total: f64 = cells.iter().map(|cell| cell.1).sum();
    if cells.len() < 2 {
        return 1.0;
    }
    // What was left out for being too little leaves sums that differ by as little; the terms then add up as counts do.
    let term = |&(observed, expected): &(f64, f64)| {
        let log = if observed > 0.0 { observed * (observed / expected).ln() } else { 0.0 };
        log - (observed - expected)
    };
    let g = 2.0 * cells.iter().map(term).sum::<f64>();
    let freedom = cells.len() as f64 - 1.0;
    let spread: f64 = cells.iter().map(|cell| total / cell.1).sum::<f64>() - 1.0;
    let corrected = g.max(0.0) / (1.0 + spread / (6.0 * total * freedom));
    tail(corrected, freedom)
}

/// The upper tail of the chi-square distribution.
fn tail(x: f64, freedom: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { gamma_ur(freedom / 2.0, x / 2.0) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// From tables of the distribution, and R's `pchisq(x, df, lower.tail = FALSE)`.
    #[rstest]
    #[case(3.841_459, 1.0, 0.05)]
    #[case(6.634_897, 1.0, 0.01)]
    #[case(23.928_127, 1.0, 1e-6)]
    #[case(18.307_038, 10.0, 0.05)]
    #[case(124.342_113, 100.0, 0.05)]
    fn tail_is_that_of_the_tables(#[case] x: f64, #[case] freedom: f64, #[case] p: f64) {
        assert!((tail(x, freedom) / p - 1.0).abs() < 1e-4, "{}", tail(x, freedom));
    }

    #[test]
    fn p_value_of_known_counts() {
        // Sokal and Rohlf's example of a 9:3:3:1 ratio: G = 1.4 to 1.6 without correction; nothing remarkable.
        let cells = [(315.0, 312.75), (108.0, 104.25), (101.0, 104.25), (32.0, 34.75)];
        let p = p_value(&cells);
        assert!((p - 0.925).abs() < 0.005, "{p}");
        assert!(p_value(&[(50.0, 50.0), (50.0, 50.0)]) > 0.999);
        assert!(p_value(&[(0.0, 20.0), (40.0, 20.0)]) < 1e-6);
        assert_eq!(p_value(&[(7.0, 7.0)]), 1.0, "one cell has nothing to be compared with");
        assert_eq!(p_value(&[(0.0, 4.0), (9.0, 5.0)]), 1.0, "too few for any word");
    }
}
