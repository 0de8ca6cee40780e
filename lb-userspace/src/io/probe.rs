//! Probes: one check of one member, on the wire.
