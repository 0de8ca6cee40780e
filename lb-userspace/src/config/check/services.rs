//! Services: unique names and listeners, members that exist and can be reached, tables that fit.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU16;

use lb_common::abi::{MAX_MEMBERS, MAX_SERVICES};

use super::super::defaults;
use super::super::error::{At, Report};
use super::super::model::{Algorithm, BackendName, Listen, Member, Mode, Probe, Protocol, Service, Tier};
use super::super::raw::section::nearest;
use super::super::raw::{Field, Located, Raw, RawBackend, RawMember, RawService, default_tcp};

/// No two services of one name or one listener, and not too many.
pub(super) fn unique(services: &[RawService], report: &Report<'_>) {
    let mut names = HashMap::new();
    let mut listens: HashMap<Listen, &RawService> = HashMap::new();
    for service in services {
        if let Some(Located { value, at }) = service.name.good()
            && let Some(first) = names.insert(value, at)
        {
            let rule = format!("a service of this name is already at line {}", report.line(first));
            report.value(at, rule, "rename or remove one");
        }
        if let (Some(listen), Some(vip)) = (listen(service), service.vip.good())
            && let Some(first) = listens.insert(listen, service)
        {
            let protocol = if listen.protocol == Protocol::Tcp { "TCP" } else { "UDP" };
            let (key, line) = (&first.at.key, report.line(&first.at));
            let rule = format!("{key} (line {line}) already has this VIP with {protocol} port {}", listen.port);
            report.value(&vip.at, rule, "change VIP, port or protocol of one");
        }
    }
    let members = services.iter().map(count).sum::<usize>();
    let most = |count: usize, most: u32, what: &str, at: Option<&At>| {
        if let Some(at) = at.filter(|_| count > most as usize) {
            report.place(at, format!("at most {most} {what} in all, not {count}"), "remove some");
        }
    };
    most(services.len(), MAX_SERVICES, "services", services.last().map(|service| &service.at));
    most(members, MAX_MEMBERS, "members", services.last().map(|service| &service.at));
}

/// How many members a service lists.
fn count(service: &RawService) -> usize {
    service.members.as_ref().map_or(0, Vec::len)
}

fn listen(service: &RawService) -> Option<Listen> {
    let protocol = match &service.protocol {
        Field::Bad => return None,
        protocol => protocol.good().map_or(Protocol::Tcp, |located| located.value),
    };
    Some(Listen { vip: service.vip.good()?.value, port: service.port.good()?.value, protocol })
}

/// Each table suits its algorithm and members, and two generations of all fit the arena.
pub(super) fn tables(raw: &Raw, report: &Report<'_>) {
    let mut sum = 0u64;
    for service in &raw.services {
        let size = match &service.table_size {
            Field::Bad => continue,
            size => size.good().map_or(defaults::TABLE_SIZE, |located| located.value),
        };
        sum += u64::from(size);
        let at = service.table_size.good().map_or_else(|| at_key(service, "table_size"), |size| size.at.clone());
        let hashed = algorithm(service).filter(|algorithm| algorithm.is_hashed());
        let each = format!("take {} for each member ever expected", defaults::SLOTS_PER_MEMBER);
        let mend = || format!("{each}, for example {}", next_prime(size));
        if (size as usize) < count(service) {
            let rule = format!("{size} slots for {} members: each needs at least one", count(service));
            report.place(&at, rule, each);
        } else if let Some(algorithm) = hashed.filter(|_| !is_prime(size)) {
            report.value(&at, format!("must be a prime for algorithm \"{}\"", algorithm.name()), mend());
        }
    }
    let (arena, at) = (u64::from(raw.conntrack.0.arena_slots), &raw.conntrack.1);
    let needed = 2 * sum;
    if needed > arena {
        let services = raw.services.len();
        let rule =
            format!("{arena} slots are too few: two generations of the tables of {services} services need {needed}");
        let most = *defaults::ARENA.end();
        let mend = if needed <= u64::from(most) {
            format!("set conntrack.arena_slots to at least {needed}, or table_size of some services lower")
        } else {
            format!("conntrack.arena_slots may be {most} at most: set table_size of some services lower")
        };
        report.place(at, rule, mend);
    }
}

/// The service's algorithm; `None` if what it says is none.
fn algorithm(service: &RawService) -> Option<Algorithm> {
    match &service.algorithm {
        Field::Bad => None,
        algorithm => Some(algorithm.good().map_or(Algorithm::Maglev, |located| located.value)),
    }
}

