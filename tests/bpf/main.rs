//! The data plane's user-space side (`rollcall::io::bpf`) against the running kernel. Needs root.
//!
//! Each test runs in its own network and mount namespace with its own BPF file system, so that tests run side by side
//! and nothing outlives them.
#![allow(clippy::unwrap_used)]

mod attach;
mod lifecycle;
mod report;
mod sandbox;
mod state;
