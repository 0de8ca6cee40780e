//! Ctrl-C: noticed, so that everything made is removed on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static SEEN: AtomicBool = AtomicBool::new(false);

/// The user wants to stop.
pub struct Interrupted;

/// As if the user wanted to stop: for the parts of a program that cannot go on without one that failed.
pub fn raise() {
    SEEN.store(true, Ordering::Relaxed);
}

/// Begins to notice SIGINT and SIGTERM. A second one ends the process at once; the next run removes what it leaves.
pub fn watch() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESETHAND, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        unsafe { sigaction(signal, &action) }.expect("both signals can be handled");
    }
}

/// Fails if the user wants to stop.
pub fn check() -> Result<(), Interrupted> {
    if SEEN.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
}

/// Lets time pass until `end`.
pub fn wait_until(end: Instant) -> Result<(), Interrupted> {
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

extern "C" fn note(_: i32) {
    SEEN.store(true, Ordering::Relaxed);
}
