//! The kernel side: loading, pinning, attaching, writing and reading the maps. The only module that knows aya.
//!
//! Decides nothing: what the maps should hold is the core's word, which interfaces and sizes is the configuration's. All
//! calls block, most for microseconds, [`DataPlane::flows`] of a full table for a fraction of a second. That only one
//! daemon writes is the daemon's care, not checked here.

mod addr;
mod attach;
mod batch;
mod collect;
mod counters;
mod device;
mod direct;
mod error;
mod flows;
mod grace;
mod link;
mod load;
mod log;
mod mapped;
mod maps;
pub mod object;
mod ops;
pub mod pin;
mod read;
mod sys;
mod trace;
pub mod types;

use std::path::Path;

use aya::programs::Xdp;
use lb_common::abi::{Meta, maps as map_names, programs};

pub use error::BpfError;
pub use flows::FlowFilter;
pub use load::OpenOptions;
pub use log::ProgramLog;
pub use trace::{Picked, Question, Traced, Tuple};

/// Whether the kernel translates programs into the machine's own instructions; `None` if this process may not load one to
/// find out.
pub fn is_jit_on() -> Option<bool> {
    sys::translates().ok()
}

/// Programs and maps in the kernel, opened. Dropping it closes descriptors and changes nothing: what is pinned stays.
pub struct DataPlane {
    meta: Meta,
    pins: pin::Pins,
    maps: maps::Maps,
    lb: Xdp,
    collect: Xdp,
    /// Why interfaces run generic though native was wished; of the last attach.
    fallback: Option<String>,
    /// Made when first needed.
    grace: Option<grace::Grace>,
    /// Until it is taken. Not of a read-only opening: who reads a line removes it.
    log: Option<ProgramLog>,
}

impl DataPlane {
    /// What the maps were created with.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// What the programs log. `None`: opened read-only, or taken already.
    pub fn take_log(&mut self) -> Option<ProgramLog> {
        self.log.take()
    }

    /// Pins that somebody removed. What they held goes on while it is open; the next start cannot adopt it.
    pub fn missing_pins(&self) -> Vec<&'static str> {
        let all = map_names::ALL.into_iter().chain(programs::PINNED);
        all.filter(|name| !self.pins.object(name).exists()).collect()
    }

    /// Takes the data plane below `pin_dir` down: detaches the program from all interfaces, then unpins everything.
    /// Flows are lost. May be repeated after a crash, and does nothing where nothing is pinned.
    pub fn remove(pin_dir: &Path) -> Result<(), BpfError> {
        pin::remove(pin_dir)
    }
}
