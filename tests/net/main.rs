//! `io::net` and `io::probe` against the real kernel and real servers, each test in network namespaces of its own.
//! Needs root, iproute2, nginx and openssl.
#![allow(clippy::unwrap_used)]

mod addresses;
mod claims;
mod hops;
mod inspect;
mod ns;
mod probes;
mod servers;
