//! Words for what changed.
