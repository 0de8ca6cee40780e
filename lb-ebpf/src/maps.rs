//! The maps. Their keys, values and meaning are `lb_common::abi`'s; sizes marked *at load* are placeholders that user
//! space overrides. All are preallocated: nothing on the packet path waits for memory.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, Queue},
};
use lb_common::abi::{
    Addr4, Addr6, Affinity, AffinityKey, BITMAP_WORDS, Bucket, Clock, DirectBucket, FlowKey4, FlowKey6, FlowV4, FlowV6,
    Fragment, MAX_AFFINITIES, MAX_CALLED, MAX_FRAGMENTED, MAX_MEMBERS, MAX_POOL, MAX_SERVICES, Member, MemberStats,
    Meta, Reason, ServiceInfo, ServiceKey, ServiceStats, Settings, Traffic,
};

use crate::step::Work;

/// At load.
const SIZED_AT_LOAD: u32 = 64;
/// `BPF_F_MMAPABLE`. User space stores words that packets read at the same time through a mapping, each by one atomic
/// store; an update by system call is a `memcpy`, which promises no such thing.
const MAPPABLE: u32 = 1 << 10;
/// VIPs and source addresses together.
const MAX_LOCALS: u32 = MAX_SERVICES + 2 * MAX_POOL as u32;

#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, 0);
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub static CLOCK: Array<Clock> = Array::with_max_entries(1, 0);
#[map]
pub static ADDRESSES: Array<u64> = Array::with_max_entries(BITMAP_WORDS, 0);
#[map]
pub static LOCALS: HashMap<Addr6, u32> = HashMap::with_max_entries(MAX_LOCALS, 0);
#[map]
pub static SERVICES: HashMap<ServiceKey, ServiceInfo> = HashMap::with_max_entries(MAX_SERVICES, 0);
#[map]
pub static DESCRIPTORS: Array<u64> = Array::with_max_entries(MAX_SERVICES, MAPPABLE);
#[map]
pub static SLOTS: Array<u32> = Array::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static MEMBERS: Array<Member> = Array::with_max_entries(MAX_MEMBERS, MAPPABLE);
#[map]
pub static CURSORS: Array<u64> = Array::with_max_entries(MAX_SERVICES, 0);
#[map]
pub static ACTIVE: Array<u64> = Array::with_max_entries(MAX_MEMBERS, 0);
/// The one LRU: it holds nothing that owns a resource.
#[map]
pub static AFFINITIES: LruHashMap<AffinityKey, Affinity> = LruHashMap::with_max_entries(MAX_AFFINITIES, 0);
#[map]
pub static PORT_CURSORS: Array<u32> = Array::with_max_entries(MAX_MEMBERS * MAX_POOL as u32, 0);
#[map]
pub static FLOWS4: HashMap<FlowKey4, FlowV4> = HashMap::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static FLOWS6: HashMap<FlowKey6, FlowV6> = HashMap::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static HALF_OPEN4: Array<Bucket<Addr4>> = Array::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static HALF_OPEN6: Array<Bucket<Addr6>> = Array::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static DIRECT4: Array<DirectBucket<Addr4>> = Array::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static DIRECT6: Array<DirectBucket<Addr6>> = Array::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static AGES4: Queue<FlowKey4> = Queue::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static AGES6: Queue<FlowKey6> = Queue::with_max_entries(SIZED_AT_LOAD, 0);
#[map]
pub static FRAGMENTS4: LruHashMap<FlowKey4, Fragment> = LruHashMap::with_max_entries(MAX_FRAGMENTED, 0);
#[map]
pub static FRAGMENTS6: LruHashMap<FlowKey6, Fragment> = LruHashMap::with_max_entries(MAX_FRAGMENTED, 0);
#[map]
pub static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(MAX_MEMBERS * 2, 0);
#[map]
pub static MEMBER_STATS: PerCpuArray<MemberStats> = PerCpuArray::with_max_entries(MAX_MEMBERS, 0);
#[map]
pub static SERVICE_STATS: PerCpuArray<ServiceStats> = PerCpuArray::with_max_entries(MAX_SERVICES, 0);
/// What one step leaves for the next, see [`crate::step`]. Not pinned.
#[map]
pub static WORK4: PerCpuArray<Work<Addr4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WORK6: PerCpuArray<Work<Addr6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static VERDICTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::MAX, 0);
/// Filled by user space.
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(MAX_CALLED, 0);
/// Paces the errors that we originate: a word of [`lb_common::pace`]. Not pinned.
#[map]
pub static PACE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
