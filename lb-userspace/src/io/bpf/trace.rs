//! What the program would do with a packet: the program itself, run once over a copy of what it would look at.
//!
//! The copy is a data plane of its own, pinned aside for as long as the run takes: addresses, settings, the service with its
//! table and members, and of the flows only those that the packet can meet. The live maps are read, never written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use aya::Pod;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{TestRun as _, TestRunOptions};
use lb_common::abi::{
    Affinity, AffinityKey, Algorithm, Bucket, Descriptor, DirectBucket, Flow, FlowKey, HALF_OPEN_WAYS, MAX_POOL,
    Reason, ServiceKey, Slot, direct_buckets, maps, word_mac,
};
use lb_common::hash::FlowHash;
use lb_common::select::by_hash;
use lb_common::wire::l4;

use super::error::BpfError;
use super::load::OpenOptions;
use super::maps::{array, lru};
use super::pin::{TRACE, remove};
use super::types::FlowRecord;
use super::{DataPlane, addr};
use crate::config::model::Protocol;
use crate::core::diff::diff;
use crate::core::kernel::{KernelState, Table};

/// Room for the packet as it leaves.
const OUT_BYTES: usize = 4096;
/// Flows that a copy holds: of one bucket, and the packet's own.
const FLOWS: u32 = 64;

/// A packet and where it comes in.
#[derive(Clone, Debug)]
pub struct Question {
    /// The whole frame. Its destination MAC is set to ours.
    pub frame: Vec<u8>,
    /// Its 5-tuple.
    pub tuple: Tuple,
    /// Index of the interface that it comes in on; it must exist.
    pub ifindex: u32,
}

/// The 5-tuple of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Tuple {
    /// IPv4.
    V4(lb_common::abi::FlowKey4),
    /// IPv6.
    V6(lb_common::abi::FlowKey6),
}

impl Tuple {
    /// Of a packet between two addresses of one family; of IPv4 if the destination is.
    pub fn new(from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Self {
        let (src, dst) = (addr::to_abi(from.ip()), addr::to_abi(to.ip()));
        let ports = u32::from(from.port().to_be()) | u32::from(to.port().to_be()) << 16;
        let proto = u32::from(if protocol == Protocol::Tcp { l4::TCP } else { l4::UDP });
        if to.is_ipv4() {
            Self::V4(FlowKey { src: src[0], dst: dst[0], ports, proto })
        } else {
            Self::V6(FlowKey { src, dst, ports, proto })
        }
    }
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The XDP action.
    pub action: u32,
    /// Under which reason it was counted; `None`: forwarded.
    pub reason: Option<Reason>,
    /// The frame as it left the program.
    pub frame: Vec<u8>,
    /// Service id, if the destination is one.
    pub service: Option<u32>,
    /// The slot that the flow's hash leads to; `None` where no hash decides.
    pub slot: Option<Picked>,
    /// The flow before.
    pub before: Option<FlowRecord>,
    /// The flow afterwards, as the copy has it.
    pub after: Option<FlowRecord>,
}

/// A slot of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Its index.
    pub index: u32,
    /// Slots of the table.
    pub size: u32,
    /// The member id in it.
    pub member: u32,
}

/// A copy, removed when it is dropped.
struct Copy {
    plane: DataPlane,
    root: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(e) = remove(&self.root) {
            tracing::warn!("the copy of a trace stays until the next start: {e}");
        }
    }
}

impl DataPlane {
    /// What the program does with a packet, by the maps as they are now. One at a time: each takes some megabytes.
    pub fn trace(&self, question: &Question) -> Result<Traced, BpfError> {
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (service_key, hash) = match &question.tuple {
            Tuple::V4(key) => (service_key([key.dst, 0, 0, 0], key, 4), FlowHash::v4(key, self.meta.seed)),
            Tuple::V6(key) => (service_key(key.dst, key, 6), FlowHash::v6(key, self.meta.seed)),
        };
        let mut state = self.read_state()?;
        let service = state.services.get(&service_key).map(|info| info.id);
        narrow(&mut state, &service_key);
        let mut question = question.clone();
        if let Some(mac) = question.frame.get_mut(..6) {
            mac.copy_from_slice(&word_mac(state.settings.macs[0]));
        }
        let table = service.and_then(|id| state.tables.get(&id));
        let slot = table.and_then(|table| picked(table, hash));
        let mut copy = self.copy(&state)?;
        if let Some(id) = service {
            self.copy_cursors(&mut copy.plane, &state, id)?;
            self.copy_affinity(&copy.plane, &question.tuple, id)?;
        }
        match &question.tuple {
            Tuple::V4(key) => {
                let live = array::<Bucket<_>>(&self.pins, maps::HALF_OPEN4)?;
                let mut bucket = array::<Bucket<_>>(&copy.plane.pins, maps::HALF_OPEN4)?;
                copy_bucket(self.bucket(&live, hash)?, &mut bucket, &self.maps.flows4, &mut copy.plane.maps.flows4)?;
                copy_flow(&self.maps.flows4, &mut copy.plane.maps.flows4, key)?;
                self.copy_direct(&self.maps.direct4, maps::DIRECT4, &copy.plane, hash)?;
            }
            Tuple::V6(key) => {
                let live = array::<Bucket<_>>(&self.pins, maps::HALF_OPEN6)?;
                let mut bucket = array::<Bucket<_>>(&copy.plane.pins, maps::HALF_OPEN6)?;
                copy_bucket(self.bucket(&live, hash)?, &mut bucket, &self.maps.flows6, &mut copy.plane.maps.flows6)?;
                copy_flow(&self.maps.flows6, &mut copy.plane.maps.flows6, key)?;
                self.copy_direct(&self.maps.direct6, maps::DIRECT6, &copy.plane, hash)?;
            }
        }
        let before = copy.plane.flow_of(&question.tuple)?;
        let (action, frame) = run(&copy.plane, &question)?;
        let counters = copy.plane.counters()?;
        let reason = counters.verdicts.iter().find(|(_, n)| **n > 0).map(|(reason, _)| *reason);
        let after = copy.plane.flow_of(&question.tuple)?;
        Ok(Traced { action, reason, frame, service, slot, before, after })
    }

