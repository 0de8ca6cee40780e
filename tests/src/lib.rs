//! Shared parts of the tests.

pub mod skip;
pub mod testbed;
