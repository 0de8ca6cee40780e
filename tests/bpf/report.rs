//! Counters, flows and the collector's clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use aya::maps::{HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_common::abi::{
    Flow, FlowKey, FlowKey4, FlowKey6, FlowV4, FlowV6, Hop, Member, MemberStats, Reason, ServiceInfo, ServiceKey,
    ServiceStats, Settings, Traffic, TrafficSlot, maps,
};
use lb_common::conntrack::{Direction, Phase};
use rollcall::config::model::Protocol;
use rollcall::core::kernel::MapOp;
use rollcall::io::bpf::types::{FlowRecord, MemberCounters};
use rollcall::io::bpf::{DataPlane, FlowFilter};

use crate::sandbox::{Sandbox, sandbox};

const SHIFT: u32 = 4;

fn pinned<T: TryFrom<Map>>(s: &Sandbox, name: &str, kind: fn(MapData) -> Map) -> T {
    let map = kind(MapData::from_pin(s.pin(name)).unwrap());
    T::try_from(map).unwrap_or_else(|_| panic!("{name} has another type"))
}

/// Values that differ by CPU: the first CPU's, then zeroes, then the last CPU's.
fn per_cpu<V: aya::Pod>(first: V, rest: V) -> PerCpuValues<V> {
    let mut values = vec![rest; nr_cpus().unwrap()];
    values[0] = first;
    PerCpuValues::try_from(values).unwrap()
}

#[test]
fn counters_are_sums_over_the_cpus_of_members_in_use() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        let others = nr_cpus().unwrap() as u64 - 1;
        let mut traffic: PerCpuArray<MapData, Traffic> = pinned(s, maps::TRAFFIC, Map::PerCpuArray);
        let mut stats: PerCpuArray<MapData, MemberStats> = pinned(s, maps::MEMBER_STATS, Map::PerCpuArray);
        let mut services: PerCpuArray<MapData, ServiceStats> = pinned(s, maps::SERVICE_STATS, Map::PerCpuArray);
        let mut verdicts: PerCpuArray<MapData, u64> = pinned(s, maps::VERDICTS, Map::PerCpuArray);
        for id in [7, 8] {
            let forward = per_cpu(Traffic { packets: 10, bytes: 1000 }, Traffic { packets: 1, bytes: 100 });
            traffic.set(TrafficSlot::forward(id), forward, 0).unwrap();
            let reverse = per_cpu(Traffic { packets: 3, bytes: 30 }, Traffic::default());
            traffic.set(TrafficSlot::reverse(id), reverse, 0).unwrap();
            let both = per_cpu(
                MemberStats { opened: 5, closed: 1, ..Default::default() },
                MemberStats { opened: 1, closed: 1, ..Default::default() },
            );
            stats.set(id, both, 0).unwrap();
        }
        let mut drops = ServiceStats { drops: [0; 48] };
        drops.drops[Reason::DropNoBackend as usize] = 4;
        services.set(2, per_cpu(drops, drops), 0).unwrap();
        services.set(3, per_cpu(drops, drops), 0).unwrap();
        verdicts.set(Reason::TxReset as u32, per_cpu(20, 2), 0).unwrap();

        plane.apply(&MapOp::Member(7, Member { family: 4, service: 2, ..Default::default() })).unwrap();
        let key = ServiceKey { addr: [1, 0, 0, 0], port: 80, proto: 6, family: 4 };
        plane.apply(&MapOp::Service(key, ServiceInfo { id: 2, ..Default::default() })).unwrap();

        let counters = plane.counters().unwrap();
        assert_eq!(counters.members.keys().copied().collect::<Vec<_>>(), [7], "8 is not in use");
        let member = counters.members[&7];
        assert_eq!(member.forward, Traffic { packets: 10 + others, bytes: 1000 + 100 * others });
        assert_eq!(member.reverse, Traffic { packets: 3, bytes: 30 });
        assert_eq!((member.stats.opened, member.active()), (5 + others, 4));
        let expected = BTreeMap::from([(2, BTreeMap::from([(Reason::DropNoBackend, 4 * (others + 1))]))]);
        assert_eq!(counters.drops, expected);
        assert_eq!(counters.verdicts[&Reason::TxReset], 20 + 2 * others);
        assert_eq!(counters.verdicts.len(), Reason::ALL.len());
    });
}