/// What one algorithm alone knows is not said of others.
fn selection(service: &RawService, report: &Report<'_>) {
    let Some(algorithm) = algorithm(service) else { return };
    let fields = service.hash.good().map(|located| (&located.at, Algorithm::Maglev));
    let timeout = service.affinity_timeout.good().map(|located| (&located.at, Algorithm::Source));
    for (at, of) in fields.into_iter().chain(timeout).filter(|(_, of)| *of != algorithm) {
        let rule = format!("it is for algorithm \"{}\", not \"{}\"", of.name(), algorithm.name());
        report.place(at, rule, format!("remove it, or set algorithm = \"{}\"", of.name()));
    }
}

fn at_key(service: &RawService, key: &str) -> At {
    At { key: format!("{}.{key}", service.at.key), span: service.at.span.clone() }
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// The next prime from `n` on, or the largest that a table may have.
pub(crate) fn next_prime(n: u32) -> u32 {
    let last = *defaults::TABLE.end();
    (n..=last)
        .find(|n| is_prime(*n))
        .or_else(|| (2..=last).rev().find(|n| is_prime(*n)))
        .unwrap_or(defaults::TABLE_SIZE)
}

/// Makes the services of which every value is good.
pub(super) fn build(raw: &Raw, backends: &BTreeMap<&BackendName, &RawBackend>, report: &Report<'_>) -> Vec<Service> {
    raw.services.iter().filter_map(|service| build_one(service, raw, backends, report)).collect()
}

fn build_one(
    service: &RawService,
    raw: &Raw,
    backends: &BTreeMap<&BackendName, &RawBackend>,
    report: &Report<'_>,
) -> Option<Service> {
    source_address(service, raw, backends, report);
    selection(service, report);
    if let (Some(one_way), Some(Listen { protocol: Protocol::Tcp, .. })) = (service.one_way.good(), listen(service))
        && one_way.value
    {
        report.value(&one_way.at, "TCP always answers; one_way is for UDP", "remove it");
    }
    if let (Some(second), Some(Listen { protocol: Protocol::Udp, .. })) =
        (service.second_chance.good(), listen(service))
    {
        report.value(&second.at, "UDP has no connection attempts; second_chance is for TCP", "remove it");
    }
    let probe = probe(service, report);
    let members = members(service, raw, backends, report);
    let least = service.min_in_rotation.good();
    let primaries = members.iter().filter(|member| member.tier == Tier::Primary).count();
    if let Some(least) = least.filter(|least| least.value as usize > primaries) {
        let rule = if primaries < members.len() {
            let verb = if primaries == 1 { "is" } else { "are" };
            format!("only {primaries} of its {} members {verb} primary", members.len())
        } else {
            format!("there are only {primaries} members")
        };
        report.value(&least.at, rule, "lower it, or add members");
    }
    Some(Service {
        name: service.name.good()?.value.clone(),
        listen: listen(service)?,
        mode: mode(service),
        algorithm: algorithm(service).unwrap_or(Algorithm::Maglev),
        hash: service.hash.good().map_or(defaults::HASH, |located| located.value),
        affinity_timeout: service.affinity_timeout.good().map(|located| located.value),
        table_size: service.table_size.good().map_or(defaults::TABLE_SIZE, |located| located.value),
        one_way: service.one_way.good().is_some_and(|located| located.value),
        second_chance: service.second_chance.good().is_none_or(|located| located.value),
        owner: service.owner.clone(),
        expected_out: service.expected_out,
        min_in_rotation: least.map_or(defaults::MIN_IN_ROTATION, |located| located.value),
        expect_backends: service.expect_backends,
        panic: service.panic,
        slow_start: service.slow_start,
        probe,
        members,
    })
}

/// How it forwards. After a bad value no configuration results.
fn mode(service: &RawService) -> Mode {
    service.mode.good().map(|located| located.value).unwrap_or_default()
}

/// `nat` and outer headers need an address to send from.
fn source_address(
    service: &RawService,
    raw: &Raw,
    backends: &BTreeMap<&BackendName, &RawBackend>,
    report: &Report<'_>,
) {
    let Some(vip) = service.vip.good() else { return };
    fn empty<T>(field: &Field<Vec<Located<T>>>) -> bool {
        match field {
            Field::Bad => false,
            field => field.good().is_none_or(|list| list.value.is_empty()),
        }
    }
    let members = service.members.iter().flatten().filter_map(|member| backends.get(&member.backend.good()?.value));
    let over_ipv6 = members.clone().any(|backend| matches!(backend.ipv4, Field::Absent));
    let over_ipv4 = members.clone().any(|backend| !matches!(backend.ipv4, Field::Absent));
    let (ipv4, ipv6) = match (mode(service), vip.value) {
        (Mode::DsrL2, _) => (false, false),
        (Mode::DsrIpip, IpAddr::V4(_)) => (over_ipv4, over_ipv6),
        (_, vip) => (vip.is_ipv4(), vip.is_ipv6()),
    };
    for (needed, family, key, missing) in
        [(ipv4, "IPv4", "ipv4", empty(&raw.pool.ipv4)), (ipv6, "IPv6", "ipv6", empty(&raw.pool.ipv6))]
    {
        if needed && missing {
            let rule = format!("there is no {family} source address to reach its backends from");
            report.value(&vip.at, rule, format!("add one to {key} in [source_pool]"));
        }
    }
}

fn probe(service: &RawService, report: &Report<'_>) -> Option<Probe> {
    match &service.probe {
        Field::Bad => None,
        Field::Good(located) => located.value.clone(),
        Field::Absent => match service.protocol.good().map(|located| located.value) {
            Some(Protocol::Udp) => {
                let mend =
                    "add [service.probe] with type = \"tcp\" or \"http\" and a port that tells, or type = \"none\"";
                report.place(&at_key(service, "probe"), "a UDP service must say how it is probed", mend);
                None
            }
            _ => Some(default_tcp()),
        },
    }
}

fn members(
    service: &RawService,
    raw: &Raw,
    backends: &BTreeMap<&BackendName, &RawBackend>,
    report: &Report<'_>,
) -> Vec<Member> {
    let Some(listed) = &service.members else { return Vec::new() };
    if listed.is_empty() {
        let mend = "add [[service.member]] with backend = \"…\" below it, or remove the service";
        report.place(&at_key(service, "member"), "a service needs at least one member", mend);
    }
    let all_named = raw.backends.iter().all(|backend| backend.name.good().is_some());
    let mut seen = HashMap::new();
    let mut members = Vec::with_capacity(listed.len());
    no_primary(service, listed, report);
    for RawMember { backend, port, weight, tier } in listed {
        let Some(Located { value: name, at }) = backend.good() else { continue };
        if let Some(first) = seen.insert(name, at) {
            let rule = format!("this backend is already a member (line {})", report.line(first));
            report.value(at, rule, "remove one; a larger share is a larger weight");
        }
        match backends.get(name) {
            // It may be the one whose name was refused.
            None if !all_named => {}
            None => {
                let near = nearest(name.as_str(), backends.keys().map(|name| name.as_str()));
                let mend =
                    near.map_or("add a [[backend]] of this name".into(), |near| format!("did you mean {near:?}?"));
                report.value(at, "there is no backend of this name", mend);
            }
            Some(backend) => reachable(service, backend, at, report),
        }
        let own = service.port.good().map(|located| located.value);
        translates(service, port, own, report);
        let Some(port) = port.good().map(|located| located.value).or(own) else { continue };
        let tier = tier.good().map_or(defaults::TIER, |located| located.value);
        members.push(Member { backend: name.clone(), port, weight: *weight, tier });
    }
    members
}

/// Who stands by, stands by for somebody.
fn no_primary(service: &RawService, listed: &[RawMember], report: &Report<'_>) {
    let is_backup = |m: &RawMember| m.tier.good().is_some_and(|located| located.value == Tier::Backup);
    let Some(first) = listed.first().filter(|_| listed.iter().all(is_backup)) else { return };
    let at = first.tier.good().map_or_else(|| at_key(service, "member"), |located| located.at.clone());
    report.value(&at, "all members are backups; a service needs at least one primary", "remove tier from one of them");
}

/// Without translation a backend sees the port that the client asked for.
fn translates(service: &RawService, port: &Field<NonZeroU16>, own: Option<NonZeroU16>, report: &Report<'_>) {
    let mode = mode(service);
    if let (Some(port), Some(own), true) = (port.good(), own, mode != Mode::Nat)
        && port.value != own
    {
        let rule = format!("must be the service's port, {own}, since mode {:?} translates no ports", mode.name());
        report.value(&port.at, rule, "remove it, or take mode \"nat\"");
    }
}

/// The VIP's family is the family that backends are reached by; in a tunnel IPv4 may travel in IPv6.
fn reachable(service: &RawService, backend: &RawBackend, at: &At, report: &Report<'_>) {
    let Some(vip) = service.vip.good() else { return };
    if matches!((&backend.ipv4, &backend.ipv6), (Field::Absent, Field::Absent)) {
        return; // Already reported at the backend.
    }
    let (family, key, missing) = match vip.value {
        IpAddr::V4(_) => ("IPv4", "ipv4", matches!(backend.ipv4, Field::Absent)),
        IpAddr::V6(_) => ("IPv6", "ipv6", matches!(backend.ipv6, Field::Absent)),
    };
    let tunnelled = mode(service) == Mode::DsrIpip && vip.value.is_ipv4();
    if missing && !tunnelled {
        let rule = format!("the VIP is {family}, and this backend has no {family} address");
        report.value(at, rule, format!("add {key} to the backend, or remove the member"));
    }
}
