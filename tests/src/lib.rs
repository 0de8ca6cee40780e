//! Shared parts of the tests: packets and fixtures, namespaces and servers.

pub mod packet;
pub mod skip;
pub mod testbed;
