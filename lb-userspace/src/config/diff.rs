//! What changed between two configurations, in words, and what cannot change while something runs.

use std::fmt::{Debug, Display};
use std::time::Duration;

use super::duration;
use super::memory::{AgentCheck, MemorySource};
use super::model::{AlertRoute, Backend, Config, Member, Service, Tier};

/// One line for each change; empty exactly if the two are equal.
pub fn describe(old: &Config, new: &Config) -> Vec<String> {
    let mut out = Vec::new();
    let mut changed = Changes { prefix: String::new(), out: &mut out };
    changed.debug("config_owner", &old.owner, &new.owner);
    changed.debug("edge.interfaces", &old.edge.interfaces, &new.edge.interfaces);
    changed.debug("edge.mode", &old.edge.mode, &new.edge.mode);
    changed.debug("edge.manage_vips", &old.edge.manage_vips, &new.edge.manage_vips);
    changed.debug("source_pool.ipv4", &old.source_pool.ipv4, &new.source_pool.ipv4);
    changed.debug("source_pool.ipv6", &old.source_pool.ipv6, &new.source_pool.ipv6);
    changed.debug("source_pool.ports", &old.source_pool.ports, &new.source_pool.ports);
    conntrack(&mut changed, old, new);
    fixed_paths(&mut changed, old, new);
    changed.debug("control.pin_dir", &old.control.pin_dir, &new.control.pin_dir);
    heartbeat(&mut changed, old, new);
    for (name, backend) in &new.backends {
        match old.backends.get(name) {
            None => changed.out.push(format!("backend {name} added ({})", addresses(backend))),
            Some(before) => backends(changed.out, before, backend),
        }
    }
    for name in old.backends.keys().filter(|name| !new.backends.contains_key(*name)) {
        changed.out.push(format!("backend {name} removed"));
    }
    for service in &new.services {
        match old.services.iter().find(|before| before.name == service.name) {
            None => changed.out.push(format!("service {} added ({})", service.name, listener(service))),
            Some(before) => services(changed.out, before, service),
        }
    }
    for service in old.services.iter().filter(|s| !new.services.iter().any(|other| other.name == s.name)) {
        changed.out.push(format!("service {} removed ({})", service.name, listener(service)));
    }
    if reordered(&old.services, &new.services, |service| &service.name) {
        out.push("services in another order".into());
    }
    routes(&mut out, &old.alert_routes, &new.alert_routes);
    out
}

/// Keys that differ and are fixed while the data plane is up, each with its reason. They need `rollcall down` and a new
/// start, which drops all flows.
pub fn needs_recreate(old: &Config, new: &Config) -> Vec<String> {
    let mut out = Vec::new();
    let mut changed = Changes { prefix: String::new(), out: &mut out };
    let (a, b) = (&old.conntrack, &new.conntrack);
    changed.display("conntrack.max_flows", &a.max_flows, &b.max_flows);
    changed.display("conntrack.max_half_open", &a.max_half_open, &b.max_half_open);
    changed.display("conntrack.arena_slots", &a.arena_slots, &b.arena_slots);
    changed.debug("conntrack.seed", &a.seed, &b.seed);
    changed.debug("control.pin_dir", &old.control.pin_dir, &new.control.pin_dir);
    for line in &mut *changed.out {
        line.push_str(": sized or chosen when the maps are created");
    }
    for service in &new.services {
        let same = |before: &&Service| before.listen == service.listen;
        if let Some(before) = old.services.iter().find(same)
            && before.algorithm.is_hashed()
            && service.algorithm.is_hashed()
            && before.table_size != service.table_size
        {
            out.push(format!(
                "service.{}.table_size {} -> {}: fixed for the life of the service, since another size moves most flows",
                service.name, before.table_size, service.table_size
            ));
        }
    }
    out
}

/// Keys that differ and take effect only when the daemon starts again. Traffic is not touched by that.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut out = Vec::new();
    fixed_paths(&mut Changes { prefix: String::new(), out: &mut out }, old, new);
    out
}

/// Collects `key old -> new` for what differs.
struct Changes<'o> {
    prefix: String,
    out: &'o mut Vec<String>,
}

