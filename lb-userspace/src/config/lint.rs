//! What is allowed but probably not meant.

use super::check::next_prime;
use super::defaults::SLOTS_PER_MEMBER;
use super::model::{Config, Mode, Service};

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
    let monitored = config.backends.values().any(|b| b.memory.is_some());
    let unseen =
        config.backends.values().filter(|b| monitored && b.memory.is_none()).map(|b| {
            format!("backend {}: its memory is not monitored, unlike others'; consider [backend.memory]", b.name)
        });
    let fewer = config.services.iter().filter_map(|service| {
        let (expected, found) = (service.expect_backends?, service.members.len());
        ((found as u64) < u64::from(expected)).then(|| {
            format!("service {}: {found} members, expect_backends says {expected}: somebody is missing", service.name)
        })
    });
    unprobed
        .chain(unused)
        .chain(unseen)
        .chain(fewer)
        .chain(config.services.iter().filter_map(crowded))
        .chain(config.services.iter().filter_map(forgetful))
        .chain(is_deaf(config).then(|| NO_ROUTE.to_owned()))
        .collect()
}

/// What [`lint`] says of a configuration that [`is_deaf`].
pub const NO_ROUTE: &str =
    "no alert_route: when something is wrong, nobody is told; add one, and try it with `rollcall alert test`";

/// Whether nobody would be told that something is wrong.
pub fn is_deaf(config: &Config) -> bool {
    config.alert_routes.is_empty() && !config.services.is_empty()
}

/// Without a hash, a direct flow that was pushed out of memory cannot be found again.
fn forgetful(service: &Service) -> Option<String> {
    (service.mode != Mode::Nat && !service.algorithm.is_hashed()).then(|| {
        format!(
            "service {}: with mode {} a connection that the edge had to forget is reset under {}, and found again under \
             maglev; consider algorithm = \"maglev\"",
            service.name,
            service.mode.name(),
            service.algorithm.name()
        )
    })
}

/// A hashed table too small for its members gives uneven shares. The others need no more slots than the sum of weights.
fn crowded(service: &Service) -> Option<String> {
    let members = u32::try_from(service.members.len()).unwrap_or(u32::MAX);
    let wanted = members.saturating_mul(SLOTS_PER_MEMBER);
    (service.algorithm.is_hashed() && service.table_size < wanted).then(|| {
        format!(
            "service {}: {members} members share {} slots, fewer than {SLOTS_PER_MEMBER} each, so their shares are uneven; set \
             table_size = {} or more, which is fixed for the life of the service",
            service.name,
            service.table_size,
            next_prime(wanted)
        )
    })
}
