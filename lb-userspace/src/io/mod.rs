//! The outside world, one module for each part of it.

pub mod bpf;
pub mod net;
pub mod notify;
pub mod probe;
pub mod state;
