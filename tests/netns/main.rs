//! Real traffic through the real daemon, in network namespaces.

mod harness;
