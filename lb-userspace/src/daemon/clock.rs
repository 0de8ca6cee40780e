//! The daemon's clocks, the only place that reads them. The core and its timers live on what this returns.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::error::system;
use crate::control::daemon::ControlError;
use crate::core::api::Time;

/// This moment, by both clocks.
pub fn now() -> Time {
    Time { boot_ms: millis(ClockId::CLOCK_BOOTTIME).unsigned_abs(), wall_ms: millis(ClockId::CLOCK_REALTIME) }
}

/// Which boot CLOCK_BOOTTIME counts from.
pub fn boot_id() -> Result<String, ControlError> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text =
        std::fs::read_to_string(path).map_err(|e| system(format!("cannot tell one boot from another: {path}: {e}")))?;
    Ok(text.trim().to_owned())
}

/// How long to wait from `now` until `then`; zero if it has passed. Only the boot-time clock decides.
pub fn until(now: Time, then: Time) -> Duration {
    Duration::from_millis(then.boot_ms.saturating_sub(now.boot_ms))
}

fn millis(clock: ClockId) -> i64 {
    let t = clock_gettime(clock).expect("both clocks exist since Linux 2.6.39, and the pointer is valid");
    t.tv_sec() * 1000 + t.tv_nsec() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_a_moment_in_the_past_is_zero() {
        let now = now();
        assert!(now.boot_ms > 0 && now.wall_ms > 1_600_000_000_000);
        assert_eq!(until(now + Duration::from_secs(3), now), Duration::ZERO);
        assert_eq!(until(now, now + Duration::from_secs(3)), Duration::from_secs(3));
    }
}
