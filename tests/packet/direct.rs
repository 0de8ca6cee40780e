//! Services whose backends answer clients themselves (`dsr-l2`, `dsr-ipip`): what reaches the backend, and what is
//! remembered of a flow.

use lb_common::abi::{Algorithm, Hop, LocalKind, Reason, Settings, service_flags};
use lb_common::checksum::{fold, sum};
use lb_common::wire::l4::{ACK, FIN, RST, SYN, TCP, UDP};
use lb_tests::packet::craft::{Craft, EDGE_MAC};
use lb_tests::packet::plane::{REDIRECT, Sizes, TX, backend_mac, table, wide};
use lb_tests::packet::world::{Family, V4, V6, World, member_of};
use rstest::rstest;

const L2: u32 = service_flags::DIRECT;
const TUNNEL: u32 = service_flags::DIRECT | service_flags::TUNNEL;

/// The usual services, all direct, on members whose port is the service's.
fn world(sizes: &Sizes, flags: u32, algorithm: Algorithm) -> World {
    let mut world = World::with(sizes, algorithm);
    for (service, family, proto) in [(1, V4, TCP), (2, V4, UDP), (3, V6, TCP), (4, V6, UDP)] {
        let members = [service * 2, service * 2 + 1];
        world.plane.service(service, proto, &family.service(), algorithm, &table(&members, 8), flags);
        for (member, at) in members.iter().zip(family.backends) {
            world.plane.member(*member, service, &format!("{at}:80"), 1);
        }
    }
    world
}

fn usual(flags: u32, algorithm: Algorithm) -> World {
    world(&Sizes::default(), flags, algorithm)
}

fn tcp(family: Family, port: u16, flags: u8) -> Craft {
    let payload = if flags & SYN == 0 { b"data".to_vec() } else { Vec::new() };
    Craft { payload, ..Craft::tcp(&family.from(port), &family.service(), flags, 100, 500) }
}

/// A packet that left in an outer header: that header, and the frame as it would be without.
struct Wrapped {
    outer: Vec<u8>,
    inner: Craft,
}

impl Wrapped {
    fn read(frame: &[u8]) -> Self {
        let mut at = 12;
        while matches!(frame[at..at + 2], [0x81, 0] | [0x88, 0xa8]) {
            at += 4;
        }
        let (len, next) = match frame[at..at + 2] {
            [8, 0] => (20, frame[at + 2 + 9]),
            [0x86, 0xdd] => (40, frame[at + 2 + 6]),
            _ => panic!("{frame:x?}"),
        };
        let outer = frame[at + 2..at + 2 + len].to_vec();
        let total = match len {
            20 => usize::from(u16::from_be_bytes([outer[2], outer[3]])),
            _ => 40 + usize::from(u16::from_be_bytes([outer[4], outer[5]])),
        };
        assert_eq!(total, frame.len() - at - 2, "the outer length covers the packet");
        if len == 20 {
            assert_eq!(fold(sum(&outer)), 0xffff, "outer checksum");
        }
        let mut plain = frame[..at].to_vec();
        plain.extend(match next {
            4 => [8, 0],
            41 => [0x86, 0xdd],
            other => panic!("protocol {other}"),
        });
        plain.extend(&frame[at + 2 + len..]);
        Self { outer, inner: Craft::read(&plain) }
    }
}

#[track_caller]
fn wrapped(world: &mut World, packet: &Craft) -> Wrapped {
    let ran = world.plane.run(&packet.bytes());
    assert_eq!(ran.reason, None, "forwarded: {packet:?}");
    assert!(matches!(ran.verdict, TX | REDIRECT));
    Wrapped::read(&ran.packet)
}

fn octets(address: &str) -> Vec<u8> {
    match address.trim_matches(['[', ']']).parse().expect("an address") {
        std::net::IpAddr::V4(a) => a.octets().to_vec(),
        std::net::IpAddr::V6(a) => a.octets().to_vec(),
    }
}

#[rstest]
fn direct_packet_gets_a_mac_and_a_ttl_and_is_else_as_it_came(
    #[values(V4, V6)] family: Family,
    #[values(TCP, UDP)] proto: u8,
    #[values(Algorithm::Maglev, Algorithm::RoundRobin)] algorithm: Algorithm,
) {
    let mut world = usual(L2, algorithm);
    let mut packet = match proto {
        TCP => tcp(family, 40000, SYN),
        _ => Craft::udp(&family.from(40000), &family.service(), b"datagram"),
    };
    packet.ttl = 2;
    let out = world.forwards(&packet);
    let member = member_of(&out);
    assert_eq!(out, Craft { macs: (backend_mac(member), EDGE_MAC), ttl: 1, ..packet.clone() });
    assert_eq!((world.packets(member), world.active(member)), ((1, 0), 1));
    packet.ttl = 1;
    assert_eq!(world.reason(&packet), Reason::TxTimeExceeded);
    assert_eq!(world.plane.flow_entries(family.vip == V6.vip), 0, "no entry, no port");
}

