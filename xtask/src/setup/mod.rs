//! `cargo xtask setup`: what building and testing need, each checked first and installed only if missing.
//!
//! Progress goes to standard error, so that a verb's own output stays clean.

mod linker;
mod packages;
pub mod rust;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Options of `setup`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only report; exit code 1 if something is missing
    #[arg(long)]
    check: bool,
}

/// One thing that the machine must have.
struct Need {
    /// What it is.
    name: String,
    /// What it is for.
    purpose: &'static str,
    /// What is there, or what is missing.
    found: fn() -> Result<String, String>,
    /// Brings it.
    bring: fn() -> Result<()>,
    /// Whether building, testing and the demo work without it.
    optional: bool,
}

fn needs() -> Vec<Need> {
    let mut needs = rust::needs();
    needs.push(linker::need());
    needs.push(packages::need());
    needs
}

/// Checks, and installs unless only asked to check.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let missing = if arguments.check { check() } else { install(true)? };
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What other verbs do first: nothing and no word if nothing is missing.
pub fn ensure() -> Result<()> {
    install(false).map(drop)
}

fn check() -> usize {
    let mut missing = 0;
    for need in needs() {
        match (need.found)() {
            Ok(found) => say("ok", &need, &found),
            Err(lack) => {
                say(if need.optional { "optional" } else { "missing" }, &need, &lack);
                missing += usize::from(!need.optional);
            }
        }
    }
    missing
}

fn install(talkative: bool) -> Result<usize> {
    for need in needs() {
        match (need.found)() {
            Ok(found) if talkative => say("ok", &need, &found),
            Ok(_) => {}
            Err(lack) => {
                say("install", &need, &lack);
                let brought = (need.bring)().and_then(|()| (need.found)().map_err(anyhow::Error::msg));
                match brought {
                    Ok(found) => say("ok", &need, &found),
                    Err(error) if need.optional => eprintln!("[optional] {}: {error:#}", need.name),
                    Err(error) => bail!("{} ({}): {error:#}", need.name, need.purpose),
                }
            }
        }
    }
    Ok(0)
}

fn say(state: &str, need: &Need, what: &str) {
    eprintln!("[{state}] {} ({}): {what}", need.name, need.purpose);
}
