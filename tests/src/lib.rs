//! Shared parts of the tests: the kernel floor, packets and fixtures, namespaces and servers.

pub mod floor;
pub mod packet;
pub mod skip;
pub mod testbed;
