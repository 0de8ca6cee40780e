//! The verdict: whether a roll call is as it should be, accounted for, or neither. One pure function, on which `rollcall
//! check` and the heartbeat agree. Words for the whole pool are the first line of `status`; here are single findings.

use super::schema::{BackendStatus, CheckState, Finding, ServiceStatus, Status};
use crate::config::model::ServiceName;
use crate::core::reason::ReasonKind;

/// How the finding begins that no daemon runs.
pub const DOWN: &str = "the daemon is down";

/// What is not as it should be, worst first.
pub fn findings(status: &Status) -> Vec<Finding> {
    let mut all = Vec::new();
    if !status.daemon.running {
        all.push(told(CheckState::Critical, format!("{DOWN}; leases and health are frozen")));
    }
    for suspicion in &status.suspicions {
        all.push(told(
            CheckState::Critical,
            format!("{}: the edge is suspected: {}", suspicion.service, suspicion.cause),
        ));
    }
    for service in &status.services {
        if service.panic_since.is_some() {
            let text = "no backend can serve, and all take new connections all the same";
            all.push(told(CheckState::Critical, format!("{}: {text}", service.name)));
        }
        if service.backup_in_use_since.is_some() {
            all.push(told(CheckState::Warning, format!("{}: no primary can serve: the backups do", service.name)));
        }
        if service.at_limit_since.is_some() {
            let text = "all backends that could serve have as many flows as they may";
            all.push(new(CheckState::Critical, format!("{}: {text}", service.name)));
        }
        if service.in_rotation == 0 {
            all.push(new(CheckState::Critical, format!("{}: no backend in rotation", service.name)));
        }
        if let Some(n_minus_1) = service.n_minus_1.as_ref().filter(|n| n.alarm_since.is_some() && n.accepted.is_none())
        {
            all.push(new(CheckState::Warning, format!("{}: N-1 is not met: {}", service.name, n_minus_1.evidence)));
        }
        if let Some(outgrown) = &service.outgrown {
            let (name, backend) = (&service.name, &outgrown.backend);
            let text = format!("{name}: the others cannot carry the load of {backend}: {}", outgrown.evidence);
            all.push(new(CheckState::Critical, text));
        }
        all.extend(service.backends.iter().flat_map(|b| member(status, service, b)));
    }
    for removed in &status.removed {
        let of = removed.service.as_ref().map(|s| format!(" from {s}")).unwrap_or_default();
        all.push(told(CheckState::Critical, format!("{} was removed{of} and is missed", removed.backend)));
    }
    for lease in &status.leases {
        let of = lease.service.as_ref().map(|s| format!(" in {s}")).unwrap_or_default();
        let state = if lease.ends < status.time { CheckState::Critical } else { CheckState::Warning };
        let gone = |name: &ServiceName| !status.services.iter().any(|s| s.name == *name);
        if lease.service.as_ref().is_some_and(gone) {
            let (kind, owner, ends) = (lease.kind.name(), &lease.owner, lease.ends);
            let text =
                format!("the {kind} of {}{of} by {owner} until {ends} covers nobody: no such service", lease.backend);
            all.push(new(state, text));
            continue;
        }
        all.push(told(state, format!("{}{of} is {} until {}", lease.backend, lease.kind.participle(), lease.ends)));
    }
    for warning in &status.warnings {
        let critical = status.critical.contains(warning);
        all.push(new(if critical { CheckState::Critical } else { CheckState::Warning }, warning.clone()));
    }
    if !status.settled {
        all.push(new(CheckState::Warning, "the kernel does not hold all that was decided yet".to_owned()));
    }
    if status.daemon.file_differs {
        all.push(new(CheckState::Warning, format!("{} differs from what runs", status.daemon.config_path)));
    }
    if status.services.is_empty() {
        all.push(told(CheckState::Warning, "no service is configured".to_owned()));
    }
    all.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    all
}

