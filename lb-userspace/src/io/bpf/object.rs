//! The eBPF object, built by `build.rs` and embedded.

/// The object's ELF image, aligned for its parser.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rollcall.bpf.o"));
