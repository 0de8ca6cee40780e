//! From the model's types to the ABI's words: byte order is decided here and nowhere else in the core.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use lb_common::abi::{
    Addr4, Addr6, Algorithm as TableKind, LocalKind, MAX_LINKS, Member, Meta, ServiceInfo, ServiceKey, Settings,
    direct_buckets, service_flags as flags,
};

use crate::config::model::{Algorithm, Config, HashFields, Listen, Mode, Protocol, Service};

/// An IPv4 address as the program loads it.
pub fn addr4(ip: Ipv4Addr) -> Addr4 {
    u32::from_ne_bytes(ip.octets())
}

/// An address as the program loads it; IPv4 in word 0.
pub fn addr(ip: IpAddr) -> Addr6 {
    match ip {
        IpAddr::V4(ip) => [addr4(ip), 0, 0, 0],
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = ip.octets();
            [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
        }
    }
}

/// 4 or 6.
pub fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 4 } else { 6 }
}

/// A port in network byte order.
pub fn port(port: NonZeroU16) -> u16 {
    port.get().to_be()
}

/// The key of what a service listens on.
pub fn service_key(listen: &Listen) -> ServiceKey {
    let proto = match listen.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    ServiceKey { addr: addr(listen.vip), port: port(listen.port), proto, family: family(listen.vip) }
}

/// What the program is to know of a service besides its table.
pub fn service_flags(service: &Service) -> u32 {
    let mode = match service.mode {
        Mode::Nat => 0,
        Mode::DsrL2 => flags::DIRECT,
        Mode::DsrIpip => flags::DIRECT | flags::TUNNEL,
    };
    // Only `nat` sees what a backend answers.
    let second_chance = service.second_chance && service.mode == Mode::Nat && service.listen.protocol == Protocol::Tcp;
    mode | if service.one_way { flags::ONE_WAY } else { 0 } | if second_chance { flags::SECOND_CHANCE } else { 0 }
}

/// The address of a member in use.
pub fn member_address(member: &Member) -> IpAddr {
    address(member.addr, member.family == 4)
}

/// The VIP of a service's key.
pub fn key_address(key: &ServiceKey) -> IpAddr {
    address(key.addr, key.family == 4)
}

fn address(words: Addr6, is_ipv4: bool) -> IpAddr {
    if is_ipv4 {
        return Ipv4Addr::from(words[0].to_ne_bytes()).into();
    }
    let mut octets = [0; 16];
    for (chunk, word) in octets.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).into()
}

/// A duration in jiffies: rounded up, at least 1, and less than half the counter's range, so that ages compare right.
pub fn jiffies(d: Duration, hz: u32) -> u32 {
    let n = (d.as_nanos() * u128::from(hz)).div_ceil(1_000_000_000);
    u32::try_from(n.clamp(1, u128::from(u32::MAX >> 1))).expect("clamped to half the range")
}

/// The settings that this configuration asks for.
pub fn settings(config: &Config, meta: &Meta, macs: [u64; MAX_LINKS]) -> Settings {
    let pool = &config.source_pool;
    let ct = &config.conntrack;
    let ticks = |d| jiffies(d, meta.hz);
    let mut s = Settings {
        macs,
        port_min: u32::from(*pool.ports.start()),
        port_count: u32::from(*pool.ports.end()).saturating_sub(u32::from(*pool.ports.start())) + 1,
        seed: meta.seed,
        half_open_mask: meta.half_open_buckets.saturating_sub(1),
        // Between half a second and a second.
        coarse_shift: meta.hz.max(1).ilog2(),
        half_open: ticks(ct.half_open_timeout),
        established: ticks(ct.tcp_timeout),
        udp: ticks(ct.udp_timeout),
        closing: ticks(ct.closing_timeout),
        closed: ticks(ct.closed_timeout),
        time_wait: ticks(ct.time_wait_timeout),
        reset_unknown: u32::from(ct.reset_unknown),
        hz: meta.hz,
        max_flows: meta.max_flows,
        direct_mask: direct_buckets(meta.max_flows) - 1,
        ..Settings::default()
    };
    for (slot, &ip) in s.pool4.iter_mut().zip(&pool.ipv4) {
        *slot = addr4(ip);
        s.pool4_len += 1;
    }
    for (slot, &ip) in s.pool6.iter_mut().zip(&pool.ipv6) {
        *slot = addr(ip.into());
        s.pool6_len += 1;
    }
    s
}

/// What `SERVICES` holds of a service.
pub fn service_info(service: &Service, id: u32, hz: u32) -> ServiceInfo {
    let flags = service_flags(service);
    ServiceInfo {
        id,
        flags,
        affinity: service.affinity_timeout.map_or(0, |d| jiffies(d, hz)),
        ..ServiceInfo::default()
    }
}

/// How the program picks from a service's table.
pub fn table_kind(service: &Service) -> TableKind {
    match (service.algorithm, service.hash) {
        (Algorithm::Maglev, HashFields::FiveTuple) => TableKind::Maglev,
        (Algorithm::Maglev, HashFields::Addresses) => TableKind::Addresses,
        (Algorithm::Maglev, HashFields::Destination) => TableKind::Destination,
        (Algorithm::RoundRobin, _) => TableKind::RoundRobin,
        (Algorithm::LeastConn, _) => TableKind::LeastConn,
        (Algorithm::Source, _) => TableKind::Source,
    }
}

/// Every local address with its kinds.
pub fn locals(config: &Config) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
    let pool = &config.source_pool;
    let pool4 = pool.ipv4.iter().map(|&ip| (IpAddr::V4(ip), LocalKind::POOL));
    let pool6 = pool.ipv6.iter().map(|&ip| (IpAddr::V6(ip), LocalKind::POOL));
    config.services.iter().map(|s| (s.listen.vip, LocalKind::VIP)).chain(pool4).chain(pool6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_words_of_network_bytes() {
        assert_eq!(addr4(Ipv4Addr::new(10, 0, 0, 1)).to_ne_bytes(), [10, 0, 0, 1]);
        let ip: IpAddr = "fd00:1:2:3:4:5:6:7".parse().unwrap();
        assert_eq!(addr(ip)[0].to_ne_bytes(), [0xfd, 0, 0, 1]);
        let member = Member { addr: addr(ip), family: 6, ..Member::default() };
        assert_eq!(member_address(&member), ip);
        assert_eq!(port(NonZeroU16::new(80).unwrap()).to_ne_bytes(), [0, 80]);
    }

    #[test]
    fn jiffies_round_up_and_never_reach_zero() {
        assert_eq!(jiffies(Duration::ZERO, 250), 1);
        assert_eq!(jiffies(Duration::from_millis(1), 250), 1);
        assert_eq!(jiffies(Duration::from_millis(4), 250), 1);
        assert_eq!(jiffies(Duration::from_millis(5), 250), 2);
        assert_eq!(jiffies(Duration::from_secs(60), 1000), 60_000);
        assert_eq!(jiffies(Duration::MAX, 1000), u32::MAX >> 1);
    }
}
