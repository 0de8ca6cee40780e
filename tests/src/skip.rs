//! Saying that a test did not run, so that somebody notices.

use std::fs::OpenOptions;
use std::io::Write;

/// Names the file that collects skips; `cargo xtask test` sets it and fails if
/// the file names a test that `.ci/expected-skips` does not.
pub const SKIPS: &str = "ROLLCALL_TEST_SKIPS";

/// Set where nothing may be skipped: in the virtual machine, whose kernel and file system are chosen for the tests.
pub const NO_SKIPS: &str = "ROLLCALL_TEST_NO_SKIPS";

/// Records that `test` did not run and why. Only for what the kernel lacks; a missing tool or right is a failure.
pub fn record(test: &str, why: &str) {
    assert!(std::env::var_os(NO_SKIPS).is_none(), "{test} cannot be skipped here, but {why}");
    eprintln!("SKIPPED {test}: {why}");
    if let Some(path) = std::env::var_os(SKIPS) {
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("the file of skips is writable");
        writeln!(file, "{test}: {why}").expect("the file of skips is writable");
    }
}

/// Panics unless the process is root: namespaces, veth and BPF need it.
#[track_caller]
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces and loads BPF programs, which needs root; run it by `cargo xtask test`"
    );
}
