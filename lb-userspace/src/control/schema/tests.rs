//! The schema files are the code's, every document fits its own, and each survives the way to the CLI and back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde_json::Value;

use super::*;
use crate::control::daemon::{ControlError, DutyOutcome, ErrorCode, Outcome};
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
    check(Status::new(&testing::view(), &testing::counters()));
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
fn flows_of_both_families_fit_their_schema_and_return_equal() {
    check(Flows::new(&testing::view(), &testing::flows(), true, time()));
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
    let outcome = DutyOutcome { lease: Some(testing::lease()), changes: vec!["it is probed now".into()] };
    check(DutyDone::from(outcome));
    check(Failure::from(ControlError::new(ErrorCode::NotFound, "there is no backend").with_hint("known: web-01")));
}

#[test]
fn alerts_fit_their_schemas_and_return_equal() {
    check(Alerts::new(&testing::board(), time()));
    check(AlertsTest::from(testing::tests()));
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
