//! `docs/data-plane.md` names every verdict reason, in the code's own words.

use lb_common::abi::Reason;

#[test]
fn reasons_in_the_documentation_equal_the_code() {
    let text = include_str!("../../docs/data-plane.md");
    let documented: Vec<(u32, &str)> = text
        .lines()
        .skip_while(|line| !line.starts_with("| number | reason |"))
        .skip(2)
        .map_while(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`')))
        })
        .collect();
    let coded: Vec<_> = Reason::ALL.iter().map(|reason| (*reason as u32, reason.name())).collect();
    assert_eq!(documented, coded);
    assert!(coded.len() <= Reason::MAX as usize);
}
