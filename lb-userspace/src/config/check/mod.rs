//! The rules that span items, and the one place where a checked `Config` is made. Each rule stays silent where a value
//! it needs was already refused.

mod addresses;
mod alerts;
mod services;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{MAX_LINKS, MAX_POOL};

pub(super) use self::services::next_prime;
use super::error::Report;
use super::memory::{AgentCheck, MemoryKind, MemorySource};
use super::model::{Backend, BackendName, Config, Edge, SourcePool};
use super::raw::{Field, Located, Raw, RawBackend, Source};

/// Checks everything and makes the configuration, which holds only if nothing was reported.
pub(super) fn check(raw: Raw, report: &Report<'_>) -> Config {
    edge(&raw, report);
    pool(&raw.pool.ipv4, report);
    pool(&raw.pool.ipv6, report);
    addresses::check(&raw, report);
    let backends = by_name(&raw.backends, report);
    services::unique(&raw.services, report);
    services::tables(&raw, report);
    let services = services::build(&raw, &backends, report);
    let plain = |located: Vec<Located<String>>| located.into_iter().map(|located| located.value).collect();
    Config {
        owner: raw.owner,
        edge: Edge {
            interfaces: plain(raw.edge.interfaces.or(Vec::new())),
            mode: raw.edge.mode,
            manage_vips: raw.edge.manage_vips,
        },
        source_pool: SourcePool {
            ipv4: raw.pool.ipv4.or(Vec::new()).into_iter().map(|located| located.value).collect(),
            ipv6: raw.pool.ipv6.or(Vec::new()).into_iter().map(|located| located.value).collect(),
            ports: raw.pool.ports,
        },
        conntrack: raw.conntrack.0,
        control: raw.control,
        heartbeat: raw.heartbeat,
        backends: backends.into_iter().map(|(name, raw)| (name.clone(), backend(name, raw))).collect(),
        services,
        alert_routes: alerts::build(raw.routes, report),
    }
}

fn backend(name: &BackendName, raw: &RawBackend) -> Backend {
    let ipv4 = raw.ipv4.good().map(|located| located.value);
    let ipv6 = raw.ipv6.good().map(|located| located.value);
    // Without a good address no configuration results.
    let own = ipv4.map(IpAddr::V4).or(ipv6.map(IpAddr::V6));
    let memory = raw.memory.as_ref().and_then(|memory| {
        let kind = match memory.source {
            Source::Agent => MemoryKind::Agent { token_file: memory.token_file.clone() },
            Source::NodeExporter => MemoryKind::NodeExporter,
        };
        let to = SocketAddr::new(memory.address.or(own)?, memory.port.get());
        Some(MemorySource { kind, to, interval: memory.interval })
    });
    let agent_check = raw
        .agent_check
        .as_ref()
        .and_then(|check| Some(AgentCheck { to: SocketAddr::new(own?, check.port.get()), interval: check.interval }));
    Backend {
        name: name.clone(),
        ipv4,
        ipv6,
        owner: raw.owner.clone(),
        max_flows: raw.max_flows,
        memory,
        agent_check,
        slow_start: raw.slow_start,
    }
}

fn edge(raw: &Raw, report: &Report<'_>) {
    let (list, at) = match &raw.edge.interfaces {
        Field::Bad => return,
        Field::Good(Located { value, at }) => (value.as_slice(), at.clone()),
        Field::Absent => (&[][..], super::error::At { key: "edge.interfaces".into(), ..raw.edge.at.clone() }),
    };
    if list.is_empty() && !raw.services.is_empty() {
        let mend = "name the interface that clients are reached by, for example interfaces = [\"eth0\"]";
        report.place(&at, "services need an interface", mend);
    }
    too_many(list, MAX_LINKS, "interfaces", &at, report);
    repeated(list, "interface", report);
}

fn pool<T: Ord + std::fmt::Display>(field: &Field<Vec<Located<T>>>, report: &Report<'_>) {
    if let Some(Located { value, at }) = field.good() {
        too_many(value, MAX_POOL, "addresses", at, report);
        repeated(value, "address", report);
    }
}

fn too_many<T>(list: &[Located<T>], most: usize, what: &str, at: &super::error::At, report: &Report<'_>) {
    if list.len() > most {
        report.place(at, format!("at most {most} {what}, not {}", list.len()), "remove some");
    }
}

fn repeated<T: Ord>(list: &[Located<T>], what: &str, report: &Report<'_>) {
    let mut seen = std::collections::BTreeSet::new();
    for located in list {
        if !seen.insert(&located.value) {
            report.value(&located.at, format!("the same {what} twice"), "remove one");
        }
    }
}

/// Backends by name, the first of each.
fn by_name<'a>(raws: &'a [RawBackend], report: &Report<'_>) -> BTreeMap<&'a BackendName, &'a RawBackend> {
    let mut backends: BTreeMap<&BackendName, &RawBackend> = BTreeMap::new();
    for raw in raws {
        let Some(Located { value: name, at }) = raw.name.good() else { continue };
        match backends.entry(name) {
            Entry::Vacant(entry) => _ = entry.insert(raw),
            Entry::Occupied(entry) => {
                let first = entry.get().name.good().expect("only backends with a good name are kept");
                let rule = format!("a backend of this name is already at line {}", report.line(&first.at));
                report.value(at, rule, "rename or remove one");
            }
        }
    }
    backends
}
