//! Carrying out map operations, one at a time and in the order given: the order makes them safe, and is the core's.

use std::net::IpAddr;
use std::ops::ControlFlow;

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_common::abi::{MAX_MEMBERS, MAX_SERVICES, Member, MemberStats, ServiceStats, Traffic, TrafficSlot, maps};
use lb_common::hash::bitmap_bit6;

use super::error::{BpfError, errno};
use super::grace::Grace;
use super::maps::MEMBER_WORDS;
use super::{DataPlane, addr, batch};
use crate::core::kernel::MapOp;

impl DataPlane {
    /// Carries out one operation. Removing what is not there is done already.
    pub fn apply(&mut self, op: &MapOp) -> Result<(), BpfError> {
        match op {
            MapOp::Settings(settings) => {
                self.maps.settings.set(0, **settings, 0).map_err(|e| BpfError::kernel("cannot write SETTINGS", &e))
            }
            MapOp::Member(id, member) => self.set_member(*id, member),
            MapOp::ClearMember(id) => self.clear_member(*id),
            MapOp::Slots { offset, slots } => self.write_slots(*offset, slots),
            MapOp::Descriptor(id, descriptor) => {
                in_range(maps::DESCRIPTORS, *id, MAX_SERVICES)?;
                self.maps.descriptors.store(*id as usize, descriptor.0);
                Ok(())
            }
            MapOp::ResetCursor(id) => self.begin_service(*id),
            MapOp::Service(key, info) => self
                .maps
                .services
                .insert(key, info, 0)
                .map_err(|e| BpfError::kernel(format!("cannot write service {} to SERVICES", info.id), &e)),
            MapOp::RemoveService(key) => delete(&mut self.maps.services, key)
                .map_err(|e| BpfError::kernel("cannot delete a service from SERVICES", &e)),
            MapOp::Local(address, kinds) => self.set_local(*address, *kinds),
            MapOp::RemoveLocal(address) => self.remove_local(*address),
            MapOp::Grace => self.wait_grace(),
        }
    }

    fn set_member(&mut self, id: u32, member: &Member) -> Result<(), BpfError> {
        in_range(maps::MEMBERS, id, MAX_MEMBERS)?;
        // SAFETY: plain old data of whole words, see the ABI.
        let words: [u64; MEMBER_WORDS] = unsafe { std::mem::transmute(*member) };
        for (i, word) in words.into_iter().enumerate() {
            self.maps.member_words.store(id as usize * MEMBER_WORDS + i, word);
        }
        Ok(())
    }

    /// The counters first: after a crash in between the member is still there, and is cleared again.
    fn clear_member(&mut self, id: u32) -> Result<(), BpfError> {
        if id < MAX_MEMBERS {
            for slot in [TrafficSlot::forward(id), TrafficSlot::reverse(id)] {
                set_all(&mut self.maps.traffic, slot, Traffic::default(), "TRAFFIC")?;
            }
            set_all(&mut self.maps.member_stats, id, MemberStats::default(), "MEMBER_STATS")?;
            let active = &mut self.maps.active;
            active.set(id, 0, 0).map_err(|e| BpfError::kernel(format!("cannot write ACTIVE[{id}]"), &e))?;
        }
        self.set_member(id, &Member::default())
    }

    /// No packet finds the service yet, so that nobody counts meanwhile.
    fn begin_service(&mut self, id: u32) -> Result<(), BpfError> {
        let nothing = ServiceStats { drops: [0; 48] };
        set_all(&mut self.maps.service_stats, id, nothing, "SERVICE_STATS")?;
        let cursors = &mut self.maps.cursors;
        cursors.set(id, 0, 0).map_err(|e| BpfError::kernel(format!("cannot write CURSORS[{id}]"), &e))
    }

    fn write_slots(&mut self, offset: u32, slots: &[u32]) -> Result<(), BpfError> {
        let end = u64::from(offset) + slots.len() as u64;
        if end > u64::from(self.meta.arena_slots) {
            return Err(BpfError::BadSize {
                key: "conntrack.arena_slots",
                value: self.meta.arena_slots,
                why: "a table does not fit the arena; make it larger",
            });
        }
        batch::write_array(&mut self.maps.slots, offset, slots)
    }

    /// The exact address first, then the bit that leads packets to it.
    fn set_local(&mut self, address: IpAddr, kinds: u32) -> Result<(), BpfError> {
        let key = addr::to_abi(address);
        self.maps
            .locals
            .insert(key, kinds, 0)
            .map_err(|e| BpfError::kernel(format!("cannot write {address} to LOCALS"), &e))?;
        let (word, bit) = bitmap_bit6(&key);
        self.change_word(word, |old| old | 1 << bit)
    }

    /// The exact address first; then its word of the bitmap is made anew from what remains, for several addresses may
    /// share a bit.
    fn remove_local(&mut self, address: IpAddr) -> Result<(), BpfError> {
        let key = addr::to_abi(address);
        delete(&mut self.maps.locals, &key)
            .map_err(|e| BpfError::kernel(format!("cannot delete {address} from LOCALS"), &e))?;
        let (word, _) = bitmap_bit6(&key);
        let mut needed = 0;
        batch::for_each(&self.maps.locals, |other, _| {
            let (w, bit) = bitmap_bit6(&other);
            if w == word {
                needed |= 1u64 << bit;
            }
            ControlFlow::Continue(())
        })?;
        self.change_word(word, |_| needed)
    }

    fn change_word(&mut self, word: u32, change: impl FnOnce(u64) -> u64) -> Result<(), BpfError> {
        let addresses = &mut self.maps.addresses;
        let old = addresses.get(&word, 0).map_err(|e| BpfError::kernel("cannot read ADDRESSES", &e))?;
        let new = change(old);
        if new == old {
            return Ok(());
        }
        addresses.set(word, new, 0).map_err(|e| BpfError::kernel("cannot write ADDRESSES", &e))
    }

    fn wait_grace(&mut self) -> Result<(), BpfError> {
        let grace = match self.grace.take() {
            Some(grace) => grace,
            None => Grace::new()?,
        };
        self.grace.insert(grace).wait()
    }
}

/// Writes one entry on every CPU.
fn set_all<V: Pod>(map: &mut PerCpuArray<MapData, V>, index: u32, value: V, name: &str) -> Result<(), BpfError> {
    let what = || format!("cannot zero {name}[{index}]");
    let cpus = nr_cpus().map_err(|(_, e)| BpfError::kernel(what(), &e))?;
    let values = PerCpuValues::try_from(vec![value; cpus]).map_err(|e| BpfError::kernel(what(), &e))?;
    map.set(index, values, 0).map_err(|e| BpfError::kernel(what(), &e))
}

fn in_range(map: &str, id: u32, end: u32) -> Result<(), BpfError> {
    if id < end {
        return Ok(());
    }
    Err(BpfError::Kernel {
        what: format!("cannot write {map}[{id}]"),
        cause: format!("ids end at {}", end - 1),
        errno: None,
    })
}

fn delete<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, key: &K) -> Result<(), MapError> {
    match map.remove(key) {
        Err(e) if matches!(e, MapError::KeyNotFound) || errno(&e) == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}
