//! Reading back what user space wrote, into the type that the core compares with what it wants.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use lb_common::abi::{Descriptor, MAX_MEMBERS, MAX_SERVICES, Member};

use super::error::BpfError;
use super::{DataPlane, addr, batch};
use crate::core::kernel::{KernelState, Table};

impl DataPlane {
    /// What the maps hold.
    ///
    /// A descriptor that names slots beyond the arena (only something foreign could have written it) is returned with
    /// the slots that exist, so that a comparison finds it and a repair replaces it.
    pub fn read_state(&self) -> Result<KernelState, BpfError> {
        let settings = self.maps.settings.get(&0, 0).map_err(|e| BpfError::kernel("cannot read SETTINGS", &e))?;
        let mut locals = BTreeMap::new();
        batch::for_each(&self.maps.locals, |address, kinds| {
            locals.insert(addr::from_abi(address), kinds);
            ControlFlow::Continue(())
        })?;
        let mut services = BTreeMap::new();
        batch::for_each(&self.maps.services, |key, info| {
            services.insert(key, info);
            ControlFlow::Continue(())
        })?;
        let mut tables = BTreeMap::new();
        for info in services.values() {
            // An id out of range has no descriptor; its absence from the tables shows it.
            if info.id < MAX_SERVICES {
                tables.insert(info.id, self.table(Descriptor(self.maps.descriptors.load(info.id as usize)))?);
            }
        }
        Ok(KernelState { settings, locals, services, tables, members: self.members()?.collect() })
    }

    fn table(&self, descriptor: Descriptor) -> Result<Table, BpfError> {
        let offset = descriptor.offset().min(self.meta.arena_slots);
        let len = descriptor.size().min(self.meta.arena_slots - offset);
        Ok(Table { descriptor, slots: batch::read_array(&self.maps.slots, offset, len)?.into() })
    }

    /// Members in use, by id.
    pub(super) fn members(&self) -> Result<impl Iterator<Item = (u32, Member)>, BpfError> {
        let all = batch::read_array(&self.maps.members, 0, MAX_MEMBERS)?;
        Ok((0..).zip(all).filter(|(_, member)| member.family != 0))
    }
}
