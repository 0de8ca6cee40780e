//! The tables that exist once: top level, edge, source pool, conntrack, control, heartbeat.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::super::defaults::{self, ARENA, FLOWS, HEARTBEAT_INTERVALS, MAX_SOCKET_BYTES, TIMEOUTS};
use super::super::error::{At, Report};
use super::super::model::{AttachMode, ConfigOwner, Conntrack, Control, Heartbeat};
use super::section::{Field, Located, Section};
use super::values::{self, Refusal};

/// `[edge]`.
pub(crate) struct RawEdge {
    /// `interfaces`.
    pub(crate) interfaces: Field<Vec<Located<String>>>,
    /// `mode`.
    pub(crate) mode: AttachMode,
    /// `manage_vips`.
    pub(crate) manage_vips: bool,
    /// Where the table stands; the file's first byte if it is not there.
    pub(crate) at: At,
}

/// `[source_pool]`.
pub(crate) struct RawPool {
    /// `ipv4`.
    pub(crate) ipv4: Field<Vec<Located<Ipv4Addr>>>,
    /// `ipv6`.
    pub(crate) ipv6: Field<Vec<Located<Ipv6Addr>>>,
    /// `ports`.
    pub(crate) ports: RangeInclusive<u16>,
}

pub(super) fn owner(root: &mut Section<'_, '_>) -> ConfigOwner {
    let words = &[("cli", ConfigOwner::Cli), ("external", ConfigOwner::External)];
    root.read("config_owner", values::one_of(words)).or(ConfigOwner::Cli)
}

pub(super) fn edge(section: Option<Section<'_, '_>>) -> RawEdge {
    let Some(mut section) = section else {
        let at = At { key: "edge".into(), span: 0..0 };
        return RawEdge { interfaces: Field::Absent, mode: AttachMode::Auto, manage_vips: true, at };
    };
    let modes = &[("auto", AttachMode::Auto), ("native", AttachMode::Native), ("generic", AttachMode::Generic)];
    let edge = RawEdge {
        interfaces: section.list("interfaces", values::interface),
        mode: section.read("mode", values::one_of(modes)).or(AttachMode::Auto),
        manage_vips: section.read("manage_vips", values::boolean).or(true),
        at: section.at().clone(),
    };
    section.finish();
    edge
}

pub(super) fn pool(section: Option<Section<'_, '_>>) -> RawPool {
    let Some(mut section) = section else {
        return RawPool { ipv4: Field::Absent, ipv6: Field::Absent, ports: defaults::PORTS };
    };
    let pool = RawPool {
        ipv4: section.list("ipv4", values::ipv4),
        ipv6: section.list("ipv6", values::ipv6),
        ports: section.read("ports", values::ports).or(defaults::PORTS),
    };
    section.finish();
    pool
}

pub(super) fn conntrack(section: Option<Section<'_, '_>>) -> (Conntrack, At) {
    let mut conntrack = Conntrack {
        max_flows: defaults::MAX_FLOWS,
        max_half_open: defaults::MAX_HALF_OPEN,
        arena_slots: defaults::ARENA_SLOTS,
        seed: None,
        half_open_timeout: defaults::HALF_OPEN_TIMEOUT,
        tcp_timeout: defaults::TCP_TIMEOUT,
        udp_timeout: defaults::UDP_TIMEOUT,
        closing_timeout: defaults::CLOSING_TIMEOUT,
        closed_timeout: defaults::CLOSED_TIMEOUT,
        time_wait_timeout: defaults::TIME_WAIT_TIMEOUT,
        reset_unknown: true,
    };
    let default_at = At { key: "conntrack.arena_slots".into(), span: 0..0 };
    let Some(mut section) = section else { return (conntrack, default_at) };
    let mut timeout = |key, into: &mut Duration| *into = section.read(key, values::duration(TIMEOUTS)).or(*into);
    timeout("half_open_timeout", &mut conntrack.half_open_timeout);
    timeout("tcp_timeout", &mut conntrack.tcp_timeout);
    timeout("udp_timeout", &mut conntrack.udp_timeout);
    timeout("closing_timeout", &mut conntrack.closing_timeout);
    timeout("closed_timeout", &mut conntrack.closed_timeout);
    timeout("time_wait_timeout", &mut conntrack.time_wait_timeout);
    conntrack.max_flows = section.read("max_flows", values::integer(FLOWS)).or(conntrack.max_flows);
    conntrack.max_half_open = section.read("max_half_open", power_of_two).or(conntrack.max_half_open);
    conntrack.seed = section.read("seed", values::integer(0..=u32::MAX)).value();
    conntrack.reset_unknown = section.read("reset_unknown", values::boolean).or(true);
    let arena = section.read("arena_slots", values::integer(ARENA));
    let at = arena.good().map_or(At { span: section.at().span.clone(), ..default_at }, |located| located.at.clone());
    conntrack.arena_slots = match arena {
        // A refused size must not make every table too large as well.
        Field::Bad => *ARENA.end(),
        arena => arena.or(conntrack.arena_slots),
    };
    section.finish();
    (conntrack, at)
}

/// Half-open flows live in a power of two of buckets with four slots each.
fn power_of_two(value: &toml::de::DeValue<'_>) -> Result<u32, Refusal> {
    let number = values::integer(FLOWS)(value)?;
    if number.is_power_of_two() {
        return Ok(number);
    }
    let (below, above) = (number.next_power_of_two() / 2, number.next_power_of_two());
    Err(Refusal::with("must be a power of two", format!("the nearest are {below} and {above}")))
}

pub(super) fn control(section: Option<Section<'_, '_>>, report: &Report<'_>) -> Control {
    let mut control = Control {
        socket: defaults::SOCKET.into(),
        state_dir: defaults::STATE_DIR.into(),
        pin_dir: defaults::PIN_DIR.into(),
        metrics: None,
    };
    let Some(mut section) = section else { return control };
    let socket = section.read("socket", values::path);
    if let Some(Located { value, at }) = socket.good()
        && value.as_os_str().len() > MAX_SOCKET_BYTES
    {
        report.value(at, format!("a socket's path has at most {MAX_SOCKET_BYTES} bytes"), "choose a shorter one");
    }
    let path = |field: Field<PathBuf>, into: &mut PathBuf| *into = field.or(std::mem::take(into));
    path(socket, &mut control.socket);
    path(section.read("state_dir", values::path), &mut control.state_dir);
    path(section.read("pin_dir", values::path), &mut control.pin_dir);
    control.metrics = section.read("metrics", values::listener).value();
    section.finish();
    control
}

/// `None` after an error, which was reported.
pub(super) fn heartbeat(mut section: Section<'_, '_>) -> Option<Heartbeat> {
    let url = section.require("url", values::url);
    let interval = section.read("interval", values::duration(HEARTBEAT_INTERVALS)).or(defaults::HEARTBEAT_INTERVAL);
    section.finish();
    let values::Url { text, is_https, host, port, path } = url.value()?;
    Some(Heartbeat { url: text, is_https, host, port, path, interval })
}
