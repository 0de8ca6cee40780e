//! The model, in numbers: what a server's memory holds, and how many people use the site. It is stated on the page that the
//! drill prints and in docs/drill.md; the servers really allocate it.

use std::time::Duration;

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;

/// What each server may use: its cgroup's limit, bytes.
pub const LIMIT: u64 = 256 * MIB;

/// Held while a request is being worked on, bytes.
pub const IN_FLIGHT: usize = 512 * KIB;

/// How long that takes.
pub const WORK: Duration = Duration::from_millis(30);

/// Retained after each request, like a session, bytes.
pub const RETAINED: usize = 256 * KIB;

/// For how long on average: lives are exponentially distributed, so that memory follows the load and not the clock.
pub const RETAINED_FOR: Duration = Duration::from_secs(25);

/// Each user asks once in this time.
pub const CYCLE: Duration = Duration::from_secs(1);

/// Users on a quiet day.
pub const QUIET: usize = 14;

/// Users that come when load rises, a group at a time.
pub const GROUP: usize = 4;

/// So many groups.
pub const GROUPS: usize = 10;

/// Users at the peak.
pub const PEAK: usize = QUIET + GROUP * GROUPS;

/// Memory that so many users come to fill on one server, as a share of its limit.
pub fn fills(users: f64) -> f64 {
    let each = RETAINED as f64 * RETAINED_FOR.as_secs_f64() + IN_FLIGHT as f64 * WORK.as_secs_f64();
    users / CYCLE.as_secs_f64() * each / LIMIT as f64
}

/// The model in a few lines.
pub fn text() -> String {
    let percent = |users: usize, servers: f64| 100.0 * fills(users as f64 / servers);
    format!(
        "The model: two servers of {limit} MiB. A request holds {in_flight} KiB for {work} ms; the session that it leaves\n\
         retains {retained} KiB, for {mean} s on average. Each user asks once a second. {QUIET} users come to fill\n\
         {quiet:.0} % of one server's memory, {PEAK} users {peak:.0} %: too many for one, few enough for two ({two:.0} % each).\n",
        limit = LIMIT / MIB,
        in_flight = IN_FLIGHT / KIB,
        work = WORK.as_millis(),
        retained = RETAINED / KIB,
        mean = RETAINED_FOR.as_secs(),
        quiet = percent(QUIET, 1.0),
        peak = percent(PEAK, 1.0),
        two = percent(PEAK, 2.0),
    )
}