    /// A data plane that holds `state` and nothing else.
    fn copy(&self, state: &KernelState) -> Result<Copy, BpfError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = self.pins.root().join(format!("{TRACE}{}-{number}", std::process::id()));
        let slots = state.tables.values().map(|table| table.slots.len()).sum::<usize>();
        let options = OpenOptions {
            pin_dir: root.clone(),
            max_flows: FLOWS,
            max_half_open: HALF_OPEN_WAYS as u32,
            arena_slots: u32::try_from(slots).unwrap_or(u32::MAX).max(1),
            seed: Some(self.meta.seed),
        };
        let opened = DataPlane::open(&options);
        let plane = match opened {
            Ok((plane, _)) => plane,
            Err(e) => {
                // Whatever it got to; the error that matters is the first.
                let _ = remove(&root);
                return Err(e);
            }
        };
        let mut copy = Copy { plane, root };
        for op in diff(&KernelState::default(), state) {
            copy.plane.apply(&op)?;
        }
        Ok(copy)
    }

    /// Which member the client had, where the service remembers that.
    fn copy_affinity(&self, to: &DataPlane, tuple: &Tuple, service: u32) -> Result<(), BpfError> {
        let client = match tuple {
            Tuple::V4(key) => [key.src, 0, 0, 0],
            Tuple::V6(key) => key.src,
        };
        let key = AffinityKey { client, service };
        if let Ok(known) = lru::<_, Affinity>(&self.pins, maps::AFFINITIES)?.get(&key, 0) {
            let wrong = |e| BpfError::kernel("cannot copy the client's affinity", &e);
            lru(&to.pins, maps::AFFINITIES)?.insert(key, known, 0).map_err(wrong)?;
        }
        Ok(())
    }

    /// Whose turn it is, how many flows each member has, and the next source ports.
    fn copy_cursors(&self, to: &mut DataPlane, state: &KernelState, service: u32) -> Result<(), BpfError> {
        let wrong = |e| BpfError::kernel("cannot copy the cursors", &e);
        let turn = self.maps.cursors.get(&service, 0).map_err(wrong)?;
        to.maps.cursors.set(service, turn, 0).map_err(wrong)?;
        let (live, mut ports) =
            (array::<u32>(&self.pins, maps::PORT_CURSORS)?, array::<u32>(&to.pins, maps::PORT_CURSORS)?);
        for (&id, _) in state.members.iter().filter(|(_, member)| member.service == service) {
            let active = self.maps.active.get(&id, 0).map_err(wrong)?;
            to.maps.active.set(id, active, 0).map_err(wrong)?;
            for cursor in (0..MAX_POOL as u32).map(|pool| id * MAX_POOL as u32 + pool) {
                ports.set(cursor, live.get(&cursor, 0).map_err(wrong)?, 0).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Copies the bucket of direct flows that a hash leads to.
    fn copy_direct<A: 'static>(
        &self,
        live: &Array<MapData, DirectBucket<A>>,
        name: &'static str,
        to: &DataPlane,
        hash: FlowHash,
    ) -> Result<(), BpfError>
    where
        DirectBucket<A>: Pod,
    {
        let index = hash.bucket() & (direct_buckets(self.meta.max_flows) - 1);
        let wrong = |e| BpfError::kernel("cannot copy a bucket of direct flows", &e);
        array::<DirectBucket<A>>(&to.pins, name)?.set(0, live.get(&index, 0).map_err(wrong)?, 0).map_err(wrong)
    }

    fn bucket<A: 'static>(&self, live: &Array<MapData, Bucket<A>>, hash: FlowHash) -> Result<Bucket<A>, BpfError>
    where
        Bucket<A>: Pod,
    {
        let index = hash.bucket() & (self.meta.half_open_buckets - 1);
        live.get(&index, 0).map_err(|e| BpfError::kernel("cannot read a half-open bucket", &e))
    }
}

fn service_key<A>(addr: lb_common::abi::Addr6, key: &FlowKey<A>, family: u8) -> ServiceKey {
    ServiceKey { addr, port: (key.ports >> 16) as u16, proto: key.proto as u8, family }
}

/// Leaves of `state` what a packet to this service can meet, and fits it to the small maps of a copy.
fn narrow(state: &mut KernelState, service: &ServiceKey) {
    state.services.retain(|key, _| key == service);
    let id = state.services.values().next().map(|info| info.id);
    state.tables.retain(|table, _| Some(*table) == id);
    for table in state.tables.values_mut() {
        table.descriptor = Descriptor(table.descriptor.0 & !u64::from(Descriptor::MAX_OFFSET));
    }
    state.settings.half_open_mask = 0;
    state.settings.direct_mask = 0;
    state.settings.max_flows = FLOWS;
}

fn picked(table: &Table, hash: FlowHash) -> Option<Picked> {
    let size = table.descriptor.size();
    let by_flow = table.descriptor.algorithm() == Algorithm::Maglev as u8 && size > 0;
    let index = by_hash(hash.table(), size);
    by_flow.then_some(Picked { index, size, member: *table.slots.get(index as usize)? })
}

/// The key of the packets that answer a rewritten one.
fn answer_key<A: std::marker::Copy>(flow: &Flow<A>, proto: u32) -> FlowKey<A> {
    FlowKey { src: flow.dst, dst: flow.src, ports: flow.ports.rotate_left(16), proto }
}

/// Copies the flow of a key, in whichever direction, with its other direction.
fn copy_flow<A: std::marker::Copy + 'static>(
    from: &HashMap<MapData, FlowKey<A>, Flow<A>>,
    to: &mut HashMap<MapData, FlowKey<A>, Flow<A>>,
    key: &FlowKey<A>,
) -> Result<(), BpfError>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    let Ok(flow) = from.get(key, 0) else { return Ok(()) };
    let other = answer_key(&flow, key.proto);
    let wrong = |e| BpfError::kernel("cannot copy a flow", &e);
    to.insert(key, flow, 0).map_err(wrong)?;
    if let Ok(flow) = from.get(&other, 0) {
        to.insert(other, flow, 0).map_err(wrong)?;
    }
    Ok(())
}

