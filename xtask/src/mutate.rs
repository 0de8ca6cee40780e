//! `cargo xtask mutate`: breaks the core on purpose, one way after another, and looks whether a test notices.
//!
//! The ways are listed in `tests/mutations.toml`. They are made in a copy of the sources under the target folder, so that a
//! run that is cut short leaves nothing broken behind. A mutation is caught by a failing test, not by the compiler. It needs
//! cargo-nextest, which ends a run at the first failure: to run the others to their end is most of the time.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::sys;
use crate::workspace;

/// The list.
const LIST: &str = "tests/mutations.toml";

/// Options of `mutate`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only mutations whose description contains this
    only: Option<String>,
    /// Random stories that the simulation plays for each
    #[arg(long, default_value_t = 64)]
    seeds: u32,
}

/// `tests/mutations.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutation: Vec<Mutation>,
}

/// One way of breaking the core.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    /// What is broken, in words.
    what: String,
    /// Below `lb-userspace/src/core`.
    file: String,
    /// Text that occurs there once.
    find: String,
    /// What it becomes.
    replace: String,
}

impl Mutation {
    fn path(&self) -> PathBuf {
        Path::new("lb-userspace/src/core").join(&self.file)
    }

    /// The file as it is, and mutated.
    fn make(&self, root: &Path) -> Result<(String, String)> {
        let path = self.path();
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| format!("{}", path.display()))?;
        let found = text.matches(&self.find).count();
        let (what, path) = (&self.what, path.display());
        ensure!(found == 1, "{LIST}: {what}: its `find` occurs {found} times in {path}, not once: bring it up to date");
        Ok((text.clone(), text.replace(&self.find, &self.replace)))
    }
}

fn list() -> Result<Vec<Mutation>> {
    let text = std::fs::read_to_string(workspace::root().join(LIST)).context(LIST)?;
    Ok(toml::from_str::<List>(&text).context(LIST)?.mutation)
}

/// What became of the tests.
enum Outcome {
    Passed,
    /// The first failed test.
    Failed(String),
}

/// Tries the mutations and prints who caught each.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let only = |m: &Mutation| arguments.only.as_ref().is_none_or(|text| m.what.contains(text.as_str()));
    let mutations: Vec<_> = list()?.into_iter().filter(only).collect();
    ensure!(!mutations.is_empty(), "no mutation's description contains that; they are in {LIST}");
    let nextest = sys::read(workspace::cargo().args(["nextest", "--version"]));
    ensure!(nextest.is_some(), "cargo-nextest is missing: `cargo install --locked cargo-nextest`");
    let copy = copy()?;
    println!("without mutation ...");
    if let Outcome::Failed(test) = judge(&copy, arguments.seeds)? {
        bail!("{test} fails without any mutation");
    }
    let mut survived = 0;
    for mutation in &mutations {
        let (text, mutated) = mutation.make(&copy)?;
        let path = copy.join(mutation.path());
        std::fs::write(&path, mutated)?;
        let outcome = judge(&copy, arguments.seeds).with_context(|| mutation.what.clone());
        std::fs::write(&path, text)?;
        match outcome? {
            Outcome::Failed(test) => println!("caught    {}: {test}", mutation.what),
            Outcome::Passed => {
                survived += 1;
                println!("SURVIVED  {}", mutation.what);
            }
        }
    }
    println!("{} of {} mutations caught", mutations.len() - survived, mutations.len());
    Ok(if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Copies the workspace's sources, so that the tree itself is never broken.
fn copy() -> Result<PathBuf> {
    let (root, target) = (workspace::root(), workspace::target()?);
    let copy = target.join("mutations");
    let files = sys::read(Command::new("git").current_dir(&root).args(["ls-files", "-co", "--exclude-standard"]))
        .context("`git ls-files` failed: the sources cannot be listed")?;
    for file in files.lines().filter(|file| root.join(file).is_file()) {
        let (from, to) = (root.join(file), copy.join(file));
        // Unchanged files keep their times, so that little is built again.
        if std::fs::read(&from).ok() != std::fs::read(&to).ok() {
            std::fs::create_dir_all(to.parent().unwrap_or(&copy))?;
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy {file}"))?;
        }
    }
    Ok(copy)
}

/// The core's own tests, then the simulation, each up to the first failure.
fn judge(copy: &Path, seeds: u32) -> Result<Outcome> {
    for tests in [["lb-userspace", "--lib", "core::"].as_slice(), &["lb-tests", "--test", "sim"]] {
        let nextest = |last: &[&str]| {
            let mut command = Command::new(workspace::cargo_program());
            command.current_dir(copy).env("CARGO_TARGET_DIR", copy.join(".."));
            command.env_remove("CARGO_MANIFEST_DIR").env("ROLLCALL_SIM_SEEDS", seeds.to_string());
            command.args(["nextest", "run", "--cargo-quiet", "--package"]).args(tests).args(last);
            command
        };
        let built = nextest(&["--no-run"]).output().context("cannot run cargo nextest")?;
        let said = String::from_utf8_lossy(&built.stderr);
        ensure!(built.status.success(), "it does not compile, which proves nothing:\n{said}");
        let output = nextest(&["--max-fail", "1:immediate"]).output().context("cannot run cargo nextest")?;
        if !output.status.success() {
            return Ok(Outcome::Failed(failed(&String::from_utf8_lossy(&output.stderr))));
        }
    }
    Ok(Outcome::Passed)
}

/// The first test that failed, by what nextest printed: `FAIL [   0.012s] (3/9) package core::tests::name`.
fn failed(text: &str) -> String {
    let bad = ["FAIL ", "TIMEOUT ", "ABORT ", "SIGABRT ", "SIGSEGV "];
    let line = text.lines().map(str::trim).find(|line| bad.iter().any(|word| line.starts_with(word)));
    line.and_then(|line| line.split_whitespace().last()).unwrap_or("the run was aborted").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_are_many_and_of_the_code_as_it_is() {
        let mutations = list().expect("the list can be read");
        assert!(mutations.len() >= 20, "{}", mutations.len());
        for mutation in mutations {
            let (text, mutated) = mutation.make(&workspace::root()).expect("it can be made");
            assert_ne!(text, mutated, "{}", mutation.what);
        }
    }
}