/// The worst of them.
pub fn state(findings: &[Finding]) -> CheckState {
    findings.iter().map(|finding| finding.state).max().unwrap_or(CheckState::Ok)
}

/// A member that is out, or has less than its weight: each reason within its time is accounted for.
fn member(status: &Status, service: &ServiceStatus, b: &BackendStatus) -> Vec<Finding> {
    let who = format!("{}/{}", service.name, b.backend);
    if b.standby {
        return Vec::new();
    }
    let lowered = !b.in_rotation || b.weight_effective < f64::from(b.weight_configured);
    if b.reasons.is_empty() && lowered {
        // Without the daemon the cause is known to nobody; that it is down is critical already.
        let state = if status.daemon.running { CheckState::Critical } else { CheckState::Warning };
        let text = format!("{who}: out, or below its weight, without a known reason");
        return vec![Finding { state, text, in_verdict: !b.in_rotation }];
    }
    let on_leave = b.reasons.iter().any(|r| r.kind.is_lease());
    let finding = |r: &super::schema::ReasonStatus| {
        let text = format!("{who}: {}: {}", r.kind.name().replace('_', " "), r.cause);
        // Under a lease, what else is wrong is being worked on until its end.
        let overdue = r.review_at.filter(|at| *at < status.time && (r.kind.is_lease() || !on_leave));
        if let Some(since) = overdue {
            new(CheckState::Critical, format!("{text}; overdue since {since}"))
        } else {
            // The first line names who is out, and who is unverified.
            let in_verdict = !b.in_rotation || r.kind == ReasonKind::Unverified;
            Finding { state: CheckState::Warning, text, in_verdict }
        }
    };
    b.reasons.iter().map(finding).collect()
}

/// A finding that the first line does not tell.
fn new(state: CheckState, text: String) -> Finding {
    Finding { state, text, in_verdict: false }
}

