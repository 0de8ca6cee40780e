//! Alert routes: each name once.

use std::collections::BTreeMap;

use super::super::error::Report;
use super::super::model::{AlertRoute, RouteName};
use super::super::raw::{Located, RawRoute};

/// The routes that were read whole, in the file's order.
pub(super) fn build(raws: Vec<RawRoute>, report: &Report<'_>) -> Vec<AlertRoute> {
    let mut lines: BTreeMap<RouteName, usize> = BTreeMap::new();
    for Located { value: name, at } in raws.iter().filter_map(|raw| raw.name.good()) {
        let line = report.line(at);
        let first = *lines.entry(name.clone()).or_insert(line);
        if first != line {
            let rule = format!("an alert route of this name is already at line {first}");
            report.value(at, rule, "rename or remove one");
        }
    }
    raws.into_iter().filter_map(|raw| raw.route).collect()
}
