//! Configuration, addresses, source ports, and what every operator of an XDP program should know.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::facts::Facts;
use super::{bad, hops, ok};
use crate::config::model::Config;
use crate::config::{NO_ROUTE, lint};
use crate::control::schema::{Check, CheckResult};

/// Whether there is a configuration to judge by.
pub(super) fn config(facts: &Facts) -> Vec<Check> {
    let mut checks = match &facts.config {
        Err(e) => vec![bad(
            CheckResult::Fail,
            "configuration",
            e.clone(),
            "the daemon does not start with it; interfaces and addresses cannot be checked",
            "correct it until `rollcall config check` is content",
        )],
        Ok(loaded) => {
            let evidence =
                format!("{} services, {} backends", loaded.config.services.len(), loaded.config.backends.len());
            let mut checks = vec![ok("configuration", evidence)];
            checks.extend(lint(&loaded.config).into_iter().map(|line| Check {
                name: "configuration".into(),
                result: if line == NO_ROUTE { CheckResult::Fail } else { CheckResult::Warn },
                evidence: line,
                why: None,
                mend: None,
            }));
            checks
        }
    };
    if let Some(pid) = facts.elsewhere {
        checks.push(bad(
            CheckResult::Warn,
            "network namespace",
            format!("the daemon, process {pid}, runs in another one"),
            "what follows is about interfaces and addresses that it does not see",
            &format!("nsenter --net=/proc/{pid}/ns/net rollcall doctor"),
        ));
    }
    if let Some(e) = &facts.status_error {
        let mend = e.hint.clone().unwrap_or_else(|| "look at the daemon's log".to_owned());
        let why = "the daemon's picture is missing here: modes that really attached, next hops";
        checks.push(bad(CheckResult::Warn, "daemon", e.message.clone(), why, &mend));
    }
    checks
}

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Ok(loaded) = &facts.config {
        let config = &loaded.config;
        let on_host = |ip: IpAddr| facts.addresses.iter().find(|(a, _)| *a == ip).map(|(_, i)| i.as_str());
        let running = facts.status.is_some();
        checks.extend(config_addresses(config).map(|(what, ip)| match facts.holders.get(&ip) {
            Some(&mac) => taken(what, ip, on_host(ip), mac),
            None => address(what, ip, on_host(ip), config, running),
        }));
        if !(config.source_pool.ipv4.is_empty() && config.source_pool.ipv6.is_empty()) {
            checks.push(local_ports(config, facts.ports.local_ports.as_ref(), &facts.ports.reserved_ports));
            checks.push(port_limit(config));
        }
    }
    checks.extend(hops::checks(facts));
    checks.push(Check {
        why: Some("their rules do not see packets of a service; what is passed to the host still meets them".into()),
        mend: Some("filter clients of a service in front of this host".into()),
        ..ok("firewall", "to know: XDP runs before nftables and iptables")
    });
    checks
}

const VIP: &str = "vip";
const SOURCE: &str = "source address";

/// Each VIP once, then the source pool.
pub(super) fn config_addresses(config: &Config) -> impl Iterator<Item = (&'static str, IpAddr)> {
    let vips: std::collections::BTreeSet<_> = config.services.iter().map(|s| s.listen.vip).collect();
    let pool = config.source_pool.ipv4.iter().copied().map(IpAddr::V4);
    let pool = pool.chain(config.source_pool.ipv6.iter().copied().map(IpAddr::V6));
    vips.into_iter().map(|ip| (VIP, ip)).chain(pool.map(|ip| (SOURCE, ip)))
}

/// The interface where an address of this kind belongs.
pub(super) fn place<'a>(what: &str, config: &'a Config) -> Option<&'a str> {
    if what == VIP { config.edge.front() } else { config.edge.back() }
}

/// Another host answers for the address.
fn taken(what: &str, ip: IpAddr, interface: Option<&str>, mac: [u8; 6]) -> Check {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    let (evidence, why) = match interface {
        Some(i) => (
            format!("on {i}, and another host with the MAC {mac} answers ARP for it, too"),
            "neighbours send to whichever answered last: a part of the clients reaches the wrong host",
        ),
        None => (
            format!("not on this host: another one with the MAC {mac} answers ARP for it"),
            "the daemon does not add an address that another host has",
        ),
    };
    let mend =
        "find that host (the switch knows the MAC's port), and take the address off it or out of this configuration";
    bad(CheckResult::Fail, format!("{what} {ip}"), evidence, why, mend)
}

fn address(what: &str, ip: IpAddr, interface: Option<&str>, config: &Config, running: bool) -> Check {
    let name = format!("{what} {ip}");
    match interface {
        Some(i) => ok(name, format!("on {i}")),
        None if config.edge.manage_vips && !running => ok(name, "not on this host; the daemon adds it"),
        None if config.edge.manage_vips => bad(
            CheckResult::Fail,
            name,
            "not on this host, though the daemon runs and adds addresses",
            "nobody answers for the address, so no packet for it arrives here",
            "look at the warnings of `rollcall status`, and at the daemon's log",
        ),
        None => bad(
            CheckResult::Fail,
            name,
            "not on this host, and edge.manage_vips is false",
            "nobody answers for the address, so no packet for it arrives here",
            &format!(
                "ip addr add {ip}/{} dev {}; or set edge.manage_vips = true",
                if ip.is_ipv4() { 32 } else { 128 },
                place(what, config).unwrap_or("INTERFACE")
            ),
        ),
    }
}