#[rstest]
fn direct_tags_of_ingress_and_egress_are_independent(
    #[values(vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 7)])] ingress: Vec<(u16, u16)>,
    #[values(vec![], vec![(0x8100, 15)], vec![(0x88a8, 16), (0x8100, 17)])] egress: Vec<(u16, u16)>,
    #[values(L2, TUNNEL)] flags: u32,
) {
    for (family, service) in [(V4, 1), (V6, 3)] {
        let mut world = usual(flags, Algorithm::Maglev);
        let tci = |i: usize| u64::from(egress.get(i).map_or(0, |t| t.1).to_be()) << 48;
        for (id, at) in [service * 2, service * 2 + 1].into_iter().zip(family.backends) {
            let mut hop = Hop::new(backend_mac(id), EDGE_MAC, 1);
            (hop.dst, hop.src) = (hop.dst | tci(0), hop.src | tci(1));
            world.plane.member_via(id, service, &format!("{at}:80"), hop);
        }
        let mut packet = tcp(family, 40000, SYN);
        packet.tags.clone_from(&ingress);
        let out = if flags == L2 { world.forwards(&packet) } else { wrapped(&mut world, &packet).inner };
        assert_eq!((&out.tags, out.ttl, out.src, out.dst), (&egress, 63, packet.src, packet.dst));
    }
}

#[rstest]
#[case::ipv4_in_ipv4(V4, 1, V4, "10.9.9.1")]
#[case::ipv6_in_ipv6(V6, 3, V6, "fd09::1")]
#[case::ipv4_in_ipv6(V4, 1, V6, "fd09::1")]
fn tunnel_leads_from_a_source_address_to_the_member(
    #[case] family: Family,
    #[case] service: u32,
    #[case] over: Family,
    #[case] from: &str,
) {
    let mut world = usual(TUNNEL, Algorithm::Maglev);
    for (id, at) in [service * 2, service * 2 + 1].into_iter().zip(over.backends) {
        world.plane.member(id, service, &format!("{at}:80"), 1);
    }
    let mut frame = tcp(family, 40000, ACK).bytes();
    // DSCP 46, ECN 1. The IPv4 header's sum changes by it.
    if family.vip == V4.vip {
        frame[15] = 0xb9;
        let check = u16::from_be_bytes([frame[24], frame[25]]) - 0xb9;
        frame[24..26].copy_from_slice(&check.to_be_bytes());
    } else {
        (frame[14], frame[15]) = (0x6b, 0x90);
    }
    let ran = world.plane.run(&frame);
    let Wrapped { outer, inner } = Wrapped::read(&ran.packet);
    let member = member_of(&inner);
    assert_eq!((inner.ttl, inner.payload.as_slice()), (63, b"data".as_slice()));
    let to = octets(over.backends[member as usize % 2]);
    if over.vip == V4.vip {
        assert_eq!((outer[1], outer[6], outer[8], outer[9]), (0xb9, 0x40, 64, 4));
        assert_eq!((outer[12..16].to_vec(), outer[16..20].to_vec()), (octets(from), to));
    } else {
        assert_eq!((outer[0], outer[1] >> 4, outer[7]), (0x6b, 9, 64));
        assert_eq!((outer[8..24].to_vec(), outer[24..40].to_vec()), (octets(from), to));
        let label = |frame: &[u8]| [frame[15] & 15, frame[16], frame[17]];
        let first = label(&ran.packet);
        assert_eq!(label(&world.plane.run(&frame).packet), first, "one label for a flow");
        let others = (1..20).filter(|n| label(&world.plane.run(&tcp(family, 5000 + n, SYN).bytes()).packet) != first);
        assert_eq!(others.count(), 19, "another for others");
    }
}

#[test]
fn tunnel_spreads_over_all_source_addresses() {
    let mut world = usual(TUNNEL, Algorithm::Maglev);
    let mut settings = world.plane.settings;
    (settings.pool4[1], settings.pool4_len) = (wide("10.9.9.2".parse().expect("an address"))[0], 2);
    world.plane.configure(settings);
    world.plane.local("10.9.9.2".parse().expect("an address"), LocalKind::POOL);
    let mut seen = [0; 2];
    for port in 0..100 {
        let outer = wrapped(&mut world, &tcp(V4, 1000 + port, SYN)).outer;
        assert_eq!(wrapped(&mut world, &tcp(V4, 1000 + port, ACK)).outer[12..16], outer[12..16], "one for a flow");
        seen[usize::from(outer[15]) - 1] += 1;
    }
    assert!(seen.iter().all(|n| (30..=70).contains(n)), "{seen:?}");
    world.plane.configure(Settings { pool4_len: 0, ..settings });
    assert_eq!(world.reason(&tcp(V4, 1, SYN)), Reason::DropNoSource);
}