#[test]
fn counters_of_an_id_given_to_another_begin_at_zero() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        let mut traffic: PerCpuArray<MapData, Traffic> = pinned(s, maps::TRAFFIC, Map::PerCpuArray);
        let mut stats: PerCpuArray<MapData, MemberStats> = pinned(s, maps::MEMBER_STATS, Map::PerCpuArray);
        let mut services: PerCpuArray<MapData, ServiceStats> = pinned(s, maps::SERVICE_STATS, Map::PerCpuArray);
        let member = Member { family: 4, service: 2, ..Default::default() };
        for id in [7, 8] {
            let some = Traffic { packets: 1, bytes: 100 };
            traffic.set(TrafficSlot::forward(id), per_cpu(some, some), 0).unwrap();
            traffic.set(TrafficSlot::reverse(id), per_cpu(some, some), 0).unwrap();
            let closed = MemberStats { opened: 2, closed: 2, ..Default::default() };
            stats.set(id, per_cpu(closed, closed), 0).unwrap();
            plane.apply(&MapOp::Member(id, member)).unwrap();
        }
        let drops = ServiceStats { drops: [1; 48] };
        services.set(2, per_cpu(drops, drops), 0).unwrap();
        services.set(3, per_cpu(drops, drops), 0).unwrap();
        for id in [2, 3] {
            let key = ServiceKey { addr: [1, 0, 0, 0], port: 80 + id as u16, proto: 6, family: 4 };
            plane.apply(&MapOp::Service(key, ServiceInfo { id, ..Default::default() })).unwrap();
        }

        let before = plane.counters().unwrap();
        plane.apply(&MapOp::ClearMember(7)).unwrap();
        plane.apply(&MapOp::Member(7, member)).unwrap();
        plane.apply(&MapOp::ResetCursor(2)).unwrap();
        let after = plane.counters().unwrap();
        assert_ne!(before.members[&7], MemberCounters::default());
        assert_eq!(after.members[&7], MemberCounters::default());
        assert_eq!(after.members[&8], before.members[&8], "another member lost its counters");
        assert_eq!(after.drops.keys().copied().collect::<Vec<_>>(), [3]);
        // Writing a member anew, as a repair does, is no change of owner.
        plane.apply(&MapOp::Member(8, member)).unwrap();
        assert_eq!(plane.counters().unwrap().members[&8], before.members[&8]);
    });
}

#[test]
fn collect_advances_the_clock_at_the_measured_rate() {
    sandbox(|s| {
        let (plane, _) = s.open();
        let from = plane.collect(1).unwrap();
        let mut to = from;
        // Busy until a quarter of a second has passed on the program's own clock.
        while to.monotonic_ns - from.monotonic_ns < 250_000_000 {
            to = plane.collect(100).unwrap();
        }
        let expected = (to.monotonic_ns - from.monotonic_ns) * u64::from(plane.meta().hz) / 1_000_000_000;
        let ticks = to.jiffies - from.jiffies;
        assert!(ticks.abs_diff(expected) <= 2 + expected / 20, "{ticks} ticks, {expected} expected");
    });
}

fn ports(src: u16, dst: u16) -> u32 {
    let ([a, b], [c, d]) = (src.to_be_bytes(), dst.to_be_bytes());
    u32::from_le_bytes([a, b, c, d])
}

fn ip4(last: u8) -> u32 {
    u32::from_le_bytes([10, 0, 0, last])
}

fn flow<A: Copy>(src: A, dst: A, ports: u32, member: u32, phase: Phase, direction: Direction) -> Flow<A> {
    Flow {
        tag: 0,
        last_seen: 0,
        src,
        dst,
        ports,
        l3_delta: 0,
        l4_delta: 0,
        counter: 0,
        state: phase as u32,
        seq: 0,
        opened: 0,
        member,
        service: 1,
        direction: direction as u32,
        hop: Hop::default(),
        answered: 0,
        chances: 0,
        tried: [0; 2],
        reserved: [0; 2],
    }
}

