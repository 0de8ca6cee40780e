//! The command line: one file for each verb, and what they share: global flags, exit codes, output.
//!
//! Verbs own no logic of the balancer: they ask the daemon, or read the file, and print. Exit codes are those of
//! sysexits.h, by [`ErrorCode`](crate::control::daemon::ErrorCode).

mod alerts;
mod backend;
mod completions;
mod config;
mod doctor;
mod down;
mod flows;
mod lease;
mod output;
mod plain;
mod reload;
mod run;
mod service;
mod stats;
mod status;
mod table;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::output::{Colour, Format, Output};
use crate::config::{PathKey, path_in, text_of};
use crate::control::client::Client;
use crate::control::daemon::{ControlError, ErrorCode};

/// Where the configuration is, unless told otherwise.
pub const CONFIG: &str = "/etc/rollcall/rollcall.toml";

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   doctor found something that will not work, or a route did not take a test alert
  64  the command makes no sense
  66  no such service or backend
  69  the daemon is not running
  71  the kernel or the system refused
  75  the file changed meanwhile, or something else edits it
  77  no permission: groups rollcall (read) and rollcall-admin (change)
  78  the configuration is wrong, or would be";

const EXAMPLES: &str = "\
Examples:
  rollcall config check rollcall.toml    is this file right?
  rollcall doctor                        will it work on this host?
  rollcall status                        who is in rotation, and who is not, and why
  rollcall stats --watch                 rates, every second, until Ctrl-C
  rollcall backend set web-02 --weight 3
  rollcall status --output json | jq '.services[].backends[] | select(.in_rotation | not)'";

const RUN_HELP: &str = "\
SIGHUP reads the file again. SIGTERM and Ctrl-C stop the daemon; program and flows stay, and the next daemon adopts \
them. To take them away, use `rollcall down`.";

const STATUS_HELP: &str = "\
The first line is the verdict. Exits 0 whatever it says, as long as the daemon answers; scripts look into \
`--output json`.";

/// An XDP layer-4 load balancer that always knows where every server is.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Global {
    /// The configuration file.
    #[arg(long, global = true, env = "ROLLCALL_CONFIG", value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The daemon's socket. Default: `control.socket` of the configuration, also if the rest of it is wrong.
    #[arg(long, global = true, env = "ROLLCALL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// What reading verbs print.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Whether to colour. NO_COLOR is honoured.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Colour,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon in the foreground; it logs to standard error (RUST_LOG sets how much).
    #[command(after_help = RUN_HELP)]
    Run,
    /// The roll call: every backend, in rotation or with the reason why not.
    #[command(after_help = STATUS_HELP)]
    Status,
    /// Alerts that fire, since when, and whom they went to; or a test of the routes.
    Alerts(alerts::Args),
    /// Look at backends, or change them: in the running state and in the file.
    #[command(subcommand)]
    Backend(backend::Verb),
    /// Look at services.
    #[command(subcommand)]
    Service(service::Verb),
    /// Packets, bytes and flows; as rates with --watch.
    Stats(stats::Args),
    /// Flows that match.
    Flows(flows::Args),
    /// Check a file, or show what runs.
    #[command(subcommand)]
    Config(config::Verb),
    /// Read the file again and apply it. A bad file changes nothing.
    Reload,
    /// Take the data plane down: detach the program, end every connection through this host, stop the daemon.
    Down(down::Args),
    /// Will it work here? Each check with evidence, reason and mend.
    #[command(after_help = doctor::HELP)]
    Doctor,
    /// Completions for a shell, to standard output.
    Completions(completions::Args),
}

/// What every verb gets.
struct Context {
    config: PathBuf,
    client: Client,
    output: Output,
}

type Outcome = Result<ExitCode, ControlError>;

/// Parses the command line, runs the verb, prints an error if there is one.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors to clap's exit code; printing can only fail where nobody reads.
            let _ = e.print();
            return if e.exit_code() == 0 { ExitCode::SUCCESS } else { ErrorCode::Usage.exit_code().into() };
        }
    };
    let colour = cli.global.color;
    dispatch(cli).unwrap_or_else(|e| {
        output::print_error(&e, colour);
        e.code.exit_code().into()
    })
}

