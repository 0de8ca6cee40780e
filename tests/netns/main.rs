//! Real traffic through the real daemon, in network namespaces.

mod chance;
mod change;
mod direct;
mod drill;
mod harness;
mod paths;
mod refusal;
mod shapes;
mod spread;
mod stage;
mod transfer;