impl Changes<'_> {
    fn display<T: PartialEq + Display>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.out.push(format!("{}{key} {old} -> {new}", self.prefix));
        }
    }

    fn debug<T: PartialEq + Debug>(&mut self, key: &str, old: &T, new: &T) {
        if old != new {
            self.out.push(format!("{}{key} {} -> {}", self.prefix, words(old), words(new)));
        }
    }

    fn optional(&mut self, key: &str, old: Option<Duration>, new: Option<Duration>) {
        if old != new {
            let words = |d: Option<Duration>| d.map_or_else(|| "unset".into(), |d| duration::Display(d).to_string());
            self.out.push(format!("{}{key} {} -> {}", self.prefix, words(old), words(new)));
        }
    }

    fn duration(&mut self, key: &str, old: Duration, new: Duration) {
        if old != new {
            let (old, new) = (duration::Display(old), duration::Display(new));
            self.out.push(format!("{}{key} {old} -> {new}", self.prefix));
        }
    }
}

/// A value as a person would write it: `None` and `Some` are Rust's words, and variants are lower case in the file.
fn words(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.as_str() {
        "None" => "unset".into(),
        _ => match text.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')')) {
            Some(inner) => inner.into(),
            None if text.bytes().all(|b| b.is_ascii_alphabetic()) => text.to_ascii_lowercase(),
            None => text,
        },
    }
}

fn heartbeat(changed: &mut Changes<'_>, old: &Config, new: &Config) {
    let url = |config: &Config| config.heartbeat.as_ref().map(|h| h.url.clone());
    changed.debug("heartbeat.url", &url(old), &url(new));
    if let (Some(a), Some(b)) = (&old.heartbeat, &new.heartbeat) {
        changed.duration("heartbeat.interval", a.interval, b.interval);
    }
}

fn conntrack(changed: &mut Changes<'_>, old: &Config, new: &Config) {
    let (a, b) = (&old.conntrack, &new.conntrack);
    changed.display("conntrack.max_flows", &a.max_flows, &b.max_flows);
    changed.display("conntrack.max_half_open", &a.max_half_open, &b.max_half_open);
    changed.display("conntrack.arena_slots", &a.arena_slots, &b.arena_slots);
    changed.debug("conntrack.seed", &a.seed, &b.seed);
    changed.duration("conntrack.half_open_timeout", a.half_open_timeout, b.half_open_timeout);
    changed.duration("conntrack.tcp_timeout", a.tcp_timeout, b.tcp_timeout);
    changed.duration("conntrack.udp_timeout", a.udp_timeout, b.udp_timeout);
    changed.duration("conntrack.closing_timeout", a.closing_timeout, b.closing_timeout);
    changed.duration("conntrack.closed_timeout", a.closed_timeout, b.closed_timeout);
    changed.duration("conntrack.time_wait_timeout", a.time_wait_timeout, b.time_wait_timeout);
    changed.display("conntrack.reset_unknown", &a.reset_unknown, &b.reset_unknown);
}

fn fixed_paths(changed: &mut Changes<'_>, old: &Config, new: &Config) {
    changed.debug("control.socket", &old.control.socket, &new.control.socket);
    changed.debug("control.state_dir", &old.control.state_dir, &new.control.state_dir);
    changed.debug("control.metrics", &old.control.metrics, &new.control.metrics);
}

fn backends(out: &mut Vec<String>, old: &Backend, new: &Backend) {
    let mut changed = Changes { prefix: format!("backend {}: ", new.name), out };
    changed.debug("ipv4", &old.ipv4, &new.ipv4);
    changed.debug("ipv6", &old.ipv6, &new.ipv6);
    changed.debug("owner", &old.owner, &new.owner);
    changed.debug("max_flows", &old.max_flows, &new.max_flows);
    changed.optional("slow_start", old.slow_start, new.slow_start);
    if old.memory != new.memory {
        let words = |memory: &Option<MemorySource>| {
            memory.as_ref().map_or_else(|| "unset".into(), |m| format!("{} at {}", m.kind.name(), m.to))
        };
        let (before, after) = (words(&old.memory), words(&new.memory));
        let prefix = &changed.prefix;
        let line = if before == after { "memory changed".into() } else { format!("memory {before} -> {after}") };
        changed.out.push(format!("{prefix}{line}"));
    }
    if old.agent_check != new.agent_check {
        let words = |check: &Option<AgentCheck>| {
            check.map_or_else(|| "unset".into(), |c| format!("{} every {}", c.to, duration::Display(c.interval)))
        };
        let prefix = &changed.prefix;
        let line = format!("{prefix}agent_check {} -> {}", words(&old.agent_check), words(&new.agent_check));
        changed.out.push(line);
    }
}

