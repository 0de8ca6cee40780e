//! Prometheus text: base units, `_total` for counters, one family for each thing, labels `service` and `backend`.

mod servers;
pub(crate) mod text;

use std::time::Duration;

use lb_common::abi::Reason;

use self::text::{Kind, Text};
use super::daemon::View;
use crate::alert::{Board, RouteState};
use crate::config::model::Severity;
use crate::core::api::{Health, MemberCall, ServiceCall};
use crate::core::guard::Verdict;
use crate::io::bpf::types::{Counters, MemberCounters};

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics at one moment.
pub fn render(view: &View, counters: &Counters, board: &Board) -> String {
    let mut text = Text::default();
    daemon(&mut text, view);
    alerts(&mut text, board);
    services(&mut text, view);
    rotation(&mut text, view);
    traffic(&mut text, view, counters);
    signals(&mut text, view, counters);
    capacity(&mut text, view);
    servers::render(&mut text, view);
    verdicts(&mut text, view, counters);
    text.finish()
}

fn daemon(text: &mut Text, view: &View) {
    let mut gauge = |name, help, value: f64| text.family(Kind::Gauge, name, help).sample(&[], value);
    gauge("rollcall_start_time_seconds", "When the daemon started, Unix time.", view.started.wall_ms as f64 / 1000.0);
    gauge("rollcall_adopted", "1 if the daemon took over a running data plane.", flag(view.adopted));
    gauge("rollcall_settled", "1 if the kernel holds all that was decided.", flag(view.roll_call.settled));
    gauge(
        "rollcall_edge_suspected",
        "1 while so many backends failed at once that the edge itself is suspected and tables are held.",
        flag(!view.roll_call.suspicions.is_empty()),
    );
    gauge("rollcall_config_file_differs", "1 if the file differs from what runs.", flag(view.file_differs));
    gauge("rollcall_warnings", "Warnings that status shows.", view.warnings.len() as f64);
    text.family(
        Kind::Counter,
        "rollcall_invariant_violations_total",
        "Checks of the daemon's decisions that found a contradiction since it started.",
    )
    .sample(&[], view.violations as f64);
    text.family(
        Kind::Counter,
        "rollcall_events_lost_total",
        "Events that could not be journalled since the daemon started.",
    )
    .sample(&[], view.events_lost as f64);
    text.family(Kind::Gauge, "rollcall_build_info", "The daemon's version; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let mut attached = text.family(Kind::Gauge, "rollcall_attach_info", "The mode that really attached; always 1.");
    for a in &view.attached {
        attached.sample(&[("interface", &a.interface), ("mode", a.mode.name())], 1.0);
    }
}

fn alerts(text: &mut Text, board: &Board) {
    let mut firing = text.family(Kind::Gauge, "rollcall_alerts_firing", "Alerts that fire, by severity.");
    for severity in Severity::ALL {
        firing.sample(&[("severity", severity.name())], board.count(severity) as f64);
    }
    let mut each = |kind, name, help, value: &dyn Fn(&RouteState) -> f64| {
        let mut family = text.family(kind, name, help);
        for route in &board.routes {
            family.sample(&[("route", route.name.as_str())], value(route));
        }
    };
    let (gauge, counter) = (Kind::Gauge, Kind::Counter);
    each(gauge, "rollcall_alert_route_failing", "1 while the route takes nothing.", &|r| flag(r.failing.is_some()));
    each(counter, "rollcall_alert_deliveries_total", "Messages that the route took.", &|r| r.delivered as f64);
    each(counter, "rollcall_alert_delivery_failures_total", "Attempts that failed.", &|r| r.failed as f64);
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn members(view: &View) -> impl Iterator<Item = (&ServiceCall, &MemberCall)> {
    view.roll_call.services.iter().flat_map(|s| s.members.iter().map(move |m| (s, m)))
}

fn labels<'a>(service: &'a ServiceCall, member: &'a MemberCall) -> [(&'static str, &'a str); 2] {
    [("service", service.name.as_str()), ("backend", member.backend.as_str())]
}

fn services(text: &mut Text, view: &View) {
    let mut gauge = |name, help, value: &dyn Fn(&ServiceCall) -> bool| {
        let mut family = text.family(Kind::Gauge, name, help);
        for s in &view.roll_call.services {
            family.sample(&[("service", s.name.as_str())], flag(value(s)));
        }
    };
    gauge("rollcall_service_backup_in_use", "1 while backups take new flows, because no primary can.", &|s| {
        s.backup_in_use.is_some()
    });
    gauge("rollcall_service_panic", "1 while all take new flows although down, because nobody can serve.", &|s| {
        s.panic.is_some()
    });
}

fn rotation(text: &mut Text, view: &View) {
    let mut gauge = |name, help, value: &dyn Fn(&MemberCall) -> f64| {
        let mut family = text.family(Kind::Gauge, name, help);
        for (s, m) in members(view) {
            family.sample(&labels(s, m), value(m));
        }
    };
    gauge("rollcall_backend_in_rotation", "1 if the backend takes new flows.", &|m| flag(m.in_rotation));
    gauge("rollcall_backend_standby", "1 if it is a backup that stands by, with nothing against it.", &|m| {
        flag(m.is_standby())
    });
    gauge("rollcall_backend_weight", "The weight in the configuration.", &|m| f64::from(m.weight));
    gauge("rollcall_backend_weight_effective", "The weight in force.", &|m| f64::from(m.effective) / 256.0);
    gauge("rollcall_backend_share_ratio", "Share of the service's new flows.", &|m| m.share);
    gauge("rollcall_backend_since_seconds", "Since when it has been in or out, Unix time.", &|m| {
        m.since.wall_ms as f64 / 1000.0
    });
    let mut health = text.family(
        Kind::Gauge,
        "rollcall_backend_health",
        "What consecutive probes say: 1 for the state that holds, 0 for the others.",
    );
    for (s, m) in members(view) {
        for (state, name) in [(Health::Unknown, "unknown"), (Health::Up, "up"), (Health::Down, "down")] {
            let [service, backend] = labels(s, m);
            health.sample(&[service, backend, ("state", name)], flag(m.health == state));
        }
    }
    let mut probe =
        text.family(Kind::Gauge, "rollcall_backend_probe_duration_seconds", "How long the last probe took.");
    for (s, m) in members(view) {
        if let Some(last) = &m.last_probe {
            probe.sample(&labels(s, m), last.took.as_secs_f64());
        }
    }
    let mut reasons = text.family(
        Kind::Gauge,
        "rollcall_backend_reason",
        "1 for each reason that lowers the weight or is unverified.",
    );
    for (s, m) in members(view) {
        let mut kinds: Vec<_> = m.reasons.iter().map(|r| r.kind.name()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let [service, backend] = labels(s, m);
            reasons.sample(&[service, backend, ("reason", kind)], 1.0);
        }
    }
}

/// By service. What cannot be told has no sample of whether it is met.
fn capacity(text: &mut Text, view: &View) {
    let mut met = text.family(
        Kind::Gauge,
        "rollcall_service_n_minus_1_met",
        "1 if the loss of any one backend could be borne, 0 if not; absent if that cannot be told.",
    );
    for s in &view.roll_call.services {
        match s.n_minus_1.as_ref().map(|n| n.verdict) {
            Some(Verdict::Fits) => met.sample(&[("service", s.name.as_str())], 1.0),
            Some(Verdict::DoesNotFit) => met.sample(&[("service", s.name.as_str())], 0.0),
            Some(Verdict::CannotTell) | None => {}
        }
    }
    let mut accepted = text.family(
        Kind::Gauge,
        "rollcall_service_n_minus_1_accepted",
        "1 while somebody accepts that the service is without N-1.",
    );
    for s in &view.roll_call.services {
        accepted.sample(&[("service", s.name.as_str())], flag(view.roll_call.risks.iter().any(|r| r.covers(&s.name))));
    }
}

fn counted(counters: &Counters, member: &MemberCall) -> MemberCounters {
    member.id.and_then(|id| counters.members.get(&id)).copied().unwrap_or_default()
}

fn traffic(text: &mut Text, view: &View, counters: &Counters) {
    let mut packets = text.family(Kind::Counter, "rollcall_backend_packets_total", "Packets forwarded.");
    for (s, m) in members(view) {
        let c = counted(counters, m);
        let [service, backend] = labels(s, m);
        packets.sample(&[service, backend, ("direction", "forward")], c.forward.packets as f64);
        packets.sample(&[service, backend, ("direction", "reverse")], c.reverse.packets as f64);
    }
    let mut bytes = text.family(
        Kind::Counter,
        "rollcall_backend_bytes_total",
        "Bytes forwarded: IP packets without link headers or padding.",
    );
    for (s, m) in members(view) {
        let c = counted(counters, m);
        let [service, backend] = labels(s, m);
        bytes.sample(&[service, backend, ("direction", "forward")], c.forward.bytes as f64);
        bytes.sample(&[service, backend, ("direction", "reverse")], c.reverse.bytes as f64);
    }
}

fn signals(text: &mut Text, view: &View, counters: &Counters) {
    let mut each = |kind, name, help, value: &dyn Fn(&MemberCounters) -> f64| {
        let mut family = text.family(kind, name, help);
        for (s, m) in members(view) {
            family.sample(&labels(s, m), value(&counted(counters, m)));
        }
    };
    each(Kind::Gauge, "rollcall_backend_flows_active", "Flows that are open now.", &|c| c.active() as f64);
    let mut counter = |name, help, value: &dyn Fn(&MemberCounters) -> f64| each(Kind::Counter, name, help, value);
    counter("rollcall_backend_flows_opened_total", "Flows opened.", &|c| c.stats.opened as f64);
    counter("rollcall_backend_flows_closed_total", "Flows closed.", &|c| c.stats.closed as f64);
    counter("rollcall_backend_flows_established_total", "Flows that both sides proved.", &|c| {
        c.stats.established as f64
    });
    counter("rollcall_backend_half_open_overwritten_total", "Half-open flows overwritten by a newcomer.", &|c| {
        c.stats.overwritten as f64
    });
    counter("rollcall_backend_unanswered_total", "Half-open flows that ended without an answer.", &|c| {
        c.stats.unanswered as f64
    });
    counter("rollcall_backend_syn_retransmits_total", "SYNs that clients sent again.", &|c| {
        c.stats.syn_retransmits as f64
    });
    counter("rollcall_backend_client_resets_total", "Resets by clients.", &|c| c.stats.resets_client as f64);
    counter("rollcall_backend_moved_away_total", "Connection attempts given to another member.", &|c| {
        c.stats.moved_away as f64
    });
    counter("rollcall_backend_moved_to_total", "Connection attempts taken over from another member.", &|c| {
        c.stats.moved_to as f64
    });
    counter("rollcall_backend_resets_total", "Resets by the backend.", &|c| c.stats.resets_backend as f64);
    counter("rollcall_backend_answers_total", "Handshakes measured.", &|c| c.stats.answers as f64);
    counter(
        "rollcall_backend_answer_seconds_total",
        "Total time from a flow's first packet to the backend's answer; divide by rollcall_backend_answers_total.",
        &|c| Duration::from_nanos(c.stats.answer_ns).as_secs_f64(),
    );
    counter("rollcall_backend_ports_exhausted_total", "New flows refused because no source port was free.", &|c| {
        c.stats.ports_exhausted as f64
    });
}

fn verdicts(text: &mut Text, view: &View, counters: &Counters) {
    let mut drops = text.family(
        Kind::Counter,
        "rollcall_service_dropped_packets_total",
        "Packets of a service that were dropped, by reason.",
    );
    for s in &view.roll_call.services {
        for (reason, n) in counters.drops.get(&s.id).into_iter().flatten() {
            drops.sample(&[("service", s.name.as_str()), ("reason", reason.name())], *n as f64);
        }
    }
    let mut verdicts = text.family(
        Kind::Counter,
        "rollcall_verdicts_total",
        "Packets that were not forwarded, by reason: passed to the host, dropped, or answered.",
    );
    for reason in Reason::ALL {
        let n = counters.verdicts.get(reason).copied().unwrap_or_default();
        verdicts.sample(&[("reason", reason.name())], n as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::control::testing;

    #[test]
    fn render_of_a_full_view_passes_promtool() {
        let text = render(&testing::view(), &testing::counters(), &testing::board());
        let mut promtool = match Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            Err(e) => panic!("promtool (Debian package prometheus; cargo xtask setup installs it): {e}"),
        };
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && said.is_empty(), "{said}\n{text}");
    }

    #[test]
    fn render_shows_every_backend_with_its_own_numbers() {
        let text = render(&testing::view(), &testing::counters(), &testing::board());
        for line in [
            r#"rollcall_backend_in_rotation{service="www",backend="web-01"} 1"#,
            r#"rollcall_backend_in_rotation{service="www",backend="web-02"} 0"#,
            r#"rollcall_backend_health{service="www",backend="web-02",state="down"} 1"#,
            r#"rollcall_backend_reason{service="www",backend="web-02",reason="probe_failed"} 1"#,
            r#"rollcall_backend_packets_total{service="www",backend="web-01",direction="forward"} 1000"#,
            r#"rollcall_backend_bytes_total{service="www",backend="web-01",direction="reverse"} 9000000"#,
            r#"rollcall_backend_flows_active{service="www",backend="web-01"} 10"#,
            r#"rollcall_backend_answer_seconds_total{service="www",backend="web-01"} 0.4"#,
            r#"rollcall_service_dropped_packets_total{service="www",reason="drop_no_flow"} 7"#,
            r#"rollcall_verdicts_total{reason="pass_not_ours"} 4242"#,
            r#"rollcall_verdicts_total{reason="tx_reset"} 0"#,
            r#"rollcall_attach_info{interface="eth0",mode="generic"} 1"#,
            r#"rollcall_alerts_firing{severity="warning"} 1"#,
            r#"rollcall_alerts_firing{severity="info"} 0"#,
            r#"rollcall_alerts_firing{severity="critical"} 0"#,
            r#"rollcall_alert_route_failing{route="oncall"} 1"#,
            r#"rollcall_alert_delivery_failures_total{route="oncall"} 4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "missing: {line}\n{text}");
        }
    }
}
