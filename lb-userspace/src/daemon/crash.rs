//! Faults on demand: named places where a debug build kills itself if `ROLLCALL_CRASH_AT` says so, or fails for as long as
//! the file that `ROLLCALL_FAULTS` names says so.
//!
//! The promise that SIGKILL at any moment leaves file and running state both old or both new is tested with these, by
//! dying at each place where the outcome could differ. The promise that a refused write is tried again is tested with the
//! failures. A release build contains none of it.

/// Every point, in the order in which an edit passes them.
#[cfg(test)]
pub const POINTS: [&str; 6] =
    ["before_intent", "after_intent", "after_temp", "after_rename", "after_apply", "after_revision"];

/// Dies here by SIGKILL if this point was asked for.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    if std::env::var_os("ROLLCALL_CRASH_AT").is_some_and(|asked| asked == name) {
        // SIGKILL and not abort: no handler, no destructor, no flush, as the operator's `kill -9` would have it.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}

/// Whether this is to fail now: the file lists what is, one name a line.
#[cfg(debug_assertions)]
pub fn fails(name: &str) -> bool {
    let listed = std::env::var_os("ROLLCALL_FAULTS").and_then(|path| std::fs::read_to_string(path).ok());
    listed.is_some_and(|list| list.lines().any(|line| line == name))
}

/// Nothing fails on demand in a release build.
#[cfg(not(debug_assertions))]
pub fn fails(_name: &str) -> bool {
    false
}
