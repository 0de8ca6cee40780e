//! What the XDP program and user space share, defined once.
//!
//! Owns the map ABI ([`abi`]), wire formats ([`wire`]), Internet checksums ([`checksum`]), the flow hash ([`hash`]),
//! index selection ([`select`]), a token bucket ([`pace`]), the conntrack phases ([`conntrack`]) and those of direct flows
//! ([`direct`]). It is `no_std` and free of syscalls, so the
//! same code runs in the kernel, under `cargo test` and under a property test.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(test)]
extern crate std;

pub mod abi;
pub mod checksum;
pub mod conntrack;
pub mod direct;
pub mod hash;
pub mod pace;
pub mod select;
pub mod wire;
