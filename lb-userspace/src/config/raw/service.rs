//! Backends, services and their members.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use super::super::defaults::{
    self, AFFINITIES, EXPECT_BACKENDS, EXPECTED_OUTS, MAX_FLOWS_OF_BACKEND, MIN_IN_ROTATIONS, SLOW_STARTS, TABLE,
};
use super::super::error::At;
use super::super::keys::Scope;
use super::super::model::{Algorithm, BackendName, HashFields, Mode, Panic, Probe, Protocol, ServiceName, Tier};
use super::memory::{self, RawAgentCheck, RawMemory};
use super::probe;
use super::section::{Field, Section};
use super::values;

/// `[[backend]]`.
pub(crate) struct RawBackend {
    /// `name`.
    pub(crate) name: Field<BackendName>,
    /// `ipv4`.
    pub(crate) ipv4: Field<Ipv4Addr>,
    /// `ipv6`.
    pub(crate) ipv6: Field<Ipv6Addr>,
    /// `owner`.
    pub(crate) owner: Option<String>,
    /// `max_flows`.
    pub(crate) max_flows: Option<u32>,
    /// `[backend.memory]`; `None` if it is not there, or was refused.
    pub(crate) memory: Option<RawMemory>,
    /// `[backend.agent_check]`, likewise.
    pub(crate) agent_check: Option<RawAgentCheck>,
    /// `slow_start`.
    pub(crate) slow_start: Option<Duration>,
}

/// `[[service]]`.
pub(crate) struct RawService {
    /// Where its table begins, and its path.
    pub(crate) at: At,
    /// `name`.
    pub(crate) name: Field<ServiceName>,
    /// `vip`.
    pub(crate) vip: Field<IpAddr>,
    /// `port`.
    pub(crate) port: Field<NonZeroU16>,
    /// `protocol`.
    pub(crate) protocol: Field<Protocol>,
    /// `mode`.
    pub(crate) mode: Field<Mode>,
    /// `algorithm`.
    pub(crate) algorithm: Field<Algorithm>,
    /// `hash`.
    pub(crate) hash: Field<HashFields>,
    /// `affinity_timeout`.
    pub(crate) affinity_timeout: Field<Duration>,
    /// `table_size`.
    pub(crate) table_size: Field<u32>,
    /// `one_way`.
    pub(crate) one_way: Field<bool>,
    /// `second_chance`.
    pub(crate) second_chance: Field<bool>,
    /// `owner`.
    pub(crate) owner: Option<String>,
    /// `expected_out`.
    pub(crate) expected_out: Duration,
    /// `min_in_rotation`.
    pub(crate) min_in_rotation: Field<u32>,
    /// `expect_backends`.
    pub(crate) expect_backends: Option<u32>,
    /// `panic`.
    pub(crate) panic: Panic,
    /// `slow_start`.
    pub(crate) slow_start: Option<Duration>,
    /// `[service.probe]`; the inner `None` is `type = "none"`.
    pub(crate) probe: Field<Option<Probe>>,
    /// `[[service.member]]`; `None` if refused as a whole.
    pub(crate) members: Option<Vec<RawMember>>,
}

/// `[[service.member]]`.
pub(crate) struct RawMember {
    /// `backend`.
    pub(crate) backend: Field<BackendName>,
    /// `port`.
    pub(crate) port: Field<NonZeroU16>,
    /// `weight`.
    pub(crate) weight: NonZeroU16,
    /// `tier`.
    pub(crate) tier: Field<Tier>,
}

pub(super) fn backend(mut section: Section<'_, '_>) -> RawBackend {
    let backend = RawBackend {
        name: section.require("name", values::backend_name),
        ipv4: section.read("ipv4", values::ipv4),
        ipv6: section.read("ipv6", values::ipv6),
        owner: section.read("owner", values::owner).value(),
        max_flows: section.read("max_flows", values::integer(MAX_FLOWS_OF_BACKEND)).value(),
        memory: section.table(Scope::Memory).and_then(memory::memory),
        agent_check: section.table(Scope::AgentCheck).and_then(memory::agent_check),
        slow_start: section.read("slow_start", values::duration(SLOW_STARTS)).value(),
    };
    if matches!((&backend.ipv4, &backend.ipv6), (Field::Absent, Field::Absent)) {
        section.report().place(section.at(), "a backend needs an address", "add ipv4 = \"…\" or ipv6 = \"…\"");
    }
    section.finish();
    backend
}

pub(super) fn service(mut section: Section<'_, '_>) -> RawService {
    let protocols = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let panics = &[("refuse", Panic::Refuse), ("all", Panic::All)];
    let modes = &[("nat", Mode::Nat), ("dsr-l2", Mode::DsrL2), ("dsr-ipip", Mode::DsrIpip)];
    let algorithms = &[
        ("maglev", Algorithm::Maglev),
        ("round-robin", Algorithm::RoundRobin),
        ("least-conn", Algorithm::LeastConn),
        ("source", Algorithm::Source),
    ];
    let hashes = &[
        ("5-tuple", HashFields::FiveTuple),
        ("addresses", HashFields::Addresses),
        ("destination", HashFields::Destination),
    ];
    let service = RawService {
        at: section.at().clone(),
        name: section.require("name", values::service_name),
        vip: section.require("vip", values::address),
        port: section.require("port", values::port),
        protocol: section.read("protocol", values::one_of(protocols)),
        mode: section.read("mode", values::one_of(modes)),
        algorithm: section.read("algorithm", values::one_of(algorithms)),
        hash: section.read("hash", values::one_of(hashes)),
        affinity_timeout: section.read("affinity_timeout", values::duration(AFFINITIES)),
        table_size: section.read("table_size", values::integer(TABLE)),
        one_way: section.read("one_way", values::boolean),
        second_chance: section.read("second_chance", values::boolean),
        owner: section.read("owner", values::owner).value(),
        expected_out: section.read("expected_out", values::duration(EXPECTED_OUTS)).or(defaults::EXPECTED_OUT),
        min_in_rotation: section.read("min_in_rotation", values::integer(MIN_IN_ROTATIONS)),
        expect_backends: section.read("expect_backends", values::integer(EXPECT_BACKENDS)).value(),
        panic: section.read("panic", values::one_of(panics)).or(defaults::PANIC),
        slow_start: section.read("slow_start", values::duration(SLOW_STARTS)).value(),
        probe: section.table(Scope::Probe).map_or(Field::Absent, probe::probe),
        members: section.tables(Scope::Member).map(|members| members.into_iter().map(member).collect()),
    };
    section.finish();
    service
}

fn member(mut section: Section<'_, '_>) -> RawMember {
    let tiers = &[("primary", Tier::Primary), ("backup", Tier::Backup)];
    let member = RawMember {
        backend: section.require("backend", values::backend_name),
        port: section.read("port", values::port),
        weight: section.read("weight", values::weight).or(defaults::WEIGHT),
        tier: section.read("tier", values::one_of(tiers)),
    };
    section.finish();
    member
}
