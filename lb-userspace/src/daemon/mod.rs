//! The daemon: one task owns the core and the maps; everything else talks to it.
