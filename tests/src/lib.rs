//! Shared parts of the tests: namespaces, packets, fixtures.

pub mod floor;
