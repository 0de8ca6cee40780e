//! The real object, loaded for one test: small maps, not pinned, not attached. Services are written by hand, so that the
//! program is tested apart from the controller.

use std::net::{IpAddr, SocketAddr};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, ProgramArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::abi::{
    Addr6, Algorithm, Called, Clock, Descriptor, Hop, LocalKind, Member, MemberStats, NO_MEMBER, Reason, ServiceInfo,
    ServiceKey, ServiceStats, Settings, Traffic, TrafficSlot, direct_buckets, mac_word, maps, programs,
};
use lb_common::hash::{bitmap_bit4, bitmap_bit6};
use rollcall::io::bpf::object::OBJECT;

use super::craft::EDGE_MAC;

/// `XDP_DROP`.
pub const DROP: u32 = 1;
/// `XDP_PASS`.
pub const PASS: u32 = 2;
/// `XDP_TX`.
pub const TX: u32 = 3;
/// `XDP_REDIRECT`.
pub const REDIRECT: u32 = 4;

/// What the program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The verdict.
    pub verdict: u32,
    /// The packet as it left the program.
    pub packet: Vec<u8>,
    /// The one counter that changed: a reason, or `None` for a forwarded packet.
    pub reason: Option<Reason>,
}

/// The loaded object.
pub struct Plane {
    bpf: Ebpf,
    /// Settings as last written.
    pub settings: Settings,
}

/// Sizes of the test's maps.
pub struct Sizes {
    /// Records kept per family.
    pub max_flows: u32,
    /// Half-open buckets per family, a power of two.
    pub buckets: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { max_flows: 1024, buckets: 64 }
    }
}

impl Plane {
    /// Loads the object and writes settings: source addresses 10.9.9.1 and fd09::1, ports from 2000 on.
    pub fn new(sizes: &Sizes) -> Self {
        let flows = sizes.max_flows * 2 + sizes.buckets * 4;
        let ages = sizes.max_flows + 64;
        let mut loader = EbpfLoader::new();
        for (name, n) in [
            (maps::SLOTS, 4096),
            (maps::FLOWS4, flows),
            (maps::FLOWS6, flows),
            (maps::HALF_OPEN4, sizes.buckets),
            (maps::HALF_OPEN6, sizes.buckets),
            (maps::DIRECT4, direct_buckets(sizes.max_flows)),
            (maps::DIRECT6, direct_buckets(sizes.max_flows)),
            (maps::AGES4, ages),
            (maps::AGES6, ages),
        ] {
            loader.map_max_entries(name, n);
        }
        let mut bpf = loader.load(OBJECT).expect("the object parses");
        for name in programs::PINNED.into_iter().chain(Called::ALL.map(Called::name)) {
            let program: &mut Xdp = bpf.program_mut(name).expect("it is in the object").try_into().expect("it is XDP");
            program.load().unwrap_or_else(|e| panic!("{name} does not load: {e}\n{e:?}"));
        }
        let mut plane = Self { bpf, settings: Settings::default() };
        for called in Called::ALL {
            plane.install(called);
        }
        let mut pool6 = [[0; 4]; 8];
        pool6[0] = wide("fd09::1".parse().expect("an address"));
        plane.configure(Settings {
            macs: [mac_word(EDGE_MAC), 0, 0, 0],
            pool4: [u32::from_ne_bytes([10, 9, 9, 1]), 0, 0, 0, 0, 0, 0, 0],
            pool6,
            pool4_len: 1,
            pool6_len: 1,
            port_min: 2000,
            port_count: 1000,
            seed: 7,
            half_open_mask: sizes.buckets - 1,
            direct_mask: direct_buckets(sizes.max_flows) - 1,
            coarse_shift: 0,
            half_open: 1 << 30,
            established: 1 << 30,
            udp: 1 << 30,
            closing: 1 << 30,
            closed: 1 << 30,
            time_wait: 1 << 30,
            hz: 250,
            max_flows: sizes.max_flows,
            ..Settings::default()
        });
        for pool in ["10.9.9.1", "fd09::1"] {
            plane.local(pool.parse().expect("an address"), LocalKind::POOL);
        }
        plane
    }

