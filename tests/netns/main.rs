//! Real traffic through the real daemon, in network namespaces.

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
