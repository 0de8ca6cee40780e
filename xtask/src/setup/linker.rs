//! bpf-linker, linked with the LLVM that the compiler itself uses. Only the build machine needs it.
//!
//! Compilers bring that LLVM as a shared library: rustup's toolchains in their own folder, a distribution's compiler as a
//! package that it depends on. So no LLVM has to be installed, and distributions without that release will do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Need;
use crate::{sys, workspace};

const VERSION: &str = "0.13.0";

/// bpf-linker's feature for the release of LLVM that the pinned compiler uses.
const FEATURE: &str = "llvm-22";

/// How that release's library is called; more may follow, such as `1-rust-1.95.0-stable`.
const LIBRARY: &str = "libLLVM.so.22.";

/// What is checked here.
pub fn need() -> Need {
    Need { name: format!("bpf-linker {VERSION}"), purpose: "linking the eBPF object", found, bring, optional: false }
}

fn found() -> Result<String, String> {
    let printed = sys::read(Command::new("bpf-linker").arg("--version"));
    match printed.as_deref().map(str::trim) {
        Some(version) if version.split_whitespace().any(|word| word == VERSION) => Ok("present".to_owned()),
        Some(version) => Err(format!("there is another one: {version}")),
        None => Err("not found in PATH, or it does not run".to_owned()),
    }
}

fn bring() -> Result<()> {
    let llvm = Llvm::find()?;
    // The linker looks for `libLLVM.so`, the library has a longer name.
    let names = std::env::temp_dir().join(format!("rollcall-llvm-{}", std::process::id()));
    std::fs::create_dir(&names).with_context(|| format!("cannot create {}", names.display()))?;
    let installed = install(&llvm, &names);
    let _ = std::fs::remove_dir_all(&names);
    installed?;
    if sys::find("bpf-linker").is_none() {
        bail!("cargo installed it, but its folder is not in PATH; add ~/.cargo/bin to PATH");
    }
    Ok(())
}

fn install(llvm: &Llvm, names: &Path) -> Result<()> {
    let name = names.join("libLLVM.so");
    std::os::unix::fs::symlink(&llvm.library, &name).with_context(|| format!("cannot create {}", name.display()))?;
    let mut install = workspace::cargo();
    install
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", FEATURE])
        // Where the installed program will look for the library, its `rpath`.
        .env("LLVM_PREFIX", &llvm.prefix)
        .env("RUSTFLAGS", format!("-Lnative={}", names.display()));
    sys::run(&mut install)
}

/// The compiler's LLVM.
struct Llvm {
    /// The shared library.
    library: PathBuf,
    /// The folder whose `lib` it is in or below.
    prefix: PathBuf,
}

impl Llvm {
    fn find() -> Result<Self> {
        let mut rustc = Command::new("rustc");
        let sysroot = sys::read(rustc.args(["--print", "sysroot"]).current_dir(workspace::root()));
        let toolchain = PathBuf::from(sysroot.context("`rustc --print sysroot` failed")?.trim());
        let distribution = PathBuf::from("/usr");
        let places = [
            (toolchain.join("lib"), toolchain),
            (distribution.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH)), distribution),
        ];
        for (folder, prefix) in &places {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut libraries = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(LIBRARY));
            if let Some(library) = libraries.next() {
                return Ok(Self { library: library.path(), prefix: prefix.clone() });
            }
        }
        bail!(
            "there is no {LIBRARY}* in {}, nor in {}. Rustup's toolchains for GNU/Linux have it; with another compiler, \
             put the release binary of bpf-linker {VERSION} from its project page into PATH. Only the machine that \
             builds needs it, not the one that runs Rollcall",
            places[0].0.display(),
            places[1].0.display()
        )
    }
}
