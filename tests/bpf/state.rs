//! Map operations and what is read back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use aya::maps::{Array, Map, MapData};
use lb_common::abi::{
    Algorithm, Descriptor, Hop, LocalKind, MAX_MEMBERS, MAX_SERVICES, Member, NO_MEMBER, ServiceInfo, ServiceKey,
    Settings, maps,
};
use lb_common::hash::bitmap_bit4;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rollcall::core::kernel::{KernelState, MapOp, Table};
use rollcall::io::bpf::BpfError;

use crate::sandbox::{Sandbox, sandbox};

/// What the operations should lead to, kept in plain memory.
struct Model {
    state: KernelState,
    descriptors: BTreeMap<u32, Descriptor>,
    slots: Vec<u32>,
}

impl Model {
    fn new(settings: Settings, arena_slots: u32) -> Self {
        let state = KernelState { settings, ..KernelState::default() };
        Self { state, descriptors: BTreeMap::new(), slots: vec![0; arena_slots as usize] }
    }

    fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::Settings(settings) => self.state.settings = **settings,
            MapOp::Member(id, member) => drop(self.state.members.insert(*id, *member)),
            MapOp::ClearMember(id) => drop(self.state.members.remove(id)),
            MapOp::Slots { offset, slots } => {
                self.slots[*offset as usize..][..slots.len()].copy_from_slice(slots);
            }
            MapOp::Descriptor(id, descriptor) => drop(self.descriptors.insert(*id, *descriptor)),
            MapOp::Service(key, info) => drop(self.state.services.insert(*key, *info)),
            MapOp::RemoveService(key) => drop(self.state.services.remove(key)),
            MapOp::Local(address, kinds) => drop(self.state.locals.insert(*address, *kinds)),
            MapOp::RemoveLocal(address) => drop(self.state.locals.remove(address)),
            MapOp::ResetCursor(_) | MapOp::Grace => {}
        }
    }

    fn expected(&self) -> KernelState {
        let table = |id: u32| {
            let descriptor = self.descriptors.get(&id).copied().unwrap_or_default();
            let slots = self.slots[descriptor.offset() as usize..][..descriptor.size() as usize].into();
            (id, Table { descriptor, slots })
        };
        let tables = self.state.services.values().map(|info| table(info.id)).collect();
        KernelState { tables, ..self.state.clone() }
    }
}

fn service_key(n: u32) -> ServiceKey {
    let family = if n.is_multiple_of(2) { 4 } else { 6 };
    let addr = if family == 4 { [n, 0, 0, 0] } else { [n, 1, 2, 3] };
    ServiceKey { addr, port: 443u16.to_be(), proto: 6, family }
}

fn local(n: u32) -> IpAddr {
    if n.is_multiple_of(2) {
        IpAddr::from([10, 0, 0, n as u8])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n as u16])
    }
}

fn random_op(rng: &mut StdRng, arena_slots: u32) -> MapOp {
    let service = *[0, 1, 2, 77, MAX_SERVICES - 1].choose(rng).unwrap();
    let member = *[0, 1, 2, 500, MAX_MEMBERS - 1].choose(rng).unwrap();
    match rng.random_range(0..10) {
        0 => MapOp::Settings(Box::new(Settings { macs: rng.random(), port_min: rng.random(), ..Settings::default() })),
        1 | 2 => MapOp::Member(
            member,
            Member {
                hop: Hop::new(rng.random(), rng.random(), rng.random()),
                addr: rng.random(),
                port: rng.random(),
                family: *[4, 6].choose(rng).unwrap(),
                service,
                weight: rng.random(),
                reserved: [0; 2],
            },
        ),
        3 => MapOp::ClearMember(member),
        4 => {
            let offset = rng.random_range(0..arena_slots);
            let len = rng.random_range(0..=arena_slots - offset);
            let slots: Vec<u32> = (0..len).map(|_| *[NO_MEMBER, 0, 1, 500].choose(rng).unwrap()).collect();
            MapOp::Slots { offset, slots: slots.into() }
        }
        5 => {
            let offset = rng.random_range(0..=arena_slots);
            let size = rng.random_range(0..=arena_slots - offset);
            MapOp::Descriptor(service, Descriptor::new(offset, size, Algorithm::RoundRobin, rng.random()))
        }
        6 => {
            MapOp::Service(service_key(service), ServiceInfo { id: service, flags: rng.random(), ..Default::default() })
        }
        7 => MapOp::RemoveService(service_key(service)),
        8 => MapOp::Local(local(rng.random_range(0..20)), LocalKind::VIP | rng.random_range(0..4)),
        _ => MapOp::RemoveLocal(local(rng.random_range(0..20))),
    }
}

fn pinned_array<V: aya::Pod>(s: &Sandbox, name: &str) -> Array<MapData, V> {
    Map::Array(MapData::from_pin(s.pin(name)).unwrap()).try_into().unwrap()
}

