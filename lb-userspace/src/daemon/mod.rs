//! The daemon: one task owns the core and the maps; everything else talks to it.

pub mod clock;
mod crash;
pub mod error;
mod file;
mod host;
mod lock;
mod notify;
mod probes;
mod revise;
