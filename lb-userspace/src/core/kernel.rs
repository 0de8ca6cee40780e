//! What the kernel's maps should hold, as plain data, and the operations that lead from one such state to another.
//!
//! Owns no map: `io::bpf` carries the operations out, and reads the maps back into the same type for comparison.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::abi::{Descriptor, Member, ServiceInfo, ServiceKey, Settings};

/// A service id, below `MAX_SERVICES`.
pub type ServiceId = u32;
/// A member id, below `MAX_MEMBERS`.
pub type MemberId = u32;

/// The part of the maps that user space writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelState {
    /// `SETTINGS`.
    pub settings: Settings,
    /// `LOCALS`, and with it `ADDRESSES`: kind bits by address.
    pub locals: BTreeMap<IpAddr, u32>,
    /// `SERVICES`.
    pub services: BTreeMap<ServiceKey, ServiceInfo>,
    /// `DESCRIPTORS` and the slots they name, by service id. Only ids in `services`.
    pub tables: BTreeMap<ServiceId, Table>,
    /// `MEMBERS` in use (family not 0), by member id.
    pub members: BTreeMap<MemberId, Member>,
}

/// A descriptor and its slots: member ids, or `NO_MEMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Where the slots are.
    pub descriptor: Descriptor,
    /// `descriptor.size()` slots.
    pub slots: Arc<[u32]>,
}

/// One step. A list of steps is in the safe order: members, then slots, then descriptors, then services and addresses;
/// removals the other way round, with [`MapOp::Grace`] before anything freed is used again.
#[derive(Clone, Debug, PartialEq)]
pub enum MapOp {
    /// Write `SETTINGS`.
    Settings(Box<Settings>),
    /// Write `MEMBERS[id]`.
    Member(MemberId, Member),
    /// Zero `MEMBERS[id]` and the member's counters: who takes the id next begins at nothing.
    ClearMember(MemberId),
    /// Write slots from `offset` on. They are not in use by any descriptor.
    Slots {
        /// First slot.
        offset: u32,
        /// Member ids.
        slots: Arc<[u32]>,
    },
    /// Store `DESCRIPTORS[id]` as one word.
    Descriptor(ServiceId, Descriptor),
    /// Zero `CURSORS[id]` and the service's counters (a new service takes the id).
    ResetCursor(ServiceId),
    /// Insert or overwrite in `SERVICES`.
    Service(ServiceKey, ServiceInfo),
    /// Delete from `SERVICES`.
    RemoveService(ServiceKey),
    /// Insert into `LOCALS`, then set the bit in `ADDRESSES`.
    Local(IpAddr, u32),
    /// Delete from `LOCALS` and rebuild `ADDRESSES` from what remains, without clearing a bit still needed.
    RemoveLocal(IpAddr),
    /// Wait until no program run can still see what was replaced (an RCU grace period).
    Grace,
}
