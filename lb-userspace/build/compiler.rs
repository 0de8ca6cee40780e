//! Which compiler builds the eBPF object. Compiled into lb-userspace's build script, which builds with it, and into
//! `cargo xtask setup`, which brings one: what set-up accepts is what the build takes, also without xtask.
//!
//! `core` is built for the eBPF target from source. Best is the compiler that builds the rest, if its library sources
//! are there (rustup's rust-src); else the distribution's, which packages its own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where distributions put their compiler; rustup's hides it in PATH.
const DISTRIBUTION: &str = "/usr/bin";

/// The oldest that the workspace's packages compile with, as `major.minor`.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// A compiler with the sources of its libraries.
pub struct Compiler {
    /// Whose it is.
    pub origin: Origin,
    /// The compiler itself.
    pub rustc: PathBuf,
    /// The cargo of the same release: `-Zbuild-std` fits only that.
    pub cargo: PathBuf,
    /// Where its library sources are.
    pub library: PathBuf,
}

/// Whose compiler it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The one that builds everything else.
    Own,
    /// The distribution's.
    Distribution,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, rustc, cargo, library } = self;
        write!(f, "{origin} ({}, {}), sources in {}", rustc.display(), cargo.display(), library.display())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "the compiler that builds the rest",
            Self::Distribution => "the distribution's compiler",
        })
    }
}

/// Finds one; `rustc` and `cargo` are those that build the rest, `root` is the workspace's, whose toolchain they mean.
///
/// # Errors
///
/// What each of the two lacks.
pub fn find(rustc: &Path, cargo: &Path, root: &Path) -> Result<Compiler, String> {
    let own = usable(Origin::Own, rustc, cargo, root);
    own.or_else(|own| {
        let distribution = Path::new(DISTRIBUTION);
        usable(Origin::Distribution, &distribution.join("rustc"), &distribution.join("cargo"), root)
            .map_err(|distribution| format!("{own}; {distribution}"))
    })
}

fn usable(origin: Origin, rustc: &Path, cargo: &Path, root: &Path) -> Result<Compiler, String> {
    let version =
        read(rustc, &["--version"], root).ok_or_else(|| format!("{origin} ({}) is not there", rustc.display()))?;
    // As rustc prints it: `rustc 1.95.0 (59807616e 2026-04-14)`.
    let version = version.split_whitespace().nth(1).unwrap_or_default();
    if release(version) < release(OLDEST) {
        return Err(format!("{origin} ({}) is {version}, older than {OLDEST}", rustc.display()));
    }
    let sysroot = read(rustc, &["--print", "sysroot"], root).unwrap_or_default();
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    // The lock is what `-Zbuild-std` resolves by; some packages leave it out.
    for needed in ["core/Cargo.toml", "Cargo.lock"] {
        if !library.join(needed).is_file() {
            return Err(format!(
                "{origin} ({}) has no library sources: no {needed} in {}",
                rustc.display(),
                library.display()
            ));
        }
    }
    if read(cargo, &["--version"], root).is_none() {
        return Err(format!("{origin} has no cargo beside it ({})", cargo.display()));
    }
    Ok(Compiler { origin, rustc: rustc.to_owned(), cargo: cargo.to_owned(), library })
}

/// Major and minor, in an order that compares.
fn release(version: &str) -> [u32; 2] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    [parts.next().unwrap_or(0), parts.next().unwrap_or(0)]
}

fn read(program: &Path, arguments: &[&str], root: &Path) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
