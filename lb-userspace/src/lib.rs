//! Rollcall's user space: the checked configuration, the pure core that decides, and the outside world around it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod alert;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod io;

#[cfg(test)]
mod docs;
