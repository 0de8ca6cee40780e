//! The kernel side: loading, pinning, attaching, writing and reading the maps. The only module that knows aya.

pub mod object;
pub mod types;
