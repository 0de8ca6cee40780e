//! The outside world, one module for each part of it.

pub mod bpf;
pub mod memory;
pub mod net;
pub mod probe;
pub mod state;
