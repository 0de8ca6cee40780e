//! Waiting for an RCU grace period.
//!
//! An XDP program runs within an RCU read-side section, so after a grace period no run can still hold what was replaced
//! before it. User space has no call to wait for one, but an update of a map of maps from user space does: since Linux
//! 4.20 (commit 1ae80cf31938, "bpf: wait for running BPF programs when updating map-in-map") the system call returns
//! only after `synchronize_rcu()`, by promise to user space, whether or not a program uses that map. A private map of
//! one entry is updated for it. membarrier(2) with its global command would wait as well, but is refused on CPUs with
//! full tickless mode.

use std::os::fd::{AsFd, OwnedFd};

use aya_obj::generated::bpf_map_type::{BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS};

use super::error::BpfError;
use super::sys;

/// The private maps.
#[derive(Debug)]
pub(super) struct Grace {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Grace {
    /// Creates the maps.
    pub(super) fn new() -> Result<Self, BpfError> {
        let made = || {
            let inner = sys::create_map(BPF_MAP_TYPE_ARRAY, 1, None)?;
            let outer = sys::create_map(BPF_MAP_TYPE_ARRAY_OF_MAPS, 1, Some(inner.as_fd()))?;
            Ok(Self { outer, inner })
        };
        made().map_err(|e: std::io::Error| BpfError::kernel("cannot create the map that waits for a grace period", &e))
    }

    /// Returns after a grace period that began no earlier than the call: some milliseconds.
    pub(super) fn wait(&self) -> Result<(), BpfError> {
        sys::store_inner(self.outer.as_fd(), 0, self.inner.as_fd())
            .map_err(|e| BpfError::kernel("cannot wait for a grace period", &e))
    }
}
