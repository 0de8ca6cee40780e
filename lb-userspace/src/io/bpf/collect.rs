//! Running the `collect` program, and measuring the kernel's tick rate with it.

use std::time::Duration;

use aya::maps::{Array, MapData};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use lb_common::abi::Clock;

use super::DataPlane;
use super::error::{BpfError, errno};

/// Tick rates that kernels are built with.
const RATES: [u64; 4] = [100, 250, 300, 1000];
/// Long enough that a tick more or less decides nothing.
const INTERVAL: Duration = Duration::from_millis(110);
/// Attempts; a virtual machine that was stopped meanwhile has lost ticks.
const ATTEMPTS: u32 = 5;

impl DataPlane {
    /// Runs the collector `rounds` times (at least once), each examining a few records, and returns its clock.
    pub fn collect(&self, rounds: u32) -> Result<Clock, BpfError> {
        run(&self.collect, &self.maps.clock, rounds)
    }

    /// Established records kept now: IPv4, IPv6. As of the newest collection.
    pub fn kept(&self) -> Result<[u64; 2], BpfError> {
        let clock = self.maps.clock.get(&0, 0).map_err(|e| BpfError::kernel("cannot read CLOCK", &e))?;
        Ok(clock.kept)
    }
}

fn run(program: &Xdp, clock: &Array<MapData, Clock>, rounds: u32) -> Result<Clock, BpfError> {
    // The kernel wants a packet of at least an Ethernet header; the program does not look at it.
    let packet = [0; 64];
    loop {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packet);
        options.repeat = rounds.max(1);
        match program.test_run(options) {
            Ok(_) => break,
            // A signal cut the run short. What was examined stays examined.
            Err(e) if errno(&e) == Some(libc::EINTR) => {}
            Err(e) => return Err(BpfError::kernel("cannot run the collector", &e)),
        }
    }
    clock.get(&0, 0).map_err(|e| BpfError::kernel("cannot read CLOCK", &e))
}

/// Measures jiffies per second. No interface of the kernel tells it: USER_HZ is another thing.
pub(super) fn measure_hz(program: &Xdp, clock: &Array<MapData, Clock>) -> Result<u32, BpfError> {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let from = run(program, clock, 1)?;
        std::thread::sleep(INTERVAL);
        let to = run(program, clock, 1)?;
        let ticks = to.jiffies.saturating_sub(from.jiffies);
        let ns = to.monotonic_ns.saturating_sub(from.monotonic_ns);
        if let Some(hz) = snap(ticks, ns) {
            return Ok(hz);
        }
        seen.push(format!("{ticks} ticks in {ns} ns"));
    }
    Err(BpfError::Calibration(format!("{} fit no usual rate (100, 250, 300, 1000)", seen.join(", "))))
}

/// The usual rate within a tick and 3 % of what was measured.
fn snap(ticks: u64, ns: u64) -> Option<u32> {
    let fits = |rate: &&u64| {
        let expected = u128::from(**rate) * u128::from(ns);
        let measured = u128::from(ticks) * 1_000_000_000;
        measured.abs_diff(expected) <= 1_000_000_000 + expected * 3 / 100
    };
    let mut fitting = RATES.iter().filter(fits);
    let rate = fitting.next()?;
    fitting.next().is_none().then(|| u32::try_from(*rate).expect("a rate is at most 1000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snap_accepts_a_tick_more_or_less_and_nothing_ambiguous() {
        for rate in RATES {
            for ns in [110_000_000, 110_900_000, 250_000_000] {
                let ticks = rate * ns / 1_000_000_000;
                for ticks in [ticks, ticks + 1] {
                    assert_eq!(snap(ticks, ns).map(u64::from), Some(rate), "{ticks} ticks in {ns} ns");
                }
            }
        }
        assert_eq!(snap(18, 110_000_000), None);
        assert_eq!(snap(0, 110_000_000), None);
        assert_eq!(snap(2, 5_000_000), None, "250, 300 or 100");
    }
}