#[test]
fn read_state_after_random_operations_equals_the_model() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        let arena = plane.meta().arena_slots;
        let mut model = Model::new(plane.read_state().unwrap().settings, arena);
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            for _ in 0..30 {
                let op = random_op(&mut rng, arena);
                plane.apply(&op).unwrap_or_else(|e| panic!("{op:?}: {e}"));
                model.apply(&op);
            }
            assert_eq!(plane.read_state().unwrap(), model.expected(), "seed {seed}");
        }
        drop(plane);
        let (plane, adopted) = s.open();
        assert!(adopted);
        assert_eq!(plane.read_state().unwrap(), model.expected(), "adopted");
    });
}

#[test]
fn apply_whole_arena_in_one_list_reads_back() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        let slots: Arc<[u32]> = (0..plane.meta().arena_slots).collect();
        let descriptor = Descriptor::new(0, plane.meta().arena_slots, Algorithm::Maglev, 1);
        plane.apply(&MapOp::Slots { offset: 0, slots: slots.clone() }).unwrap();
        plane.apply(&MapOp::Descriptor(5, descriptor)).unwrap();
        plane.apply(&MapOp::Service(service_key(5), ServiceInfo { id: 5, ..Default::default() })).unwrap();
        let table = Table { descriptor, slots };
        assert_eq!(plane.read_state().unwrap().tables, BTreeMap::from([(5, table)]));
    });
}

#[test]
fn apply_beyond_a_map_fails_and_writes_nothing() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        let before = plane.read_state().unwrap();
        let arena = plane.meta().arena_slots;
        let slots: Arc<[u32]> = vec![1, 2].into();
        let error = plane.apply(&MapOp::Slots { offset: arena - 1, slots: slots.clone() }).unwrap_err();
        assert!(matches!(error, BpfError::BadSize { key: "conntrack.arena_slots", .. }), "{error}");
        assert!(plane.apply(&MapOp::Slots { offset: u32::MAX, slots }).is_err());
        let error = plane.apply(&MapOp::ClearMember(MAX_MEMBERS)).unwrap_err();
        assert!(error.to_string().contains("MEMBERS[16384]"), "{error}");
        assert_eq!(plane.read_state().unwrap(), before);
        assert_eq!(pinned_array::<u32>(s, maps::SLOTS).get(&(arena - 1), 0).unwrap(), 0);
    });
}

#[test]
fn remove_local_keeps_a_bit_that_another_address_needs() {
    sandbox(|s| {
        // Two addresses with one bit, and a third with another bit of the same word.
        let at = |n: u32| bitmap_bit4(u32::from_le_bytes((0x0a00_0000 | n).to_be_bytes()));
        let ip = |n: u32| IpAddr::from((0x0a00_0000 | n).to_be_bytes());
        let twin = (1..).find(|&n| at(n) == at(0)).unwrap();
        let neighbour = (1..).find(|&n| at(n).0 == at(0).0 && at(n).1 != at(0).1).unwrap();
        let (word, bit) = at(0);

        let (mut plane, _) = s.open();
        let addresses = pinned_array::<u64>(s, maps::ADDRESSES);
        let now = || addresses.get(&word, 0).unwrap();
        for n in [0, twin, neighbour] {
            plane.apply(&MapOp::Local(ip(n), LocalKind::VIP)).unwrap();
        }
        let (shared, other) = (1 << bit, 1 << at(neighbour).1);
        assert_eq!(now(), shared | other);
        plane.apply(&MapOp::RemoveLocal(ip(0))).unwrap();
        assert_eq!(now(), shared | other, "the twin needs it");
        plane.apply(&MapOp::RemoveLocal(ip(twin))).unwrap();
        assert_eq!(now(), other);
        plane.apply(&MapOp::RemoveLocal(ip(twin))).unwrap();
        plane.apply(&MapOp::RemoveLocal(ip(neighbour))).unwrap();
        assert_eq!(now(), 0);
    });
}

#[test]
fn reset_cursor_zeroes_one() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        let mut cursors = pinned_array::<u64>(s, maps::CURSORS);
        cursors.set(3, 99, 0).unwrap();
        cursors.set(4, 98, 0).unwrap();
        plane.apply(&MapOp::ResetCursor(3)).unwrap();
        assert_eq!((cursors.get(&3, 0).unwrap(), cursors.get(&4, 0).unwrap()), (0, 98));
    });
}

#[test]
fn grace_takes_longer_than_any_map_write() {
    sandbox(|s| {
        let (mut plane, _) = s.open();
        let mut median = |op: &MapOp| {
            let mut times: Vec<_> = (0..9)
                .map(|_| {
                    let start = Instant::now();
                    plane.apply(op).unwrap();
                    start.elapsed()
                })
                .collect();
            times.sort();
            times[times.len() / 2]
        };
        let (write, grace) = (median(&MapOp::ResetCursor(1)), median(&MapOp::Grace));
        println!("a grace period took {grace:?}, a write {write:?}");
        // Without the wait it is a map write like the other. A grace period takes a tick or more, unless expedited.
        assert!(grace > write * 5, "{grace:?} against {write:?}");
    });
}
