//! Builds the eBPF object and leaves it in `OUT_DIR`, where `io::bpf::object` embeds it. It is part of the normal build,
//! so the binary never carries a stale program. Flags and target: `lb-ebpf/cargo.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "build/compiler.rs"]
mod compiler;
#[path = "../lb-ebpf/cargo.rs"]
mod ebpf;

use compiler::Compiler;

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
    let compiler = compiler(&root);
    let mut cargo = Command::new(&compiler.cargo);
    cargo.arg("build");
    ebpf::complete(&mut cargo, &root, &target_dir, &arch);
    // By itself cargo would take the first one in PATH, which need not be the one that was checked.
    cargo.env("RUSTC", &compiler.rustc);
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
