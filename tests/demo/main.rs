//! The demo: the real daemon between real clients and real servers, one of which dies under load and comes back.
//!
//! Shows progress on standard error and the report on standard output. Normally run by `cargo xtask demo`.

mod datagrams;
mod play;
mod report;
mod show;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use lb_tests::testbed::interrupt;
use lb_tests::testbed::scratch;

/// Options of the demo.
#[derive(Parser)]
struct Arguments {
    /// How the report is printed
    #[arg(long, default_value = "table")]
    output: Format,
    /// Leave everything running at the end
    #[arg(long)]
    keep: bool,
    /// Remove what earlier demos left; one that still runs is left alone
    #[arg(long)]
    clean: bool,
    /// Length of each steady part
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What the demo starts itself as, so that it outlives the demo under `--keep`.
#[derive(clap::Subcommand)]
enum Role {
    /// A UDP server that answers with its name
    #[command(hide = true)]
    UdpEcho {
        /// The name
        name: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What can go wrong here says so in a sentence; where in the code it was noticed helps nobody.
    std::panic::set_hook(Box::new(|panic| eprintln!("the demo failed: {}", panic.payload_as_str().unwrap_or("?"))));
    if let Some(Role::UdpEcho { name }) = &arguments.role {
        datagrams::serve(name);
    }
    if arguments.clean {
        scratch::clean("demo", stage::PREFIX);
        return ExitCode::SUCCESS;
    }
    interrupt::watch();
    let Ok(report) = play::run(Duration::from_secs(arguments.seconds), arguments.keep) else {
        eprintln!("interrupted; everything was removed");
        return ExitCode::FAILURE;
    };
    match arguments.output {
        Format::Table => print!("{}", report.table()),
        Format::Json => println!("{:#}", report.json()),
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
