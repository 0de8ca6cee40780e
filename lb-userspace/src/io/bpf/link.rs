//! One XDP link: the kernel's object that keeps a program on an interface while somebody holds or pins it.
//!
//! Not aya's: its attach falls back to netlink without saying so, its link does not tell the interface, and dropping its
//! program detaches. Here a link lives as long as its pin.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya_obj::generated::{XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE};

use super::error::BpfError;
use super::sys;
use super::types::Mode;

/// A link's descriptor.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// Its program.
    pub(super) program: u32,
    /// Its interface; 0 if that is gone and the link defunct.
    pub(super) ifindex: u32,
}

impl Link {
    /// Attaches. The link goes when the value is dropped, unless it was pinned.
    pub(super) fn create(program: BorrowedFd<'_>, ifindex: u32, mode: Mode) -> io::Result<Self> {
        let flags = match mode {
            Mode::Native => XDP_FLAGS_DRV_MODE,
            Mode::Generic => XDP_FLAGS_SKB_MODE,
        };
        sys::create_xdp_link(program, ifindex, flags).map(Self)
    }

    /// Opens a pinned link.
    pub(super) fn open(path: &Path) -> Result<Self, BpfError> {
        sys::open_pin(path).map(Self).map_err(|e| BpfError::at("open pinned link", path, &e))
    }

    /// Pins it: from now on it outlives the process.
    pub(super) fn pin(&self, path: &Path) -> Result<(), BpfError> {
        sys::pin(self.0.as_fd(), path).map_err(|e| BpfError::at("pin", path, &e))
    }

    /// What it links; `None` if it is not an XDP link.
    pub(super) fn info(&self) -> Result<Option<LinkInfo>, BpfError> {
        let info = sys::xdp_link_info(self.0.as_fd()).map_err(|e| BpfError::kernel("cannot examine a link", &e))?;
        Ok(info.map(|(program, ifindex)| LinkInfo { program, ifindex }))
    }

    /// Replaces the program; each packet meets the old one or the new one.
    pub(super) fn replace(&self, program: BorrowedFd<'_>) -> Result<(), BpfError> {
        sys::update_link(self.0.as_fd(), program).map_err(|e| BpfError::kernel("cannot replace the program", &e))
    }

    /// Detaches now. Of a link whose interface is gone there is nothing to detach, and that is no error.
    pub(super) fn detach(&self) -> Result<(), BpfError> {
        sys::detach_link(self.0.as_fd()).map_err(|e| BpfError::kernel("cannot detach a link", &e))
    }
}
