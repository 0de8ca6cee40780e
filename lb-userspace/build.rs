//! Builds the eBPF object and leaves it in `OUT_DIR`, where `io::bpf::object` embeds it. It is part of the normal build,
//! so the binary never carries a stale program.
//!
//! aya-build is not used: it offers no way to choose the CPU, and the object must be for CPU v3 (fetch atomics and 32-bit
//! jumps, yet loadable on 5.15).

#[path = "build/compiler.rs"]
mod compiler;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use compiler::Compiler;

/// Between flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    for input in ["lb-ebpf/src", "lb-ebpf/Cargo.toml", "lb-ebpf/Cargo.lock", "lb-common/src", "lb-common/Cargo.toml"] {
        // Relative to the package: an absolute path would be another folder's if the target folder was moved.
        println!("cargo:rerun-if-changed=../{input}");
    }

    let target_dir = out.join("ebpf");
    let flags = [
        "-Ctarget-cpu=v3".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=0".to_owned(),
        "-Clink-arg=--log-level=warn".to_owned(),
    ];
    let compiler = compiler(&root);
    let mut cargo = cargo(&compiler);
    cargo
        .current_dir(root.join("lb-ebpf"))
        .args(["build", "--release", "--locked", "-Zbuild-std=core", "--target=bpfel-unknown-none", "--bins"])
        .arg("--target-dir")
        .arg(&target_dir)
        // A pinned stable compiler with its unstable flags gives the same code as nightly, and nothing to download.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(SEPARATOR));
    let status = cargo.status().unwrap_or_else(|e| panic!("cannot run {cargo:?}: {e}"));
    assert!(
        status.success(),
        "the eBPF object did not build with {compiler}; `cargo xtask setup --check` says what this machine lacks"
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

/// The compiler that builds the object.
fn compiler(root: &Path) -> Compiler {
    let own = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    compiler::find(&own("RUSTC"), &own("CARGO"), root).unwrap_or_else(|lack| {
        panic!("nothing here can build `core` for the eBPF target: {lack}; `cargo xtask setup` brings what is missing")
    })
}

/// Its cargo, free of what the outer build set for itself.
fn cargo(compiler: &Compiler) -> Command {
    let mut cargo = Command::new(&compiler.cargo);
    for inherited in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "RUSTDOC"] {
        cargo.env_remove(inherited);
    }
    // By itself cargo would take the first one in PATH, which need not be the one that was checked.
    cargo.env("RUSTC", &compiler.rustc);
    cargo
}
