//! Tasks.
mod vm;

use clap::Parser as _;

#[derive(clap::Parser)]
enum Task {
    /// Boot other kernels
    Vm(vm::Vm),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Vm(args) => vm::run(&args),
    }
}
