//! Rollcall's tasks: `cargo xtask <verb>`. One file for each verb; what several verbs share is in `sys` and `workspace`.
//!
//! Depends on no other crate of the workspace, so that it builds on a machine that cannot build those yet.

mod bench;
mod build_ebpf;
mod demo;
mod drill;
mod lint_ebpf;
mod mutate;
mod setup;
mod sys;
mod tally;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Rollcall's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Bring this machine to where everything builds and tests; installs only what is missing
    Setup(setup::Arguments),
    /// Build the eBPF object and say what is in it
    BuildEbpf,
    /// Run clippy on the eBPF program, which is built for another target than the workspace
    LintEbpf,
    /// Show a balancer at work: real daemon, real servers, real clients, one killed server
    Demo(demo::Arguments),
    /// Replay the outage that Rollcall exists for, behind a plain balancer and behind Rollcall
    Drill(drill::Arguments),
    /// Run the tests
    Test(test::Arguments),
    /// Measure the program
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Break the core on purpose, one way after another, and look whether a test notices
    Mutate(mutate::Arguments),
    /// Boot other kernels
    Vm(vm::Vm),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::BuildEbpf => build_ebpf::run(),
        Task::LintEbpf => lint_ebpf::run(),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Drill(arguments) => drill::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(what) => bench::run(&what),
        Task::Mutate(arguments) => mutate::run(&arguments),
        Task::Vm(arguments) => vm::run(&arguments).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
