//! The schema files are the code's, every document fits its own, and each survives the way to the CLI and back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde_json::Value;

use super::*;
use crate::control::daemon::{ControlError, DutyOutcome, ErrorCode, Frozen, Outcome};
use crate::control::testing;

fn time() -> Timestamp {
    timestamp(testing::NOW)
}

/// Compares `docs/schema/NAME.json` with the type, validates the sample against it, and sends the sample round.
fn check<T: Document + JsonSchema + PartialEq + std::fmt::Debug>(sample: T) {
    let mut schema = Value::from(schemars::schema_for!(Envelope<T>));
    schema["title"] = T::SCHEMA.into();
    schema["properties"]["schema"]["const"] = T::SCHEMA.into();
    let text = format!("{schema:#}\n");
    let (_, name) = T::SCHEMA.split_once('.').unwrap();
    let (name, _) = name.split_once('/').unwrap();
    let file = crate::docs::root().join(format!("docs/schema/{name}.json"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(written, text, "{} is not the code's: run the tests once with UPDATE_DOCS=1", file.display());

    let envelope = Envelope::new(sample);
    let value = serde_json::to_value(&envelope).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{value:#}");
    assert_eq!(serde_json::from_value::<Envelope<T>>(value).unwrap(), envelope);
}

#[test]
fn status_of_full_view_fits_its_schema_and_returns_equal() {
    check(Status::new(&testing::view(), &testing::counters()).with_alerts(&testing::board()));
}

#[test]
fn backends_of_full_view_fit_their_schema_and_return_equal() {
    check(Backends::new(&testing::view(), &testing::counters()));
}

#[test]
fn services_of_full_view_fit_their_schema_and_return_equal() {
    check(Services::new(&testing::view(), &testing::counters()));
}

#[test]
fn stats_of_full_view_fit_their_schema_and_return_equal() {
    check(Stats::new(&testing::view(), &testing::counters(), time()));
}

#[test]
fn trace_fits_its_schema_and_returns_equal() {
    check(testing::trace());
}

#[test]
fn flows_of_both_families_fit_their_schema_and_return_equal() {
    check(Flows::new(&testing::view(), &testing::flows(), true, time()));
}

#[test]
fn journal_documents_fit_their_schemas_and_return_equal() {
    let events = testing::events();
    let event = events.events[1].clone();
    assert_eq!((event.kind.as_str(), event.backend.as_deref()), ("in_rotation", Some("web-01")));
    check(event);
    check(events);
    let report = Report::new(testing::facts());
    assert_eq!((report.absences.len(), report.traffic.len()), (1, 1));
    check(report);
}

#[test]
fn config_documents_fit_their_schemas_and_return_equal() {
    check(ConfigFile::new(&testing::view()));
    check(ConfigCheck {
        path: "rollcall.toml".into(),
        valid: false,
        problems: vec![ConfigProblem {
            line: Some(3),
            column: Some(7),
            message: "port 0".into(),
            hint: Some("use 1 to 65535".into()),
        }],
        services: None,
        backends: None,
        warnings: vec![],
    });
}

#[test]
fn outcomes_fit_their_schemas_and_return_equal() {
    check(Applied::from(Outcome { revision: 3, changes: vec!["backend web-01 added".into()] }));
    check(Stopping { by_daemon: true });
    let outcome = DutyOutcome {
        lease: Some(testing::lease()),
        risk: Some(testing::risk()),
        changes: vec!["it is probed now".into()],
    };
    check(DutyDone::from(outcome));
    check(Failure::from(ControlError::new(ErrorCode::NotFound, "there is no backend").with_hint("known: web-01")));
}

#[test]
fn capacity_fits_its_schemas_and_returns_equal() {
    let mut view = testing::view();
    (view.roll_call.services[1].n_minus_1, view.roll_call.services[1].outgrown) = testing::capacity();
    view.roll_call.risks = vec![testing::risk()];
    let status = Status::new(&view, &testing::counters());
    let accepted = status.services[1].n_minus_1.as_ref().and_then(|n| n.accepted.as_ref());
    assert_eq!(accepted.map(|risk| risk.owner.as_str()), Some("ada"));
    check(Risks { time: status.time, risks: status.risks.clone() });
    check(status);
}

#[test]
fn alerts_fit_their_schemas_and_return_equal() {
    check(Alerts::new(&testing::board(), time()));
    check(AlertsTest::from(testing::tests()));
    check(AlertsAck::from(&testing::board().firing[0]));
    check(crate::io::notify::sample());
}

#[test]
fn doctor_report_fits_its_schema_and_returns_equal() {
    let one = |result| Check {
        name: "kernel".into(),
        result,
        evidence: "6.1.0".into(),
        why: Some("5.15 is the floor".into()),
        mend: None,
    };
    let report = DoctorReport::new(false, vec![one(CheckResult::Ok), one(CheckResult::Warn), one(CheckResult::Fail)]);
    assert_eq!((report.failed, report.warned), (1, 1));
    check(report);
}

#[test]
fn audit_and_check_fit_their_schemas_and_return_equal() {
    check(testing::audit());
    let finding = |state| Finding { state, text: "www/web-02: out".into(), in_verdict: true };
    let figures = Figures { backends: 3, in_rotation: 2, leases: 1, removed: 0, critical: 1, flows_active: 10 };
    check(CheckReport {
        time: time(),
        state: CheckState::Critical,
        verdict: "2 of 3 in rotation".into(),
        findings: vec![finding(CheckState::Critical), finding(CheckState::Warning)],
        figures: Some(figures),
    });
}

#[test]
fn status_of_what_a_daemon_left_fits_its_schema_and_says_so() {
    let mut view = testing::view();
    view.frozen = Some(Frozen { since: Some(testing::before(720)) });
    let status = Status::new(&view, &testing::counters());
    assert_eq!((status.daemon.running, status.daemon.pid), (false, 0));
    assert_eq!(status.daemon.down_since.map(|t| t.to_string()).as_deref(), Some("2026-03-01T11:48:00Z"));
    check(status);
}

#[test]
fn status_of_a_daemon_that_does_not_say_it_is_of_one_that_runs() {
    let mut old = serde_json::to_value(Status::new(&testing::view(), &testing::counters())).unwrap();
    old["daemon"].as_object_mut().unwrap().retain(|key, _| key != "running" && key != "down_since");
    assert!(serde_json::from_value::<Status>(old).unwrap().daemon.running);
}

#[test]
fn headroom_of_either_limit_fits_its_schema_and_returns_equal() {
    let system = Headroom {
        time: time(),
        hostname: "web-01".into(),
        boot_id: "3e0f7c0e-7a52-4a4c-9a5e-0d6b9d3c2f11".into(),
        limit: Limit::System,
        cgroup: None,
        total_bytes: 8 << 30,
        available_bytes: 3 << 30,
        pressure_some_avg10_ratio: None,
    };
    let cgroup = Headroom {
        limit: Limit::Cgroup,
        cgroup: Some("/system.slice/nginx.service".into()),
        pressure_some_avg10_ratio: Some(0.0125),
        ..system.clone()
    };
    check(system);
    check(cgroup);
}

#[test]
fn status_lists_every_configured_member_and_backends_without_service() {
    let view = testing::view();
    let status = Status::new(&view, &testing::counters());
    for service in &view.config.services {
        let shown = status.services.iter().find(|s| s.name == service.name).unwrap();
        let names: Vec<_> = shown.backends.iter().map(|b| &b.backend).collect();
        assert_eq!(names, service.members.iter().map(|m| &m.backend).collect::<Vec<_>>());
    }
    assert_eq!(status.unused_backends.iter().map(|b| b.as_str()).collect::<Vec<_>>(), ["spare-01"]);
}

#[test]
fn status_times_are_rfc_3339_in_utc() {
    let value = serde_json::to_value(Status::new(&testing::view(), &testing::counters())).unwrap();
    assert_eq!(value["time"], "2026-03-01T12:00:00Z");
    assert_eq!(value["daemon"]["data_plane_created"], "2026-03-01T11:10:00Z");
    assert_eq!(value["services"][0]["backends"][1]["since"], "2026-03-01T11:56:00Z");
}

#[test]
fn status_owner_of_a_backend_goes_before_its_services() {
    let status = Status::new(&testing::view(), &testing::counters());
    let owners: Vec<_> = status.services[0].backends.iter().map(|b| b.owner.as_deref()).collect();
    assert_eq!(owners, [Some("web team"), Some("web team"), Some("shop team")]);
}

#[test]
fn flow_of_a_service_that_left_has_no_name_but_is_listed() {
    let flows = Flows::new(&testing::view(), &testing::flows(), false, time());
    assert_eq!(flows.flows[0].service.as_deref(), Some("www"));
    assert_eq!(flows.flows[0].backend.as_deref(), Some("web-01"));
    assert_eq!((flows.flows[1].service.as_deref(), flows.flows[1].backend.as_deref()), (None, None));
}
