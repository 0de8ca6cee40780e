//! The example file and the reference in `docs/configuration.md` say what the code does.

use std::fmt::Write;

use super::super::default_text;
use super::super::keys::{Absent, KEYS, Scope};
use super::parse;

const BEGIN: &str = "<!-- begin reference, generated: UPDATE_DOCS=1 cargo test -p lb-userspace docs -->\n";
const END: &str = "<!-- end reference -->\n";

/// The reference section: one table for each table of the file.
fn reference() -> String {
    let mut out = String::new();
    for scope in Scope::ALL {
        let title = if scope == Scope::Root { "Top level".into() } else { format!("`{}`", scope.header()) };
        write!(out, "\n### {title}\n\n{}\n\n", scope.doc()).unwrap();
        out.push_str("| key | type and range | default | meaning | example |\n|---|---|---|---|---|\n");
        for key in scope.keys() {
            let default = match key.absent {
                Absent::Refused => "must be given".into(),
                Absent::Default(default) => format!("`{default}`"),
                Absent::Means(words) => words.into(),
            };
            writeln!(out, "| `{}` | {} | {default} | {} | `{}` |", key.name, key.kind, key.doc, key.example).unwrap();
        }
    }
    out.push('\n');
    out
}

#[test]
fn docs_reference_is_what_the_table_of_keys_yields() {
    let path = crate::docs::root().join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).expect("docs/configuration.md exists");
    let (head, rest) = page.split_once(BEGIN).expect("docs/configuration.md has the mark where the reference begins");
    let (found, tail) = rest.split_once(END).expect("docs/configuration.md has the mark where the reference ends");
    let wanted = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap();
        return;
    }
    assert!(found == wanted, "docs/configuration.md is stale; run: UPDATE_DOCS=1 cargo test -p lb-userspace docs");
}

#[test]
fn docs_examples_are_valid_configurations() {
    let path = crate::docs::root().join("docs/configuration.md");
    let page = std::fs::read_to_string(path).expect("docs/configuration.md exists");
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        parse(block).unwrap();
    }
}

#[test]
fn default_text_as_it_is_says_the_same_as_an_empty_file() {
    assert_eq!(parse(&default_text()).unwrap(), parse("").unwrap());
}

#[test]
fn default_text_with_examples_uncommented_is_valid_and_holds_every_key() {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = default_text().lines().map(uncomment).collect();
    // A service needs an interface and a source address; these examples stand beside the empty defaults.
    let text =
        text.replace("interfaces = []", "interfaces = [\"eth0\"]").replace("ipv4 = []", "ipv4 = [\"192.0.2.2\"]");
    // Keys of a route or a service that are for another type or algorithm than the example's.
    let others = ["to", "command", "user", "affinity_timeout"];
    let one = |line: &&str| !others.iter().any(|key| line.starts_with(&format!("{key} = ")));
    let whole: String = text.lines().filter(one).map(|line| format!("{line}\n")).collect();
    let config = parse(&whole).unwrap_or_else(|errors| panic!("{errors}\n{whole}"));
    assert_eq!((config.services.len(), config.alert_routes.len()), (1, 1));
    for key in KEYS {
        assert!(text.lines().any(|line| line.starts_with(&format!("{} = ", key.name))), "{} is missing", key.name);
    }
}

#[test]
fn every_key_has_an_example_of_its_own_type() {
    for key in KEYS {
        let text = format!("{} = {}", key.name, key.example);
        toml::de::DeTable::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}