fn dispatch(cli: Cli) -> Outcome {
    let Cli { global, verb } = cli;
    let socket = global.socket.unwrap_or_else(|| socket_of(&global.config));
    let context = Context {
        client: Client::new(socket),
        output: Output::new(global.output, global.color),
        config: global.config,
    };
    // A verb that asks and prints needs one thread; the daemon's readers must not wait for its writes.
    let mut runtime = match verb {
        Verb::Run => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|e| ControlError::new(ErrorCode::System, format!("cannot start the runtime: {e}")))?;
    runtime.block_on(async {
        match verb {
            Verb::Run => run::run(&context).await,
            Verb::Status => status::run(&context).await,
            Verb::Alerts(args) => alerts::run(&context, args).await,
            Verb::Backend(verb) => backend::run(&context, verb).await,
            Verb::Service(verb) => service::run(&context, verb).await,
            Verb::Stats(args) => stats::run(&context, args).await,
            Verb::Flows(args) => flows::run(&context, args).await,
            Verb::Config(verb) => config::run(&context, verb).await,
            Verb::Reload => reload::run(&context).await,
            Verb::Down(args) => down::run(&context, args).await,
            Verb::Doctor => doctor::run(&context).await,
            Verb::Completions(args) => completions::run(&context, &args),
        }
    })
}

/// While the daemon runs, the file may be wrong by now: then what its text still says; or unreadable for this user: then
/// the default.
fn socket_of(file: &Path) -> PathBuf {
    crate::config::load(file).map_or_else(
        |_| path_in(&text_of(file).unwrap_or_default(), PathKey::Socket),
        |loaded| loaded.config.control.socket,
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use rstest::rstest;

    use super::*;

    #[test]
    fn command_line_definition_holds_claps_own_assertions() {
        Cli::command().debug_assert();
    }

    #[rstest]
    #[case::no_verb(&[])]
    #[case::unknown_verb(&["fly"])]
    #[case::set_without_change(&["backend", "set", "web-01"])]
    #[case::weight_zero(&["backend", "set", "web-01", "--weight", "0"])]
    #[case::port_zero(&["backend", "set", "web-01", "--port", "0"])]
    #[case::name_with_space(&["backend", "show", "a b"])]
    #[case::add_without_service(&["backend", "add", "web-01", "--address", "10.0.0.1"])]
    #[case::limit_zero(&["flows", "--limit", "0"])]
    #[case::unknown_phase(&["flows", "--phase", "asleep"])]
    #[case::watch_every_nothing(&["stats", "--watch", "0"])]
    #[case::test_of_a_route_without_a_name(&["alerts", "test", "--route", ""])]
    #[case::output_format(&["status", "--output", "yaml"])]
    fn nonsense_on_the_command_line_is_refused(#[case] args: &[&str]) {
        let error = Cli::try_parse_from(["rollcall"].iter().chain(args)).unwrap_err();
        assert_ne!(error.exit_code(), 0, "{error}");
    }

    #[test]
    fn socket_of_a_file_that_does_not_parse_is_still_the_one_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rollcall.toml");
        std::fs::write(&file, "[control]\nsocket = \"/srv/control.sock\"\n[[service]\n").unwrap();
        assert_eq!(socket_of(&file), Path::new("/srv/control.sock"));
        assert_eq!(socket_of(&dir.path().join("none")), Path::new(crate::config::defaults::SOCKET));
    }

    #[test]
    fn help_documents_every_exit_code() {
        let help = Cli::command().render_help().to_string();
        for code in [
            ErrorCode::Usage,
            ErrorCode::Config,
            ErrorCode::Permission,
            ErrorCode::NotFound,
            ErrorCode::Conflict,
            ErrorCode::System,
            ErrorCode::Unavailable,
        ] {
            let line = format!("  {}  ", code.exit_code());
            assert!(help.lines().any(|l| l.starts_with(&line)), "{code:?} is not in\n{help}");
        }
    }
}
