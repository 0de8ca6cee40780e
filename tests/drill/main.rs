//! The drill: the outage that Rollcall exists for, replayed with real servers whose memory really fills, once behind a plain
//! balancer and once behind Rollcall, on one clock and under the same load.
//!
//! Says what happens on standard error and prints the page on standard output. Normally run by `cargo xtask drill`.

mod app;
mod curtain;
mod events;
mod model;
mod narrator;
mod outcome;
mod page;
mod play;
mod stage;
mod story;
mod trainee;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use lb_tests::testbed::interrupt;
use lb_tests::testbed::scratch;

use crate::story::{Kind, Pace};

/// Options of the drill.
#[derive(Parser)]
struct Arguments {
    /// How the page is printed
    #[arg(long, default_value = "table")]
    output: Format,
    /// Which stories are told
    #[arg(long, default_value = "all")]
    story: Stories,
    /// Act yourself, in this terminal
    #[arg(long)]
    interactive: bool,
    /// As fast as the balancer's own times allow
    #[arg(long)]
    quick: bool,
    /// Remove what earlier drills left; one that still runs is left alone
    #[arg(long)]
    clean: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What the drill starts itself as.
#[derive(clap::Subcommand)]
enum Role {
    /// An application server that answers with its name
    #[command(hide = true)]
    Serve {
        /// The name
        name: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stories {
    /// The plain balancer, and both of Rollcall's
    All,
    /// The plain balancer alone
    Plain,
    /// Rollcall's, where web-01's memory calls web-02 back
    Recall,
    /// Rollcall's, where the end of the lease brings web-02 back
    LeaseEnd,
}

impl Stories {
    fn kinds(self, interactive: bool) -> Vec<Kind> {
        match self {
            Self::All if interactive => vec![Kind::Plain, Kind::Recall],
            Self::All => vec![Kind::Plain, Kind::Recall, Kind::LeaseEnd],
            Self::Plain => vec![Kind::Plain],
            Self::Recall => vec![Kind::Recall],
            Self::LeaseEnd => vec![Kind::LeaseEnd],
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What can go wrong here says so in a sentence. One story that fails ends the others, too.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("the drill failed: {}", panic.payload_as_str().unwrap_or("?"));
        interrupt::raise();
    }));
    if let Some(Role::Serve { name }) = &arguments.role {
        app::serve(name);
    }
    if arguments.clean {
        scratch::clean("drill", stage::PREFIX);
        return ExitCode::SUCCESS;
    }
    interrupt::watch();
    let pace = match arguments {
        Arguments { quick: true, .. } => Pace::QUICK,
        Arguments { interactive: true, .. } => Pace::TRAINING,
        _ => Pace::SHOW,
    };
    let Ok(page) = play::run(&arguments.story.kinds(arguments.interactive), pace, arguments.interactive) else {
        eprintln!("interrupted; everything was removed");
        return ExitCode::FAILURE;
    };
    match arguments.output {
        Format::Table => print!("{}", page.text()),
        Format::Json => println!("{:#}", page.json()),
    }
    if page.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