#[rstest]
#[case(V4, 1, 20)]
#[case(V6, 3, 40)]
fn tunnel_packet_beyond_the_links_mtu_is_refused(#[case] family: Family, #[case] service: u32, #[case] outer: u32) {
    let mut world = usual(TUNNEL, Algorithm::Maglev);
    let packet = tcp(family, 40000, ACK);
    let len = packet.bytes().len() as u32 - 14;
    for (mtu, fits) in [(0, true), (len + outer, true), (len + outer - 1, false), (1 << 20, true)] {
        for (id, at) in [service * 2, service * 2 + 1].into_iter().zip(family.backends) {
            let hop = Hop::new(backend_mac(id), EDGE_MAC, 1).with_mtu(mtu);
            world.plane.member_via(id, service, &format!("{at}:80"), hop);
        }
        let reason = world.plane.run(&packet.bytes()).reason;
        assert_eq!(reason, (!fits).then_some(Reason::DropTooBig), "MTU {mtu}");
    }
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn direct_flow_stays_with_its_member_and_ends_with_its_clients_fin(#[case] family: Family) {
    let mut world = usual(L2, Algorithm::RoundRobin);
    let member = member_of(&world.forwards(&tcp(family, 1, SYN)));
    let other = member ^ 1;
    for flags in [SYN, ACK, ACK, SYN, FIN | ACK, ACK] {
        assert_eq!(member_of(&world.forwards(&tcp(family, 1, flags))), member, "flags {flags:#x}");
    }
    let stats = world.plane.stats(member);
    assert_eq!((stats.opened, stats.established, stats.closed, stats.syn_retransmits), (1, 1, 1, 1));
    assert_eq!(world.plane.stats(other).opened, 0, "none of these took a turn");
    assert_eq!(member_of(&world.forwards(&tcp(family, 1, SYN))), other, "another attempt from the same port");
    assert_eq!((world.active(member), world.active(other)), (0, 1));
    world.forwards(&tcp(family, 1, RST));
    let stats = world.plane.stats(other);
    assert_eq!((stats.opened, stats.closed, stats.resets_client), (1, 1, 1));
}

#[test]
fn direct_udp_flow_stays_with_its_member() {
    let mut world = usual(L2, Algorithm::RoundRobin);
    let datagram = |port| Craft::udp(&V4.from(port), &V4.service(), b"x");
    let first = member_of(&world.forwards(&datagram(1)));
    let second = member_of(&world.forwards(&datagram(2)));
    assert_ne!(first, second);
    for _ in 0..3 {
        assert_eq!(member_of(&world.forwards(&datagram(1))), first);
        assert_eq!(member_of(&world.forwards(&datagram(2))), second);
    }
    assert_eq!((world.active(first), world.plane.stats(first).opened), (1, 1));
}

#[test]
fn direct_flow_that_nobody_remembers_goes_by_the_hash_or_is_reset() {
    let mut hash = usual(L2, Algorithm::Maglev);
    let mut again = usual(L2, Algorithm::Maglev);
    for port in 1..50 {
        let member = member_of(&hash.forwards(&tcp(V4, port, SYN)));
        assert_eq!(member_of(&again.forwards(&tcp(V4, port, ACK))), member, "another edge, the same choice");
        assert_eq!(member_of(&again.forwards(&tcp(V4, port + 50, FIN | ACK))), {
            member_of(&hash.forwards(&tcp(V4, port + 50, SYN)))
        });
    }
    let opened = again.plane.stats(2).opened + again.plane.stats(3).opened;
    assert_eq!(opened, 49, "what ends is not worth remembering");

    let mut turn = usual(L2, Algorithm::RoundRobin);
    assert_eq!(turn.reason(&tcp(V4, 1, ACK)), Reason::DropNoFlow);
    turn.plane.configure(Settings { reset_unknown: 1, ..turn.plane.settings });
    let ran = turn.refuses(&tcp(V4, 1, ACK));
    assert_eq!((ran.reason, ran.verdict), (Some(Reason::TxReset), TX));
    assert_eq!(Craft::read(&ran.packet).dst.to_string(), V4.from(1));
}

#[test]
fn direct_flow_stays_where_it_is_when_the_table_changes() {
    let mut world = usual(L2, Algorithm::Maglev);
    let member = member_of(&world.forwards(&tcp(V4, 1, SYN)));
    world.plane.service(1, TCP, &V4.service(), Algorithm::Maglev, &table(&[member ^ 1], 8), L2);
    assert_eq!(member_of(&world.forwards(&tcp(V4, 1, ACK))), member);
    assert_eq!(member_of(&world.forwards(&tcp(V4, 2, SYN))), member ^ 1);
}

#[test]
fn direct_syn_that_stays_unanswered_goes_to_another_member() {
    let mut world = usual(L2, Algorithm::RoundRobin);
    // A jiffy counts as a second.
    world.plane.configure(Settings { hz: 1, ..world.plane.settings });
    let member = member_of(&world.forwards(&tcp(V4, 1, SYN)));
    let start = world.plane.collect(1).jiffies;
    while world.plane.collect(1).jiffies < start + 4 {}
    assert_eq!(member_of(&world.forwards(&tcp(V4, 1, SYN))), member ^ 1);
    assert_eq!((world.active(member), world.active(member ^ 1)), (0, 1));
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn direct_newcomer_overwrites_what_can_best_be_spared(#[case] family: Family) {
    let mut world = world(&Sizes { max_flows: 4, buckets: 64 }, L2, Algorithm::RoundRobin);
    let members = if family.vip == V4.vip { [2, 3] } else { [6, 7] };
    let kept = member_of(&world.forwards(&tcp(family, 1, SYN)));
    world.forwards(&tcp(family, 1, ACK));
    for port in 0..100 {
        world.forwards(&tcp(family, 1000 + port, SYN));
        assert_eq!(member_of(&world.forwards(&tcp(family, 1, ACK))), kept, "established");
    }
    let stats = members.map(|m| world.plane.stats(m));
    assert_eq!(stats.iter().map(|s| s.opened).sum::<u64>(), 101);
    assert_eq!(stats.iter().map(|s| s.closed).sum::<u64>(), 97, "one bucket of four");
    assert_eq!(stats.iter().map(|s| s.overwritten).sum::<u64>(), 97);
}

#[rstest]
#[case(V4)]
#[case(V6)]
fn direct_flows_are_collected_when_idle_or_when_their_member_is_closed(#[case] family: Family) {
    let mut world = usual(L2, Algorithm::RoundRobin);
    let (one, other) = (tcp(family, 1, SYN), tcp(family, 2, SYN));
    let (shut, open) = (member_of(&world.forwards(&one)), member_of(&world.forwards(&other)));
    world.forwards(&tcp(family, 2, ACK));
    let buckets = 1024 / 4;
    world.plane.collect(buckets);
    assert_eq!((world.active(shut), world.active(open)), (1, 1));
    let service = if family.vip == V4.vip { 1 } else { 3 };
    let at = format!("{}:80", family.backends[shut as usize % 2]);
    world.plane.member_via(shut, service, &at, Hop::closed());
    world.plane.collect(buckets);
    assert_eq!((world.active(shut), world.active(open)), (0, 1));
    assert_eq!(world.reason(&tcp(family, 1, ACK)), Reason::DropNoFlow);
    world.plane.configure(Settings { established: 0, ..world.plane.settings });
    let start = world.plane.collect(1).jiffies;
    while world.plane.collect(1).jiffies < start + 2 {}
    world.plane.collect(buckets);
    assert_eq!((world.active(shut), world.active(open)), (0, 0));
}

#[test]
fn direct_flow_of_a_closed_member_is_reset_and_its_next_attempt_goes_elsewhere() {
    let mut world = usual(L2, Algorithm::RoundRobin);
    world.plane.configure(Settings { reset_unknown: 1, ..world.plane.settings });
    let member = member_of(&world.forwards(&tcp(V4, 1, SYN)));
    world.forwards(&tcp(V4, 1, ACK));
    world.plane.service(1, TCP, &V4.service(), Algorithm::RoundRobin, &table(&[member ^ 1], 8), L2);
    world.plane.member_via(member, 1, &format!("{}:80", V4.backends[member as usize % 2]), Hop::closed());
    assert_eq!(world.reason(&tcp(V4, 1, ACK)), Reason::TxReset);
    assert_eq!(world.active(member), 0);
    assert_eq!(member_of(&world.forwards(&tcp(V4, 1, SYN))), member ^ 1);
}

#[test]
fn direct_id_that_another_member_has_now_is_not_believed() {
    let mut world = usual(L2, Algorithm::RoundRobin);
    world.plane.configure(Settings { reset_unknown: 1, ..world.plane.settings });
    let member = member_of(&world.forwards(&tcp(V4, 1, SYN)));
    world.plane.member(member, 1, "10.0.0.77:80", 1);
    assert_eq!(world.reason(&tcp(V4, 1, ACK)), Reason::TxReset);
}
