//! What is allowed but probably not meant.

use super::model::Config;

/// One line for each thing that deserves a second look. An empty list is the usual case.
pub fn lint(config: &Config) -> Vec<String> {
    let unprobed = config.services.iter().filter(|service| service.probe.is_none()).map(|service| {
        format!("service {}: not probed, so a dead member keeps its flows; consider a tcp or http probe", service.name)
    });
    let unused = config
        .backends
        .keys()
        .filter(|name| !config.services.iter().any(|s| s.members.iter().any(|member| member.backend == **name)))
        .map(|name| format!("backend {name}: member of no service"));
    let fewer = config.services.iter().filter_map(|service| {
        let (expected, found) = (service.expect_backends?, service.members.len());
        ((found as u64) < u64::from(expected)).then(|| {
            format!("service {}: {found} members, expect_backends says {expected}: somebody is missing", service.name)
        })
    });
    unprobed.chain(unused).chain(fewer).collect()
}
