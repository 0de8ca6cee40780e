//! Crafted packets and the real program run on them by `BPF_PROG_TEST_RUN`.

pub mod craft;
pub mod ledger;
pub mod lines;
pub mod plane;
pub mod world;
