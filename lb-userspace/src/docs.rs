//! The pages in `docs/` against the repository: what they name is there, and what is there they name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config;
use crate::control::{metrics, testing};

/// The repository. Asked when the test runs: what a build once wrote down is another's if the target folder was moved.
pub(crate) fn root() -> PathBuf {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"));
    package.parent().expect("the package is a folder of the workspace").to_owned()
}

fn page(name: &str) -> String {
    let path = root().join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Folders in `dir` that belong to the repository, each ending in `/`.
fn folders(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name != "target" && name != ".git").map(|name| format!("{name}/")).collect()
}

/// Texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first cells of the rows of all tables, without the heads.
fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |")).map(|(cell, _)| cell)
}

#[test]
fn architecture_names_every_folder_of_repository_and_user_space() {
    let page = page("architecture.md");
    let named: BTreeSet<&str> = first_cells(&page).flat_map(quoted).collect();
    let source = root().join("lb-userspace/src");
    let sources = folders(&source).into_iter().map(|folder| format!("lb-userspace/src/{folder}"));
    // Its folders are listed one by one.
    let top = folders(&root()).into_iter().filter(|folder| folder != "lb-userspace/");
    let unnamed: Vec<String> = top.chain(sources).filter(|folder| !named.contains(folder.as_str())).collect();
    assert!(unnamed.is_empty(), "docs/architecture.md does not say what these own: {unnamed:?}");
}

#[test]
fn architecture_names_only_what_exists() {
    let page = page("architecture.md");
    // A path has a slash; one relative to the user space's sources may be shortened.
    let is_path = |text: &&str| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
        text.contains('/') && plain && !text.starts_with('/')
    };
    let paths: Vec<&str> = quoted(&page).filter(is_path).collect();
    assert!(paths.len() > 15, "paths are not recognised any more: {paths:?}");
    let bases = [root(), root().join("lb-userspace/src"), root().join("lb-userspace/src/io")];
    let missing: Vec<&&str> = paths.iter().filter(|path| !bases.iter().any(|base| base.join(path).exists())).collect();
    assert!(missing.is_empty(), "docs/architecture.md names what does not exist: {missing:?}");
}

#[test]
fn metrics_documented_are_the_metrics_exported() {
    let page = page("metrics.md");
    let documented: BTreeSet<&str> =
        first_cells(&page).flat_map(quoted).filter(|name| name.starts_with("rollcall_")).collect();
    let text = metrics::render(&testing::view(), &testing::counters(), &testing::board());
    let exported: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(documented, exported, "docs/metrics.md (left) and control::metrics (right)");
}

#[test]
fn metrics_page_explains_every_reason_of_a_verdict() {
    let page = page("metrics.md");
    let documented: BTreeSet<&str> =
        first_cells(&page).flat_map(quoted).filter(|n| !n.starts_with("rollcall_")).collect();
    let reasons: BTreeSet<&str> = lb_common::abi::Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(documented, reasons, "docs/metrics.md (left) and lb_common::abi::Reason (right)");
}

#[test]
fn operations_page_explains_every_kind_of_event() {
    let page = page("operations.md");
    let (_, table) = page.split_once("| event | means |").expect("the table is there");
    let (table, _) = table.split_once("\n\n").expect("something follows");
    let documented: BTreeSet<&str> = first_cells(table).flat_map(quoted).collect();
    // What is no kind is refused with the list of those that are.
    let refused = serde_json::from_str::<crate::core::api::EventKind>("\"\"").unwrap_err().to_string();
    let (_, kinds) = refused.split_once("expected one of").expect("serde lists them");
    let kinds: BTreeSet<&str> = quoted(kinds).collect();
    assert!(kinds.len() > 20, "{refused}");
    assert_eq!(documented, kinds, "docs/operations.md (left) and core::api::EventKind (right)");
}

#[test]
fn playbook_has_one_entry_for_each_condition_with_all_its_parts() {
    let page = page("playbook.md");
    let entries: Vec<&str> = page.split("\n## ").skip(1).collect();
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry.lines().next()).collect();
    let kinds: Vec<&str> = crate::alert::Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names, kinds, "docs/playbook.md (left) and alert::Kind (right), in its order");
    for (entry, kind) in entries.iter().zip(crate::alert::Kind::ALL) {
        let severity = format!("*{}*", kind.severity().name());
        for part in [severity.as_str(), "**Means.**", "**Look at.**", "**Do.**"] {
            assert!(entry.contains(part), "docs/playbook.md, {}: no {part}", kind.name());
        }
    }
}

#[test]
fn example_files_in_the_pages_are_valid() {
    for name in ["../README.md", "configuration.md", "operations.md"] {
        let page = page(name);
        let examples: Vec<&str> =
            page.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
        assert!(!examples.is_empty(), "{name} has no example any more");
        for example in examples {
            config::parse(example, Path::new(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}