/// Client 10.0.0.1:1000+n to 10.0.0.100:80, from 10.0.0.200:2000+n to 10.0.0.50:8080; one IPv6 flow of UDP.
fn fill(s: &Sandbox, plane: &mut DataPlane) {
    let settings = Settings { coarse_shift: SHIFT, ..plane.read_state().unwrap().settings };
    plane.apply(&MapOp::Settings(Box::new(settings))).unwrap();
    let hz = u64::from(plane.meta().hz);
    let now = plane.collect(1).unwrap().jiffies;
    let ago = |seconds: u64| now.wrapping_sub(seconds * hz);

    let mut flows: HashMap<MapData, FlowKey4, FlowV4> = pinned(s, maps::FLOWS4, Map::HashMap);
    let (client, vip, source, backend) = (ip4(1), ip4(100), ip4(200), ip4(50));
    for n in 0..10u16 {
        let phase = if n < 3 { Phase::Answered } else { Phase::Established };
        let key = FlowKey { src: backend, dst: source, ports: ports(8080, 2000 + n), proto: 6 };
        let reverse = FlowV4 {
            opened: ago(60) as u32,
            last_seen: (ago(30) >> SHIFT) as u32,
            ..flow(vip, client, ports(80, 1000 + n), u32::from(n % 2), phase, Direction::Reverse)
        };
        flows.insert(key, reverse, 0).unwrap();
        if phase == Phase::Established {
            let key = FlowKey { src: client, dst: vip, ports: ports(1000 + n, 80), proto: 6 };
            let forward = FlowV4 {
                last_seen: (ago(10) >> SHIFT) as u32,
                ..flow(source, backend, ports(2000 + n, 8080), u32::from(n % 2), phase, Direction::Forward)
            };
            flows.insert(key, forward, 0).unwrap();
        }
    }
    let mut flows: HashMap<MapData, FlowKey6, FlowV6> = pinned(s, maps::FLOWS6, Map::HashMap);
    let a6 = |last: u32| [0xb80d_0120, 0, 0, last.to_be()];
    let key = FlowKey { src: a6(50), dst: a6(200), ports: ports(53, 3000), proto: 17 };
    let value = FlowV6 {
        opened: ago(5) as u32,
        last_seen: (ago(5) >> SHIFT) as u32,
        ..flow(a6(100), a6(1), ports(53, 4000), 9, Phase::Closed, Direction::Reverse)
    };
    flows.insert(key, value, 0).unwrap();
}

fn listed(plane: &DataPlane, filter: FlowFilter) -> (Vec<FlowRecord>, bool) {
    let (mut flows, more) = plane.flows(&FlowFilter { limit: 100, ..filter }).unwrap();
    flows.sort_by_key(|f| (f.client, f.source));
    (flows, more)
}

fn near(ms: u64, seconds: u64) -> bool {
    // A coarse unit is up to 160 ms, and the test itself takes a little.
    ms.abs_diff(seconds * 1000) < 1500
}

#[test]
fn flows_are_read_from_the_reverse_entries_with_ages_from_both() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        fill(s, &mut plane);
        let (flows, more) = listed(&plane, FlowFilter::default());
        assert_eq!((flows.len(), more), (11, false));

        let half_open = &flows[0];
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(half_open.protocol, Protocol::Tcp);
        assert_eq!((half_open.client, half_open.vip), (at("10.0.0.1:1000"), at("10.0.0.100:80")));
        assert_eq!((half_open.source, half_open.backend), (at("10.0.0.200:2000"), at("10.0.0.50:8080")));
        assert_eq!((half_open.member, half_open.service, half_open.phase), (0, 1, Phase::Answered));
        assert!(near(half_open.age_ms, 60) && near(half_open.idle_ms, 30), "{half_open:?}");

        let established = &flows[9];
        assert_eq!((established.client, established.phase), (at("10.0.0.1:1009"), Phase::Established));
        assert!(near(established.idle_ms, 10), "the client was heard later: {established:?}");

        let udp = &flows[10];
        assert_eq!((udp.protocol, udp.phase), (Protocol::Udp, Phase::Closed));
        assert_eq!((udp.client, udp.vip), (at("[2001:db8::1]:4000"), at("[2001:db8::64]:53")));
        assert_eq!((udp.source, udp.backend), (at("[2001:db8::c8]:3000"), at("[2001:db8::32]:53")));
    });
}

#[test]
fn flows_filter_and_limit() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        fill(s, &mut plane);
        let count = |filter: FlowFilter| listed(&plane, filter).0.len();
        let ids = |ids: &[u32]| Some(ids.iter().copied().collect::<BTreeSet<u32>>());
        assert_eq!(count(FlowFilter { members: ids(&[0]), ..Default::default() }), 5);
        assert_eq!(count(FlowFilter { members: ids(&[]), ..Default::default() }), 0);
        assert_eq!(count(FlowFilter { services: ids(&[1]), ..Default::default() }), 11);
        assert_eq!(count(FlowFilter { services: ids(&[2]), ..Default::default() }), 0);
        assert_eq!(count(FlowFilter { phase: Some(Phase::Answered), ..Default::default() }), 3);
        let client: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(count(FlowFilter { client: Some(client), ..Default::default() }), 1);

        for (limit, found, more) in [(0, 0, true), (10, 10, true), (11, 11, false)] {
            let (flows, rest) = plane.flows(&FlowFilter { limit, ..Default::default() }).unwrap();
            assert_eq!((flows.len(), rest), (found, more), "limit {limit}");
        }
    });
}
