//! The core: pure decisions. No clock, socket, file, tokio or aya (clippy's `disallowed-methods` enforces it).
//!
//! `handle(input, now)` changes the state, `poll_output()` yields what to do, `poll_timeout()` says when to call again.

pub mod api;
pub mod kernel;
pub mod reason;
