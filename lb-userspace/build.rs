//! Builds the eBPF object and leaves it in `OUT_DIR`, where `io::bpf::object` embeds it. It is part of the normal build,
//! so the binary never carries a stale program. Flags and target: `lb-ebpf/cargo.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "../lb-ebpf/cargo.rs"]
mod ebpf;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let inputs = ["lb-ebpf/src", "lb-ebpf/Cargo.toml", "lb-ebpf/Cargo.lock", "lb-ebpf/cargo.rs"];
    for input in inputs.into_iter().chain(["lb-common/src", "lb-common/Cargo.toml"]) {
        // Relative to the package: an absolute path would be another folder's if the target folder was moved.
        println!("cargo:rerun-if-changed=../{input}");
    }

    let target_dir = out.join("ebpf");
    let mut cargo = build(&root, &target_dir, &arch);
    let status = cargo.status().unwrap_or_else(|e| panic!("cannot run {cargo:?}: {e}"));
    assert!(
        status.success(),
        "the eBPF object did not build; `cargo xtask setup --check` says what this machine lacks (bpf-linker, rust-src)"
    );
    let built = target_dir.join("bpfel-unknown-none/release");
    install(&built.join("rollcall"), &out.join("rollcall.bpf.o"));
    // For lb-tests' build script, as `DEP_ROLLCALL_BPF_BENCH`.
    install(&built.join("bench"), &out.join("bench.bpf.o"));
    println!("cargo:bench={}", out.join("bench.bpf.o").display());
}

fn install(built: &Path, to: &Path) {
    fs::copy(built, to).unwrap_or_else(|e| panic!("cannot copy {} to {}: {e}", built.display(), to.display()));
}

/// The build of the object.
///
/// Its cargo is the one that runs this build. Where that one has no library sources, it is the distribution's (`cargo xtask
/// setup` brings it, and its choice arrives in `ROLLCALL_EBPF_CARGO`) with the compiler beside it: by itself it would
/// take the first one in PATH, which is rustup's again.
fn build(root: &Path, target_dir: &Path, arch: &str) -> Command {
    println!("cargo:rerun-if-env-changed=ROLLCALL_EBPF_CARGO");
    let chosen = env::var_os("ROLLCALL_EBPF_CARGO").map(PathBuf::from);
    let own = || PathBuf::from(env::var_os("CARGO").expect("cargo sets it"));
    let mut cargo = Command::new(chosen.clone().unwrap_or_else(own));
    cargo.arg("build");
    ebpf::complete(&mut cargo, root, target_dir, arch);
    if let Some(chosen) = chosen {
        cargo.env("RUSTC", chosen.with_file_name("rustc"));
    }
    cargo
}
