//! Edits of real texts: what exactly changes.

use rstest::rstest;
use serde_json::json;

use super::super::edit;
use super::{GOOD, parse};
use crate::control::daemon::{ControlError, Edit, ErrorCode};

fn edit(json: serde_json::Value) -> Edit {
    serde_json::from_value(json).unwrap()
}

fn add(name: &str, addresses: &[&str], services: &[&str]) -> serde_json::Value {
    json!({"verb": "add_backend", "name": name, "addresses": addresses, "owner": null, "services": services,
           "port": null, "weight": null})
}

fn remove(name: &str, service: Option<&str>) -> serde_json::Value {
    json!({"verb": "remove_backend", "name": name, "service": service})
}

fn set(name: &str, service: Option<&str>, weight: Option<u16>) -> serde_json::Value {
    json!({"verb": "set_backend", "name": name, "service": service, "weight": weight, "port": null, "owner": null})
}

/// What a diff would show: lines that went and lines that came, in place.
fn changed(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let lines = |sign: char, lines: &[&str]| lines.iter().map(|line| format!("{sign}{line}\n")).collect::<String>();
    lines('-', &old[same..old.len() - tail]) + &lines('+', &new[same..new.len() - tail])
}

#[test]
fn add_of_a_backend_follows_the_last_of_its_kind_and_its_service() {
    let edited = edit::apply(GOOD, &edit(add("s3", &["192.0.2.13", "2001:db8::13"], &["web"]))).unwrap();
    let wanted = GOOD
        .replace(
            "ipv4 = \"192.0.2.12\"\n",
            "ipv4 = \"192.0.2.12\"\n\n[[backend]]\nname = \"s3\"\nipv4 = \"192.0.2.13\"\nipv6 = \"2001:db8::13\"\n",
        )
        .replace("weight = 3 # a big one\n", "weight = 3 # a big one\n\n[[service.member]]\nbackend = \"s3\"\n");
    assert_eq!(edited, wanted);
}

#[test]
fn add_to_the_last_service_stands_before_the_files_last_comment() {
    let edited = edit::apply(GOOD, &edit(add("s3", &["2001:db8::13"], &["web6"]))).unwrap();
    assert!(edited.ends_with("backend = \"s1\"\n\n[[service.member]]\nbackend = \"s3\"\n# The end.\n"), "{edited}");
}

#[test]
fn remove_of_the_last_primary_member_is_refused() {
    let text = GOOD.replace("weight = 3", "weight = 3\ntier = \"backup\"");
    let error = edit::apply(&text, &edit(remove("s1", Some("web")))).unwrap_err();
    assert!(error.to_string().contains("last primary member of service web"), "{error}");
}

#[test]
fn set_of_a_weight_changes_the_number_alone() {
    let edited = edit::apply(GOOD, &edit(set("s2", None, Some(9)))).unwrap();
    assert_eq!(changed(GOOD, &edited), "-weight = 3 # a big one\n+weight = 9 # a big one\n");
    let edited = edit::apply(GOOD, &edit(set("s1", Some("web"), Some(2)))).unwrap();
    assert_eq!(changed(GOOD, &edited), "+weight = 2\n");
}

#[test]
fn remove_from_a_service_keeps_the_comment_above() {
    let edited = edit::apply(GOOD, &edit(remove("s1", Some("web")))).unwrap();
    assert_eq!(edited.matches("# Members of web.").count(), 1);
    assert_eq!(
        edited.split("port = 80\n").nth(1).unwrap(),
        "\n# Members of web.\n\n[[service.member]]\nbackend = \"s2\"\nport = 8080\nweight = 3 # a big one\n\n\
         [[service]]\nname = \"web6\"\nvip = \"2001:db8::80\"\n"
    );
}

#[test]
fn edits_beside_a_backends_own_tables_leave_them_with_it() {
    let table = "\n[backend.memory] # read every 5 s\nsource = \"agent\"\n";
    let text = GOOD.replace("ipv4 = \"192.0.2.12\"\n", &format!("ipv4 = \"192.0.2.12\"\n{table}"));
    let added = edit::apply(&text, &edit(add("s3", &["192.0.2.13"], &["web"]))).unwrap();
    assert!(added.contains(&format!("{table}\n[[backend]]\nname = \"s3\"\n")), "{added}");
    let removed = edit::apply(&text, &edit(remove("s2", None))).unwrap();
    assert!(!removed.contains("backend.memory"), "{removed}");
}