    /// Puts a program where tail calls find it.
    fn install(&mut self, called: Called) {
        let fd = self.program(called.name()).fd().and_then(|fd| Ok(fd.try_clone()?)).expect("it was loaded");
        let mut programs: ProgramArray<_> = self.map(maps::PROGRAMS).try_into().expect("a program array");
        programs.set(called as u32, &fd, 0).expect("PROGRAMS");
    }

    /// Takes a program away from tail calls.
    pub fn uninstall(&mut self, called: Called) {
        let mut programs: ProgramArray<_> = self.map(maps::PROGRAMS).try_into().expect("a program array");
        programs.clear_index(&(called as u32)).expect("PROGRAMS");
    }

    /// Writes settings.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.array(maps::SETTINGS).set(0, settings, 0).expect("SETTINGS");
    }

    /// Makes an address ours.
    pub fn local(&mut self, addr: IpAddr, kind: u32) {
        let mut locals: HashMap<_, Addr6, u32> = self.map(maps::LOCALS).try_into().expect("a hash");
        let old = locals.get(&wide(addr), 0).unwrap_or(0);
        locals.insert(wide(addr), old | kind, 0).expect("LOCALS");
        let (word, bit) = match addr {
            IpAddr::V4(_) => bitmap_bit4(wide(addr)[0]),
            IpAddr::V6(_) => bitmap_bit6(&wide(addr)),
        };
        let mut bits = self.array::<u64>(maps::ADDRESSES);
        let old = bits.get(&word, 0).expect("ADDRESSES");
        bits.set(word, old | 1 << bit, 0).expect("ADDRESSES");
    }

    /// Adds a service; `table` is its slots.
    pub fn service(&mut self, id: u32, proto: u8, vip: &str, algorithm: Algorithm, table: &[u32], flags: u32) {
        let vip: SocketAddr = vip.parse().expect("an address in a test");
        let mut slots = self.array::<u32>(maps::SLOTS);
        let offset = id * 512;
        for (i, member) in table.iter().enumerate() {
            slots.set(offset + i as u32, *member, 0).expect("SLOTS");
        }
        let descriptor = Descriptor::new(offset, table.len() as u32, algorithm, 1);
        self.array::<u64>(maps::DESCRIPTORS).set(id, descriptor.0, 0).expect("DESCRIPTORS");
        let key = ServiceKey { addr: wide(vip.ip()), port: vip.port().to_be(), proto, family: family(vip.ip()) };
        let mut services: HashMap<_, ServiceKey, ServiceInfo> = self.map(maps::SERVICES).try_into().expect("a hash");
        services.insert(key, ServiceInfo { id, flags, ..ServiceInfo::default() }, 0).expect("SERVICES");
        self.local(vip.ip(), LocalKind::VIP);
    }

    /// Changes what `SERVICES` holds of a service.
    pub fn inform(&mut self, proto: u8, vip: &str, change: impl FnOnce(&mut ServiceInfo)) {
        let vip: SocketAddr = vip.parse().expect("an address in a test");
        let key = ServiceKey { addr: wide(vip.ip()), port: vip.port().to_be(), proto, family: family(vip.ip()) };
        let mut services: HashMap<_, ServiceKey, ServiceInfo> = self.map(maps::SERVICES).try_into().expect("a hash");
        let mut info = services.get(&key, 0).expect("a service");
        change(&mut info);
        services.insert(key, info, 0).expect("SERVICES");
    }

    /// Changes a member's entry.
    pub fn amend(&mut self, id: u32, change: impl FnOnce(&mut Member)) {
        let mut members = self.array::<Member>(maps::MEMBERS);
        let mut member = members.get(&id, 0).expect("MEMBERS");
        change(&mut member);
        members.set(id, member, 0).expect("MEMBERS");
    }

    /// Writes a member whose frames leave by `ifindex` to MAC 02:00:00:00:01:`id`.
    pub fn member(&mut self, id: u32, service: u32, at: &str, ifindex: u32) {
        self.member_via(id, service, at, Hop::new(backend_mac(id), EDGE_MAC, ifindex));
    }

    /// Writes a member with a next hop.
    pub fn member_via(&mut self, id: u32, service: u32, at: &str, hop: Hop) {
        let at: SocketAddr = at.parse().expect("an address in a test");
        let member = Member {
            hop,
            addr: wide(at.ip()),
            port: u32::from(at.port().to_be()),
            family: u32::from(family(at.ip())),
            service,
            weight: 256,
            reserved: [0; 2],
        };
        self.array(maps::MEMBERS).set(id, member, 0).expect("MEMBERS");
    }

    /// Runs `lb` on a packet that arrives on the loopback's index, and finds the one counter that changed.
    pub fn run(&mut self, packet: &[u8]) -> Ran {
        let before = self.verdicts();
        let traffic_before = self.forwarded();
        let mut out = vec![0u8; 4096];
        let (verdict, len) = self.run_raw(packet, &mut out);
        out.truncate(len);
        let after = self.verdicts();
        let mut changed: Vec<Reason> = Vec::new();
        for (i, reason) in Reason::ALL.iter().enumerate() {
            for _ in before[i]..after[i] {
                changed.push(*reason);
            }
        }
        let forwarded = self.forwarded() - traffic_before;
        assert_eq!(changed.len() as u64 + forwarded, 1, "counted once: {changed:?} and {forwarded} forwarded");
        Ran { verdict, packet: out, reason: changed.first().copied() }
    }

    fn run_raw(&mut self, packet: &[u8], out: &mut [u8]) -> (u32, usize) {
        let program = self.program(programs::LB);
        let options = TestRunOptions { data_in: Some(packet), data_out: Some(out), repeat: 1, ..TestRunOptions::new() };
        let result = program.test_run(options).expect("BPF_PROG_TEST_RUN");
        (result.return_value, result.data_size_out as usize)
    }

    /// Runs `collect` so many times.
    pub fn collect(&mut self, repeat: u32) -> Clock {
        let program = self.program(programs::COLLECT);
        let packet = [0u8; 64];
        let options = TestRunOptions { data_in: Some(&packet), repeat, ..TestRunOptions::new() };
        program.test_run(options).expect("BPF_PROG_TEST_RUN");
        self.array::<Clock>(maps::CLOCK).get(&0, 0).expect("CLOCK")
    }

    /// Verdicts by reason's index in `Reason::ALL`.
    pub fn verdicts(&mut self) -> Vec<u64> {
        let map: PerCpuArray<_, u64> = self.map(maps::VERDICTS).try_into().expect("a per-CPU array");
        Reason::ALL.iter().map(|r| map.get(&(*r as u32), 0).expect("VERDICTS").iter().sum()).collect()
    }

    /// Reasons counted so far.
    pub fn reasons(&mut self) -> Vec<(Reason, u64)> {
        let counts = self.verdicts();
        Reason::ALL.iter().copied().zip(counts).filter(|(_, n)| *n > 0).collect()
    }

    fn forwarded(&mut self) -> u64 {
        (0..16)
            .map(|id| self.traffic(TrafficSlot::forward(id)).packets + self.traffic(TrafficSlot::reverse(id)).packets)
            .sum()
    }

    /// One slot of `TRAFFIC`, summed.
    pub fn traffic(&mut self, slot: u32) -> Traffic {
        let map: PerCpuArray<_, Traffic> = self.map(maps::TRAFFIC).try_into().expect("a per-CPU array");
        map.get(&slot, 0)
            .expect("TRAFFIC")
            .iter()
            .fold(Traffic::default(), |a, b| Traffic { packets: a.packets + b.packets, bytes: a.bytes + b.bytes })
    }

    /// A member's flow counters, summed.
    pub fn stats(&mut self, member: u32) -> MemberStats {
        let map: PerCpuArray<_, MemberStats> = self.map(maps::MEMBER_STATS).try_into().expect("a per-CPU array");
        let all = map.get(&member, 0).expect("MEMBER_STATS");
        let total = |f: fn(&MemberStats) -> u64| all.iter().map(f).sum();
        MemberStats {
            opened: total(|s| s.opened),
            closed: total(|s| s.closed),
            established: total(|s| s.established),
            overwritten: total(|s| s.overwritten),
            unanswered: total(|s| s.unanswered),
            syn_retransmits: total(|s| s.syn_retransmits),
            resets_client: total(|s| s.resets_client),
            resets_backend: total(|s| s.resets_backend),
            answers: total(|s| s.answers),
            answer_ns: total(|s| s.answer_ns),
            ports_exhausted: total(|s| s.ports_exhausted),
            moved_away: total(|s| s.moved_away),
            moved_to: total(|s| s.moved_to),
            reserved: [0; 3],
        }
    }

    /// A member's active flows, as `least-conn` compares them.
    pub fn compared(&mut self, member: u32) -> u64 {
        self.array::<u64>(maps::ACTIVE).get(&member, 0).expect("ACTIVE")
    }

    /// Drops of a service for a reason, summed.
    pub fn drops(&mut self, service: u32, reason: Reason) -> u64 {
        let map: PerCpuArray<_, ServiceStats> = self.map(maps::SERVICE_STATS).try_into().expect("a per-CPU array");
        map.get(&service, 0).expect("SERVICE_STATS").iter().map(|s| s.drops[reason as usize]).sum()
    }

    /// Entries in a flow map.
    pub fn flow_entries(&mut self, v6: bool) -> usize {
        if v6 {
            let map: HashMap<_, [u8; 40], [u8; 128]> = self.map(maps::FLOWS6).try_into().expect("a hash");
            map.keys().count()
        } else {
            let map: HashMap<_, [u8; 16], [u8; 104]> = self.map(maps::FLOWS4).try_into().expect("a hash");
            map.keys().count()
        }
    }

    /// An array map.
    pub fn array<T: Pod>(&mut self, name: &str) -> Array<&mut MapData, T> {
        self.map(name).try_into().expect("an array")
    }

    /// A loaded program.
    pub fn program(&mut self, name: &str) -> &mut Xdp {
        self.bpf.program_mut(name).expect("it was loaded").try_into().expect("it is XDP")
    }

    /// A loaded program, to be run by several threads at once.
    pub fn shared(&self, name: &str) -> &Xdp {
        self.bpf.program(name).expect("it was loaded").try_into().expect("it is XDP")
    }

    pub(super) fn object(&mut self) -> &mut Ebpf {
        &mut self.bpf
    }

    /// Any map.
    pub fn map(&mut self, name: &str) -> &mut aya::maps::Map {
        self.bpf.map_mut(name).unwrap_or_else(|| panic!("no map {name}"))
    }
}

/// A table of `size` slots that names members in turn.
pub fn table(members: &[u32], size: usize) -> Vec<u32> {
    if members.is_empty() { vec![NO_MEMBER; size] } else { (0..size).map(|i| members[i % members.len()]).collect() }
}

/// The MAC of a member in fixtures.
pub fn backend_mac(id: u32) -> [u8; 6] {
    [2, 0, 0, 0, 1, id as u8]
}

/// An address as map keys hold it.
pub fn wide(addr: IpAddr) -> Addr6 {
    match addr {
        IpAddr::V4(a) => [u32::from_ne_bytes(a.octets()), 0, 0, 0],
        IpAddr::V6(a) => {
            let o = a.octets();
            std::array::from_fn(|i| u32::from_ne_bytes([o[4 * i], o[4 * i + 1], o[4 * i + 2], o[4 * i + 3]]))
        }
    }
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 4 } else { 6 }
}
