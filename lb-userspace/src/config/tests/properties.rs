//! Properties over arbitrary text and arbitrary edits.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use proptest::prelude::*;

use super::super::model::{BackendName, ServiceName};
use super::super::{diff, edit};
use super::{GOOD, parse};
use crate::control::daemon::Edit;
use crate::core::capacity::Consent;

fn backend() -> impl Strategy<Value = BackendName> {
    prop::sample::select(vec!["s1", "s2", "s3", "s4"]).prop_map(|name| BackendName::new(name).unwrap())
}

fn service() -> impl Strategy<Value = ServiceName> {
    prop::sample::select(vec!["web", "web6", "none"]).prop_map(|name| ServiceName::new(name).unwrap())
}

fn number() -> impl Strategy<Value = Option<NonZeroU16>> {
    any::<Option<NonZeroU16>>()
}

fn edits() -> impl Strategy<Value = Edit> {
    let address = (20u8..40).prop_map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
    let owner = prop::option::of("[a-z\"\\\\# ]{1,8}");
    let add = (
        backend(),
        prop::collection::vec(address, 0..3),
        owner.clone(),
        prop::collection::vec(service(), 0..3),
        number(),
        number(),
    )
        .prop_map(|(name, addresses, owner, services, port, weight)| Edit::AddBackend {
            name,
            addresses,
            owner,
            services,
            port,
            weight,
        });
    let remove = (backend(), prop::option::of(service())).prop_map(|(name, service)| Edit::RemoveBackend {
        name,
        service,
        decommission: None,
        consent: Consent::default(),
    });
    let set = (backend(), prop::option::of(service()), number(), number(), owner).prop_map(
        |(name, service, weight, port, owner)| Edit::SetBackend {
            name,
            service,
            weight,
            port,
            owner,
            consent: Consent::default(),
        },
    );
    prop_oneof![add, remove, set]
}

/// The same file with members and backends in inline notation.
const INLINE: &str = r#"
backend = [
  { name = "s1", ipv4 = "192.0.2.11", ipv6 = "2001:db8::11" }, # the old one
  # The new one.
  { name = "s2", ipv4 = "192.0.2.12" },
  # No more.
]
[edge]
interfaces = ["eth0"]
[source_pool]
ipv4 = ["192.0.2.2"]
ipv6 = ["2001:db8::2"]
[[service]]
name = "web"
vip = "192.0.2.80"
port = 80
member = [{ backend = "s1" }, { backend = "s2", port = 8080, weight = 3 }]
[[service]]
name = "web6"
vip = "2001:db8::80"
port = 80
member = [
  # Only one.
  { backend = "s1" }
]
"#;

fn comments(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| line.starts_with('#')).collect()
}

proptest! {
    #[test]
    fn parse_of_any_text_does_not_panic(text: String) {
        let _ = parse(&text);
    }

    #[test]
    fn parse_of_a_damaged_file_does_not_panic(at in 0..GOOD.len(), cut in 0usize..40, insert in ".{0,6}") {
        let end = (at + cut).min(GOOD.len());
        let _ = parse(&format!("{}{insert}{}", &GOOD[..at], &GOOD[end..]));
    }

    #[test]
    fn parse_of_any_value_of_any_key_does_not_panic(
        line in 0..GOOD.lines().count(),
        value in prop_oneof!["[-0-9_x.]{1,20}", "\"[ -~]{0,20}\"", "\\[[0-9\", -]{0,9}\\]", "\\{ ?\\}", Just("1979-05-27".to_owned())],
    ) {
        let lines = GOOD.lines().enumerate().map(|(i, l)| match l.split_once(" = ") {
            Some((key, _)) if i == line => format!("{key} = {value}\n"),
            _ => format!("{l}\n"),
        });
        let _ = parse(&lines.collect::<String>());
    }

    // `apply` itself refuses a text that says anything but the model's edit, as a layout error: so that is what must
    // not come out here, and every comment line must survive.
    #[test]
    fn edits_in_a_row_are_what_the_model_says_and_keep_comment_lines(
        inline: bool,
        crlf: bool,
        edits in prop::collection::vec(edits(), 1..8),
    ) {
        let mut text = if inline { INLINE } else { GOOD }.to_owned();
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        for edit in &edits {
            match edit::apply(&text, edit) {
                Ok(edited) => {
                    for comment in comments(&text) {
                        prop_assert!(comments(&edited).contains(&comment), "{comment} is lost by {edit:?}:\n{edited}");
                    }
                    prop_assert_eq!(edited.contains("\r\n"), crlf);
                    text = edited;
                }
                Err(edit::EditError::Layout(why)) => prop_assert!(false, "{why}: {edit:?}\n{text}"),
                Err(edit::EditError::Before(errors)) => prop_assert!(false, "{errors}"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn describe_is_empty_exactly_if_nothing_changed(edits in prop::collection::vec(edits(), 0..4)) {
        let mut text = GOOD.to_owned();
        for edit in &edits {
            if let Ok(edited) = edit::apply(&text, edit) {
                text = edited;
            }
        }
        let (old, new) = (parse(GOOD).unwrap(), parse(&text).unwrap());
        prop_assert_eq!(diff::describe(&old, &new).is_empty(), old == new);
    }
}