#[test]
fn remove_of_a_backend_takes_it_out_of_all_services() {
    let edited = edit::apply(GOOD, &edit(remove("s2", None))).unwrap();
    let config = parse(&edited).unwrap();
    assert_eq!(config.backends.len(), 1);
    assert_eq!(config.services[0].members.len(), 1);
    assert!(!edited.contains("s2"));
}

#[test]
fn inline_arrays_grow_and_shrink_in_their_own_style() {
    let text = GOOD.replace("\n# Members of web.\n[[service.member]]\nbackend = \"s1\"\n\n[[service.member]]\nbackend = \"s2\"\nport = 8080\nweight = 3 # a big one\n", "member = [\n  { backend = \"s1\" }, # one\n  { backend = \"s2\" }, # two\n]\n");
    let edited = edit::apply(&text, &edit(add("s3", &["192.0.2.13"], &["web"]))).unwrap();
    assert!(edited.contains("  { backend = \"s2\" }, # two\n  { backend = \"s3\" },\n]\n"), "{edited}");
    let edited = edit::apply(&edited, &edit(remove("s3", None))).unwrap();
    assert_eq!(edited, text);
}

#[test]
fn indented_files_stay_indented() {
    let text = GOOD.replace(
        "[[service.member]]\nbackend = \"s2\"\nport = 8080\nweight = 3",
        "  [[service.member]]\n  backend = \"s2\"\n  port = 8080\n  weight = 3",
    );
    let edited = edit::apply(&text, &edit(add("s3", &["192.0.2.13"], &["web"]))).unwrap();
    assert_eq!(edited.matches("\n\n  [[service.member]]\n  backend = \"s3\"\n").count(), 1, "{edited}");
}

#[rstest]
#[case(remove("s1", Some("web6")), ErrorCode::Config, "backend s1 is the last member of service web6")]
#[case(remove("s1", None), ErrorCode::Config, "backend s1 is the last member of service web6")]
#[case(remove("s9", None), ErrorCode::NotFound, "there is no backend s9")]
#[case(remove("s2", Some("web6")), ErrorCode::NotFound, "backend s2 is not a member of service web6")]
#[case(set("s1", Some("mail"), Some(1)), ErrorCode::NotFound, "there is no service mail")]
#[case(set("s1", None, None), ErrorCode::Usage, "nothing is to be set on backend s1")]
#[case(add("s3", &[], &["web"]), ErrorCode::Usage, "backend s3 is new and has no address")]
#[case(add("s3", &["192.0.2.13"], &[]), ErrorCode::Usage, "no service is named that backend s3 is to join")]
#[case(add("s3", &["192.0.2.13"], &["web", "web"]), ErrorCode::Usage, "service web is named twice")]
#[case(add("s1", &[], &["web"]), ErrorCode::Usage, "backend s1 is already a member of service web")]
#[case(add("s2", &["192.0.2.13"], &["web6"]), ErrorCode::Usage, "backend s2 exists, and 192.0.2.13 is not its address")]
#[case(
    add("s3", &["192.0.2.13", "192.0.2.14"], &["web"]),
    ErrorCode::Usage,
    "a backend has one address of each family, not both 192.0.2.13 and 192.0.2.14"
)]
#[case(
    add("s3", &["192.0.2.12"], &["web"]),
    ErrorCode::Config,
    "the configuration would be wrong after this edit:\nafter the edit:21:8: backend.s3.ipv4 = \"192.0.2.12\": another \
     backend has this address (line 17); a server is one backend; list it once and make it a member of several services"
)]
fn edit_that_cannot_be_is_refused_with_its_class(
    #[case] request: serde_json::Value,
    #[case] code: ErrorCode,
    #[case] message: &str,
) {
    let error = ControlError::from(edit::apply(GOOD, &edit(request)).unwrap_err());
    assert_eq!((error.code, error.message.as_str()), (code, message));
}

#[test]
fn edit_of_a_wrong_file_is_refused() {
    let error = edit::apply("x = 1", &edit(remove("s1", None))).unwrap_err();
    assert!(matches!(error, edit::EditError::Before(_)));
}
