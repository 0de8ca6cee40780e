//! `io::net`, `io::probe`, `io::memory` and the memory agent against the real kernel and real servers, each test in network
//! namespaces of its own. Needs root, iproute2, nginx, openssl, node_exporter and HAProxy.
#![allow(clippy::unwrap_used)]

mod addresses;
mod agent_cgroup;
mod agent_check;
mod claims;
mod hops;
mod inspect;
mod memory;
mod ns;
mod probes;
mod servers;
