//! No address has two roles, and no two backends share one: the program decides by address alone what a packet is.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::error::{At, Report};
use super::super::raw::{Field, Located, Raw};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Vip,
    Pool,
    Backend,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Vip => "a VIP",
            Self::Pool => "a source address",
            Self::Backend => "a backend's address",
        }
    }
}

/// Reports the later of two that clash.
pub(super) fn check(raw: &Raw, report: &Report<'_>) {
    let mut all: Vec<(IpAddr, Role, &At)> = Vec::new();
    fn add<'a, T: Copy + Into<IpAddr>>(all: &mut Vec<(IpAddr, Role, &'a At)>, field: &'a Field<T>, role: Role) {
        if let Some(Located { value, at }) = field.good() {
            all.push(((*value).into(), role, at));
        }
    }
    fn add_list<'a, T: Copy + Into<IpAddr>>(all: &mut Vec<(IpAddr, Role, &'a At)>, field: &'a Field<Vec<Located<T>>>) {
        for located in field.good().into_iter().flat_map(|list| &list.value) {
            all.push((located.value.into(), Role::Pool, &located.at));
        }
    }
    add_list(&mut all, &raw.pool.ipv4);
    add_list(&mut all, &raw.pool.ipv6);
    for backend in &raw.backends {
        add(&mut all, &backend.ipv4, Role::Backend);
        add(&mut all, &backend.ipv6, Role::Backend);
    }
    for service in &raw.services {
        add(&mut all, &service.vip, Role::Vip);
    }
    all.sort_by_key(|(_, _, at)| at.span.start);

    let mut first: HashMap<IpAddr, (Role, &At)> = HashMap::new();
    for (address, role, at) in all {
        let Some((other, other_at)) = first.get(&address).copied() else {
            first.insert(address, (role, at));
            continue;
        };
        let line = report.line(other_at);
        if other != role {
            let rule = format!("{} cannot also be {} (line {line})", role.name(), other.name());
            report.value(at, rule, "give each its own address");
        } else if role == Role::Backend {
            let rule = format!("another backend has this address (line {line})");
            report.value(at, rule, "a server is one backend; list it once and make it a member of several services");
        }
    }
}