/// A finding that the first line tells.
fn told(state: CheckState, text: String) -> Finding {
    Finding { state, text, in_verdict: true }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::control::schema::SuspicionStatus;
    use crate::control::testing;

    /// All is well.
    fn good() -> Status {
        let mut status = Status::new(&testing::view(), &testing::counters());
        for b in status.services.iter_mut().flat_map(|s| &mut s.backends) {
            b.in_rotation = true;
            b.weight_effective = f64::from(b.weight_configured);
            b.reasons.clear();
        }
        status.services[0].in_rotation = 3;
        status.warnings.clear();
        status.daemon.file_differs = false;
        status
    }

    fn minutes(status: &Status, n: i64) -> jiff::Timestamp {
        status.time + SignedDuration::from_mins(n)
    }

    fn out(status: &mut Status, review_in: i64) {
        let review_at = Some(minutes(status, review_in));
        let mut bad = Status::new(&testing::view(), &testing::counters()).services[0].backends[1].clone();
        bad.reasons[0].review_at = review_at;
        status.services[0].backends[1] = bad;
        status.services[0].in_rotation = 2;
    }

    fn lease(status: &mut Status, ends_in: i64) {
        let (begun, ends) = (minutes(status, -30), minutes(status, ends_in));
        let lease = json!({
            "backend": "web-02", "service": null, "kind": "drain", "owner": "root", "owner_claimed": false, "uid": 0,
            "loginuid": 0, "reason": "kernel test", "begun": begun, "ends": ends, "recallable": true,
        });
        status.leases = vec![serde_json::from_value(lease).unwrap()];
    }

    fn removed(status: &mut Status) {
        let gone = json!({
            "backend": "web-04", "service": "www", "since": minutes(status, -1), "by": "ada", "how": "reload",
            "owner": null, "review_at": minutes(status, 9),
        });
        status.removed = vec![serde_json::from_value(gone).unwrap()];
    }

    fn unreasoned(status: &mut Status) {
        out(status, 5);
        status.services[0].backends[1].reasons.clear();
    }

    fn standing_by(status: &mut Status) {
        let backup = &mut status.services[0].backends[1];
        (backup.in_rotation, backup.standby, backup.weight_effective) = (false, true, 0.0);
        status.services[0].in_rotation = 2;
    }

    fn suspected(status: &mut Status) {
        let service = status.services[0].name.clone();
        status.suspicions = vec![SuspicionStatus { service, since: status.time, cause: "3 of 4 failed".into() }];
    }

    fn warned(status: &mut Status, critical: bool) {
        status.warnings = vec!["something".into()];
        status.critical = if critical { status.warnings.clone() } else { Vec::new() };
    }

    #[rstest]
    #[case::all_well(|_: &mut Status| {}, CheckState::Ok, "")]
    #[case::out_within_its_time(|s: &mut Status| out(s, 5), CheckState::Warning, "www/web-02: probe failed: connection refused")]
    #[case::out_past_its_time(|s: &mut Status| out(s, -5), CheckState::Critical, "overdue since 2026-03-01T11:55:00Z")]
    #[case::out_without_reason(unreasoned, CheckState::Critical, "without a known reason")]
    #[case::below_its_weight_without_reason(|s: &mut Status| s.services[0].backends[0].weight_effective = 1.0, CheckState::Critical, "www/web-01: out, or below")]
    #[case::leased(|s: &mut Status| lease(s, 12), CheckState::Warning, "web-02 is drained until")]
    #[case::lease_not_ended(|s: &mut Status| lease(s, -12), CheckState::Critical, "web-02 is drained until")]
    #[case::removed(removed, CheckState::Critical, "web-04 was removed from www")]
    #[case::nobody_left(|s: &mut Status| s.services[1].in_rotation = 0, CheckState::Critical, "dns: no backend in rotation")]
    #[case::standing_by(standing_by, CheckState::Ok, "")]
    #[case::backup_in_use(|s: &mut Status| s.services[0].backup_in_use_since = Some(s.time), CheckState::Warning, "www: no primary")]
    #[case::panic(|s: &mut Status| s.services[0].panic_since = Some(s.time), CheckState::Critical, "www: no backend can serve")]
    #[case::at_limit(|s: &mut Status| s.services[0].at_limit_since = Some(s.time), CheckState::Critical, "www: all backends")]
    #[case::edge_suspected(suspected, CheckState::Critical, "www: the edge is suspected")]
    #[case::daemon_down(|s: &mut Status| s.daemon.running = false, CheckState::Critical, "the daemon is down")]
    #[case::warning(|s: &mut Status| warned(s, false), CheckState::Warning, "something")]
    #[case::critical_warning(|s: &mut Status| warned(s, true), CheckState::Critical, "something")]
    #[case::not_settled(|s: &mut Status| s.settled = false, CheckState::Warning, "not hold all")]
    #[case::file_differs(|s: &mut Status| s.daemon.file_differs = true, CheckState::Warning, "differs from what runs")]
    #[case::no_service(|s: &mut Status| s.services.clear(), CheckState::Warning, "no service is configured")]
    fn verdict_of_one_trouble_is_its_own(
        #[case] change: impl FnOnce(&mut Status),
        #[case] expected: CheckState,
        #[case] says: &str,
    ) {
        let mut status = good();
        change(&mut status);
        let findings = findings(&status);
        assert_eq!(state(&findings), expected, "{findings:?}");
        assert!(says.is_empty() == findings.is_empty(), "{findings:?}");
        assert!(findings.first().is_none_or(|f| f.text.contains(says)), "{findings:?}");
    }

    #[test]
    fn findings_are_worst_first() {
        let mut status = good();
        warned(&mut status, false);
        lease(&mut status, 12);
        removed(&mut status);
        let states: Vec<_> = findings(&status).iter().map(|f| f.state).collect();
        assert_eq!(states, [CheckState::Critical, CheckState::Warning, CheckState::Warning]);
    }
}
