//! Defaults and limits of the configuration, in one place. `keys` states the same defaults as text; a test compares them.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_common::abi::Descriptor;

use super::model::{HashFields, Panic, Severity, Tier};

/// Bytes that a configuration file may have: a hundred thousand backends fit.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

/// Path of the configuration file.
pub const CONFIG_PATH: &str = "/etc/rollcall/rollcall.toml";
/// Path of the control socket.
pub const SOCKET: &str = "/run/rollcall/control.sock";
/// Directory of `state.db` and `journal.db`.
pub const STATE_DIR: &str = "/var/lib/rollcall";
/// Directory of the pins, on a bpffs.
pub const PIN_DIR: &str = "/sys/fs/bpf/rollcall";

/// Source ports: all but the privileged ones.
pub const PORTS: RangeInclusive<u16> = 1024..=65535;

/// Established flows per family.
pub const MAX_FLOWS: u32 = 131_072;
/// Half-open flows per family.
pub const MAX_HALF_OPEN: u32 = 65_536;
/// Slots of the arena: 16 MiB, room for two generations of 128 tables of [`TABLE_SIZE`].
pub const ARENA_SLOTS: u32 = 1 << 22;
/// Life of a half-open flow.
pub const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle limit, TCP: the 2 h 4 min of RFC 5382, REQ-5.
pub const TCP_TIMEOUT: Duration = Duration::from_secs(7440);
/// Idle limit, UDP: the least that RFC 4787, REQ-5 allows.
pub const UDP_TIMEOUT: Duration = Duration::from_secs(120);
/// Idle limit after one FIN.
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(120);
/// Rest of a port after a close by the client or a reset.
pub const CLOSED_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest of a port after a close by the backend: Linux's TIME_WAIT.
pub const TIME_WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Slots of a service's table. A size is fixed for the life of its service, so the default cannot follow the number of
/// members: this prime gives 16 members [`SLOTS_PER_MEMBER`] each, and costs 64 KiB for each generation.
pub const TABLE_SIZE: u32 = 16_381;
/// Slots that a member of a `"maglev"` table should have, so that its share is right within a percent or two.
pub const SLOTS_PER_MEMBER: u32 = 1000;
/// How long a reason may stand before it escalates.
pub const EXPECTED_OUT: Duration = Duration::from_secs(600);
/// A member's weight.
pub const WEIGHT: NonZeroU16 = NonZeroU16::MIN;

/// Time between two probes of one member.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Time one probe may take, unless the interval is shorter.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Consecutive successes to be up.
pub const PROBE_RISE: u32 = 2;
/// Consecutive failures to be down.
pub const PROBE_FALL: u32 = 3;
/// Between two heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// `min_in_rotation`.
pub const MIN_IN_ROTATION: u32 = 1;
/// A service's `hash`.
pub const HASH: HashFields = HashFields::FiveTuple;
/// A member's `tier`.
pub const TIER: Tier = Tier::Primary;
/// A service's `panic`.
pub const PANIC: Panic = Panic::Refuse;
/// Request target of an HTTP probe.
pub const PROBE_PATH: &str = "/";
/// Accepted status codes.
pub const PROBE_STATUS: RangeInclusive<u16> = 200..=399;

/// Port of `rollcall agent`.
pub const AGENT_PORT: NonZeroU16 = NonZeroU16::new(9465).expect("not 0");
/// Port of node_exporter, by its own default.
pub const NODE_EXPORTER_PORT: NonZeroU16 = NonZeroU16::new(9100).expect("not 0");
/// Time between two readings of a server's memory, and between two questions to its agent.
pub const MEMORY_INTERVAL: Duration = Duration::from_secs(5);
/// An alert route's `severity`.
pub const ALERT_SEVERITY: Severity = Severity::Warning;
/// An alert route's `repeat`.
pub const ALERT_REPEAT: Duration = Duration::from_secs(4 * 3600);
/// The program that takes mail.
pub const SENDMAIL: &str = "/usr/sbin/sendmail";
/// The user that a route's program runs as.
pub const ALERT_USER: &str = "nobody";

/// Flows that may be asked for, established or half-open, per family.
pub(super) const FLOWS: RangeInclusive<u32> = 4..=1 << 24;
/// Slots that the arena may have.
pub(super) const ARENA: RangeInclusive<u32> = 2..=Descriptor::MAX_OFFSET;
/// Slots that one table may have.
pub(super) const TABLE: RangeInclusive<u32> = 1..=Descriptor::MAX_SIZE;
/// Conntrack's timeouts: a week in jiffies still fits 32 bits at 1000 Hz.
pub(super) const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(7 * 86_400);
/// `min_in_rotation`.
pub(super) const MIN_IN_ROTATIONS: RangeInclusive<u32> = 0..=65_535;
/// `expect_backends`.
pub(super) const EXPECT_BACKENDS: RangeInclusive<u32> = 1..=65_535;
/// `max_flows` of a backend.
pub(super) const MAX_FLOWS_OF_BACKEND: RangeInclusive<u32> = 1..=u32::MAX;
/// `expected_out`.
pub(super) const EXPECTED_OUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
/// `slow_start`: fifteen steps, of which each writes a table.
pub(super) const AFFINITIES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
pub(super) const SLOW_STARTS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);
/// Between two heartbeats: each may take five seconds.
pub(super) const HEARTBEAT_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(86_400);
/// A probe's interval and timeout.
pub(super) const PROBE_TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// `rise` and `fall`.
pub(super) const PROBE_COUNTS: RangeInclusive<u32> = 1..=100;
/// A memory source's interval, and an agent check's: not shorter than the second that one reading may take.
pub(super) const MEMORY_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// An alert route's `after`.
pub(super) const ALERT_AFTERS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);
/// An alert route's `repeat`.
pub(super) const ALERT_REPEATS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);
/// Recipients of a mail.
pub(super) const MAX_RECIPIENTS: usize = 16;
/// Words of a route's command.
pub(super) const MAX_WORDS: usize = 32;
/// Labels of a route.
pub(super) const MAX_LABELS: usize = 16;
/// Bytes of a body match.
pub(super) const MAX_BODY_BYTES: usize = 1024;
/// Bytes of a request target.
pub(super) const MAX_PATH_BYTES: usize = 2048;
/// Bytes of a host or an owner.
pub(super) const MAX_LINE_BYTES: usize = 255;
/// Bytes of an interface's name (IFNAMSIZ less its NUL).
pub(super) const MAX_INTERFACE_BYTES: usize = 15;
/// Bytes of a unix socket's path (sun_path less its NUL).
pub(super) const MAX_SOCKET_BYTES: usize = 107;
