//! Pressure stall information: how long tasks had to wait for memory (Linux 4.20, if it was built in).

use std::path::Path;

/// The share of the last ten seconds in which some task waited, 0 to 1; `None` if the kernel does not say.
pub(super) fn read(file: &Path) -> Option<f64> {
    parse(&std::fs::read_to_string(file).ok()?)
}

fn parse(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = some.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_of_a_real_file_is_the_share_of_ten_seconds() {
        let text =
            "some avg10=12.50 avg60=1.79 avg300=1.93 total=10689464\nfull avg10=99.00 avg60=1.31 avg300=1.34 total=7\n";
        assert_eq!(parse(text), Some(0.125));
        assert_eq!(parse(&text.replace("12.50", "101.00")), None);
        assert_eq!(parse(""), None);
    }
}