/// The pool's ports must be none that the host itself gives to its own connections from the same address.
fn local_ports(config: &Config, local: Option<&RangeInclusive<u16>>, reserved: &[RangeInclusive<u16>]) -> Check {
    let pool = &config.source_pool.ports;
    let name = "source ports";
    let Some(local) = local else {
        return bad(
            CheckResult::Warn,
            name,
            "net.ipv4.ip_local_port_range cannot be read",
            "a connection of this host may take a port of the pool, and one of the two breaks",
            "compare it with source_pool.ports",
        );
    };
    let (pool_range, local_range) = (range(pool), range(local));
    let first = *pool.start().max(local.start());
    let last = *pool.end().min(local.end());
    let free = (first..=last).find(|port| !reserved.iter().any(|r| r.contains(port)));
    match free {
        None => ok(name, format!("{pool_range} is apart from ip_local_port_range {local_range}, or reserved")),
        Some(_) => bad(
            CheckResult::Warn,
            name,
            format!("{pool_range} overlaps ip_local_port_range {local_range}"),
            "a connection of this host from a pool address may take a port of the pool, and one of the two breaks",
            &format!("sysctl -w net.ipv4.ip_local_reserved_ports={first}-{last}, or change source_pool.ports"),
        ),
    }
}

fn range(ports: &RangeInclusive<u16>) -> String {
    format!("{}-{}", ports.start(), ports.end())
}

/// What the pool carries: a port towards a backend rests for the backend's TIME_WAIT before it may be used again.
fn port_limit(config: &Config) -> Check {
    let ports = usize::from(config.source_pool.ports.end() - config.source_pool.ports.start()) + 1;
    let seconds = config.conntrack.time_wait_timeout.as_secs_f64().max(1.0);
    let limit = |addresses: usize| (ports * addresses) as f64 / seconds;
    let families: Vec<_> = [("IPv4", config.source_pool.ipv4.len()), ("IPv6", config.source_pool.ipv6.len())]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(family, n)| format!("{:.0} over {family} ({n} × {ports} ports / {seconds:.0} s)", limit(n)))
        .collect();
    Check {
        why: Some("a port rests while the backend may hold its last connection in TIME_WAIT".into()),
        mend: Some("for more, add addresses to source_pool".into()),
        ..ok("new connections per second and backend", format!("at most {}", families.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::control::testing;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

    #[rstest]
    #[case::there(Some("eth0"), true, true, CheckResult::Ok)]
    #[case::to_be_added(None, true, false, CheckResult::Ok)]
    #[case::should_have_been_added(None, true, true, CheckResult::Fail)]
    #[case::left_to_the_operator(None, false, false, CheckResult::Fail)]
    fn address_by_place_and_owner_is_judged(
        #[case] interface: Option<&str>,
        #[case] managed: bool,
        #[case] running: bool,
        #[case] result: CheckResult,
    ) {
        let mut config = testing::config();
        config.edge.manage_vips = managed;
        assert_eq!(address(VIP, ADDRESS, interface, &config, running).result, result);
    }

    #[test]
    fn address_left_to_the_operator_is_to_be_added_where_it_belongs() {
        let mut config = testing::config();
        config.edge.manage_vips = false;
        config.edge.interfaces = vec!["eth0".into(), "eth1".into()];
        for (what, interface) in [(VIP, "eth0"), (SOURCE, "eth1")] {
            let mend = address(what, ADDRESS, None, &config, false).mend.unwrap();
            assert!(mend.contains(&format!("/32 dev {interface};")), "{mend}");
        }
    }

    #[test]
    fn addresses_of_two_services_on_one_vip_are_listed_once() {
        let all: Vec<_> = config_addresses(&testing::config()).collect();
        assert_eq!(all, [(VIP, ADDRESS), (SOURCE, "10.0.0.250".parse().unwrap())]);
    }

    #[rstest]
    #[case::overlap(&[], CheckResult::Warn)]
    #[case::reserved(&[32768..=60999], CheckResult::Ok)]
    #[case::reserved_in_part(&[32768..=50000], CheckResult::Warn)]
    fn local_ports_that_overlap_warn_unless_reserved(
        #[case] reserved: &[RangeInclusive<u16>],
        #[case] result: CheckResult,
    ) {
        let config = testing::config();
        assert_eq!(local_ports(&config, Some(&(32768..=60999)), reserved).result, result);
    }

    #[test]
    fn local_ports_apart_are_ok() {
        let mut config = testing::config();
        config.source_pool.ports = 1024..=32767;
        assert_eq!(local_ports(&config, Some(&(32768..=60999)), &[]).result, CheckResult::Ok);
    }

    #[test]
    fn port_limit_of_one_address_is_its_ports_over_the_time_wait() {
        let evidence = port_limit(&testing::config()).evidence;
        assert!(evidence.starts_with("at most 1075 over IPv4 (1 × 64512 ports / 60 s)"), "{evidence}");
        assert!(!evidence.contains("IPv6"), "{evidence}");
    }
}