fn routes(out: &mut Vec<String>, old: &[AlertRoute], new: &[AlertRoute]) {
    for route in new {
        match old.iter().find(|before| before.name == route.name) {
            None => out.push(format!("alert route {} added ({})", route.name, route.target.name())),
            // Its target may hold a secret.
            Some(before) if before != route => out.push(format!("alert route {} changed", route.name)),
            Some(_) => {}
        }
    }
    for route in old.iter().filter(|route| !new.iter().any(|other| other.name == route.name)) {
        out.push(format!("alert route {} removed", route.name));
    }
    if reordered(old, new, |route| &route.name) {
        out.push("alert routes in another order".into());
    }
}

fn services(out: &mut Vec<String>, old: &Service, new: &Service) {
    let name = &new.name;
    if old.listen != new.listen {
        out.push(format!("service {name}: {} -> {}", listener(old), listener(new)));
    }
    let mut changed = Changes { prefix: format!("service {name}: "), out };
    changed.display("mode", &old.mode.name(), &new.mode.name());
    changed.display("algorithm", &old.algorithm.name(), &new.algorithm.name());
    changed.display("hash", &old.hash.name(), &new.hash.name());
    changed.optional("affinity_timeout", old.affinity_timeout, new.affinity_timeout);
    changed.display("table_size", &old.table_size, &new.table_size);
    changed.display("one_way", &old.one_way, &new.one_way);
    changed.display("second_chance", &old.second_chance, &new.second_chance);
    changed.debug("owner", &old.owner, &new.owner);
    changed.duration("expected_out", old.expected_out, new.expected_out);
    changed.display("min_in_rotation", &old.min_in_rotation, &new.min_in_rotation);
    changed.debug("expect_backends", &old.expect_backends, &new.expect_backends);
    changed.debug("panic", &old.panic, &new.panic);
    changed.optional("slow_start", old.slow_start, new.slow_start);
    if old.probe != new.probe {
        out.push(format!("service {name}: probe changed"));
    }
    for member in &new.members {
        match old.members.iter().find(|before| before.backend == member.backend) {
            None => {
                let Member { backend, port, weight, tier } = member;
                let tier = if *tier == Tier::Backup { ", backup" } else { "" };
                out.push(format!("service {name}: member {backend} added (port {port}, weight {weight}{tier})"));
            }
            Some(before) => {
                let mut changed = Changes { prefix: format!("service {name}: member {}: ", member.backend), out };
                changed.display("port", &before.port, &member.port);
                changed.display("weight", &before.weight, &member.weight);
                changed.debug("tier", &before.tier, &member.tier);
            }
        }
    }
    for member in old.members.iter().filter(|m| !new.members.iter().any(|other| other.backend == m.backend)) {
        out.push(format!("service {name}: member {} removed", member.backend));
    }
    if reordered(&old.members, &new.members, |member| &member.backend) {
        out.push(format!("service {name}: members in another order"));
    }
}

/// Whether what both hold stands in another order.
fn reordered<T, K: PartialEq>(old: &[T], new: &[T], key: impl Fn(&T) -> &K) -> bool {
    let common = |list: &'_ [T], other: &[T]| -> Vec<usize> {
        let index = |item: &T| old.iter().position(|o| key(o) == key(item)).unwrap_or(usize::MAX);
        list.iter().filter(|item| other.iter().any(|o| key(o) == key(item))).map(index).collect()
    };
    common(old, new) != common(new, old)
}

fn addresses(backend: &Backend) -> String {
    let both = [backend.ipv4.map(|v4| v4.to_string()), backend.ipv6.map(|v6| v6.to_string())];
    both.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn listener(service: &Service) -> String {
    let listen = &service.listen;
    let protocol = words(&listen.protocol);
    format!("{}/{protocol}", std::net::SocketAddr::new(listen.vip, listen.port.get()))
}
