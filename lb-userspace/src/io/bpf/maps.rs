//! The pinned maps, opened with their types. Opening checks that each is what the object declares.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, MapError, MapInfo, PerCpuArray};
use lb_common::abi::{
    Addr4, Addr6, Clock, DirectBucket, FlowKey4, FlowKey6, FlowV4, FlowV6, MAX_MEMBERS, MAX_SERVICES, Member,
    MemberStats, Meta, ServiceInfo, ServiceKey, ServiceStats, Settings, Traffic, maps,
};

use super::error::{BpfError, errno};
use super::mapped::Words;
use super::object::Shape;
use super::pin::Pins;

/// Words of a member.
pub(super) const MEMBER_WORDS: usize = size_of::<Member>() / size_of::<u64>();

/// The maps that user space reads or writes.
pub(super) struct Maps {
    pub(super) settings: Array<MapData, Settings>,
    pub(super) clock: Array<MapData, Clock>,
    pub(super) addresses: Array<MapData, u64>,
    pub(super) locals: HashMap<MapData, Addr6, u32>,
    pub(super) services: HashMap<MapData, ServiceKey, ServiceInfo>,
    /// `DESCRIPTORS`, a word each.
    pub(super) descriptors: Words,
    pub(super) slots: Array<MapData, u32>,
    /// `MEMBERS`, to be read.
    pub(super) members: Array<MapData, Member>,
    /// `MEMBERS`, to be written: [`MEMBER_WORDS`] each.
    pub(super) member_words: Words,
    pub(super) cursors: Array<MapData, u64>,
    pub(super) active: Array<MapData, u64>,
    pub(super) flows4: HashMap<MapData, FlowKey4, FlowV4>,
    pub(super) flows6: HashMap<MapData, FlowKey6, FlowV6>,
    pub(super) direct4: Array<MapData, DirectBucket<Addr4>>,
    pub(super) direct6: Array<MapData, DirectBucket<Addr6>>,
    pub(super) traffic: PerCpuArray<MapData, Traffic>,
    pub(super) member_stats: PerCpuArray<MapData, MemberStats>,
    pub(super) service_stats: PerCpuArray<MapData, ServiceStats>,
    pub(super) verdicts: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Opens them by path.
    pub(super) fn open(pins: &Pins) -> Result<Self, BpfError> {
        let members = array::<Member>(pins, maps::MEMBERS)?;
        Ok(Self {
            settings: array(pins, maps::SETTINGS)?,
            clock: array(pins, maps::CLOCK)?,
            addresses: array(pins, maps::ADDRESSES)?,
            locals: hash(pins, maps::LOCALS)?,
            services: hash(pins, maps::SERVICES)?,
            descriptors: words(&array::<u64>(pins, maps::DESCRIPTORS)?, maps::DESCRIPTORS, MAX_SERVICES as usize)?,
            slots: array(pins, maps::SLOTS)?,
            member_words: words(&members, maps::MEMBERS, MAX_MEMBERS as usize * MEMBER_WORDS)?,
            members,
            cursors: array(pins, maps::CURSORS)?,
            active: array(pins, maps::ACTIVE)?,
            flows4: hash(pins, maps::FLOWS4)?,
            flows6: hash(pins, maps::FLOWS6)?,
            direct4: array(pins, maps::DIRECT4)?,
            direct6: array(pins, maps::DIRECT6)?,
            traffic: per_cpu(pins, maps::TRAFFIC)?,
            member_stats: per_cpu(pins, maps::MEMBER_STATS)?,
            service_stats: per_cpu(pins, maps::SERVICE_STATS)?,
            verdicts: per_cpu(pins, maps::VERDICTS)?,
        })
    }
}

/// `META`, which is opened before the others can be judged.
pub(super) fn meta(pins: &Pins) -> Result<Array<MapData, Meta>, BpfError> {
    array(pins, maps::META)
}

/// Compares each pinned map with its declared shape. Opening by path alone would accept any map.
pub(super) fn verify(pins: &Pins, shapes: &[Shape]) -> Result<(), BpfError> {
    for shape in shapes {
        let path = pins.object(shape.name);
        let info = MapInfo::from_pin(&path).map_err(|e| missing(&path, &e))?;
        let kind = info.map_type().map_or(u32::MAX, |t| t as u32);
        for (what, pinned, expected) in [
            ("type", kind, shape.kind),
            ("key size", info.key_size(), shape.key_size),
            ("value size", info.value_size(), shape.value_size),
            ("entries", info.max_entries(), shape.max_entries),
            ("flags", info.map_flags(), shape.flags),
        ] {
            if pinned != expected {
                return Err(BpfError::MapMismatch { map: shape.name, what, pinned, expected });
            }
        }
    }
    Ok(())
}

pub(super) fn array<V: Pod>(pins: &Pins, name: &'static str) -> Result<Array<MapData, V>, BpfError> {
    typed(pins, name, Map::Array)
}

/// The memory of an array.
fn words<V: Pod>(map: &Array<MapData, V>, name: &str, len: usize) -> Result<Words, BpfError> {
    let len = NonZeroUsize::new(len).expect("the ABI's arrays are not empty");
    Words::map(map.map().fd().as_fd(), len).map_err(|e| BpfError::kernel(format!("cannot map {name} to memory"), &e))
}

fn hash<K: Pod, V: Pod>(pins: &Pins, name: &'static str) -> Result<HashMap<MapData, K, V>, BpfError> {
    typed(pins, name, Map::HashMap)
}

/// A hash that forgets.
pub(super) fn lru<K: Pod, V: Pod>(pins: &Pins, name: &'static str) -> Result<HashMap<MapData, K, V>, BpfError> {
    typed(pins, name, Map::LruHashMap)
}

fn per_cpu<V: Pod>(pins: &Pins, name: &'static str) -> Result<PerCpuArray<MapData, V>, BpfError> {
    typed(pins, name, Map::PerCpuArray)
}

fn typed<T>(pins: &Pins, name: &'static str, kind: fn(MapData) -> Map) -> Result<T, BpfError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let path = pins.object(name);
    let data = MapData::from_pin(&path).map_err(|e| missing(&path, &e))?;
    T::try_from(kind(data)).map_err(|e| BpfError::kernel(format!("pinned map {name} is not what it should be"), &e))
}

fn missing(path: &Path, error: &MapError) -> BpfError {
    match errno(error) {
        Some(libc::ENOENT) => BpfError::Incomplete { path: path.to_owned() },
        _ => BpfError::at("open pinned map", path, error),
    }
}