/// Copies a bucket of half-open flows and the reverse entries of those that live in it.
fn copy_bucket<A: std::marker::Copy + 'static>(
    bucket: Bucket<A>,
    to: &mut Array<MapData, Bucket<A>>,
    live: &HashMap<MapData, FlowKey<A>, Flow<A>>,
    flows: &mut HashMap<MapData, FlowKey<A>, Flow<A>>,
) -> Result<(), BpfError>
where
    Bucket<A>: Pod,
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    for slot in bucket.slots.iter().filter(|slot| slot.owner & Slot::<A>::STATE == Slot::<A>::LIVE) {
        copy_flow(live, flows, &answer_key(&slot.flow, slot.key.proto))?;
    }
    to.set(0, bucket, 0).map_err(|e| BpfError::kernel("cannot copy a half-open bucket", &e))
}

/// Runs the program on the packet: its action, and the frame as it leaves.
fn run(plane: &DataPlane, question: &Question) -> Result<(u32, Vec<u8>), BpfError> {
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let len = u32::try_from(question.frame.len()).unwrap_or(u32::MAX);
    let context: Vec<u8> = [0, len, 0, question.ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    let mut out = vec![0; OUT_BYTES];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&question.frame);
    options.data_out = Some(&mut out);
    options.ctx_in = Some(&context);
    let ran = plane.lb.test_run(options).map_err(|e| BpfError::kernel("cannot run the program on the packet", &e))?;
    out.truncate(ran.data_size_out as usize);
    Ok((ran.return_value, out))
}

impl DataPlane {
    /// The flow that a packet with this tuple belongs to, in whichever direction.
    fn flow_of(&self, tuple: &Tuple) -> Result<Option<FlowRecord>, BpfError> {
        let (src, dst, ports) = match tuple {
            Tuple::V4(key) => (addr::v4(key.src), addr::v4(key.dst), key.ports),
            Tuple::V6(key) => (addr::v6(key.src), addr::v6(key.dst), key.ports),
        };
        let (from, to) = addr::ends(src, dst, ports);
        let (flows, _) = self.flows(&super::FlowFilter { limit: FLOWS as usize * 2, ..Default::default() })?;
        let fits = |f: &FlowRecord| (f.client, f.vip) == (from, to) || (f.backend, f.source) == (from, to);
        Ok(flows.into_iter().find(fits))
    }
}
