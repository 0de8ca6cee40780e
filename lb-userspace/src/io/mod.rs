//! The outside world, one module for each part of it.

pub mod bpf;
pub mod journal;
pub mod memory;
pub mod net;
pub mod notify;
pub mod probe;
mod sqlite;
pub mod state;
