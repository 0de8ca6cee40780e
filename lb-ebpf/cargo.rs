//! How this crate is built: the one definition of compiler flags and target. Included by `lb-userspace/build.rs`, which
//! embeds the object, and by `cargo xtask lint-ebpf`; no part of the program.

use std::path::Path;
use std::process::Command;

/// Between flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

/// Completes a command that begins with cargo and a verb: where, for what, with which flags. `arch` is the host's.
///
/// aya-build is not used: it offers no way to choose the CPU, and the object must be for CPU v3 (fetch atomics and 32-bit
/// jumps, yet loadable on 5.15).
pub fn complete(command: &mut Command, root: &Path, target_dir: &Path, arch: &str) {
    let flags = [
        "-Ctarget-cpu=v3",
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=0",
        "-Clink-arg=--log-level=warn",
    ]
    .join(SEPARATOR);
    // What an outer build set for itself.
    for inherited in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "RUSTC", "RUSTDOC"]
    {
        command.env_remove(inherited);
    }
    command
        .current_dir(root.join("lb-ebpf"))
        .args(["--release", "--locked", "-Zbuild-std=core", "--target=bpfel-unknown-none", "--bins", "--target-dir"])
        .arg(target_dir)
        // A pinned stable compiler with its unstable flags gives the same code as nightly, and nothing to download.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
}
