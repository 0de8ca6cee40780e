//! The command line: one file for each verb, and what they share: global flags, exit codes, output.
//!
//! Verbs own no logic of the balancer: they ask the daemon, or read the file, and print. Exit codes are those of
//! sysexits.h, by [`ErrorCode`](crate::control::daemon::ErrorCode).

mod agent;
mod alert;
mod audit;
mod backend;
mod check;
mod completions;
mod config;
mod consent;
mod doctor;
mod down;
mod events;
mod flows;
mod frozen;
mod lease;
mod output;
mod plain;
mod reload;
mod report;
mod risk;
mod run;
mod service;
mod source;
mod stats;
mod status;
mod table;
mod trace;
mod watch;
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
  1   doctor found something that will not work, audit something that differs, or a route did not take a test alert
  64  the command makes no sense
  66  no such service, backend, lease or alert
  69  the daemon is not running; status, stats, flows and the lists then show what it left
  71  the kernel or the system refused
  75  the file changed meanwhile, something else edits it, or another daemon runs; or too few would be
      left in rotation (a single one without --yes)
  77  no permission: groups rollcall (read) and rollcall-admin (change)
  78  the configuration is wrong, or would be
check and watch have codes of their own: see their help";

const EXAMPLES: &str = "\
Examples:
  rollcall config check rollcall.toml    is this file right?
  rollcall doctor                        will it work on this host?
  rollcall status                        who is in rotation, and who is not, and why
  rollcall stats --watch                 rates, every second, until Ctrl-C
  rollcall backend set web-02 --weight 3
  rollcall backend drain web-02 --for 30m --reason 'kernel test'
  rollcall events --follow               what happens, as it happens
  rollcall report --since 2h             the facts for a post-mortem
  rollcall status --output json | jq '.services[].backends[] | select(.in_rotation | not)'";

const RUN_HELP: &str = "\
SIGHUP reads the file again. SIGTERM and Ctrl-C stop the daemon; program and flows stay, and the next daemon adopts \
them. To take them away, use `rollcall down`.";

const STATUS_HELP: &str = "\
The first line is the verdict. Exits 0 whatever it says, as long as the daemon answers; monitors use `rollcall check`, \
scripts look into `--output json`. Where no daemon runs it shows what that left in the kernel and in state.db, begins with \
DAEMON DOWN (`daemon.running` is false), and exits 69; that needs root.";

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
    /// Tell the balancer how much memory this host has left. Runs on backends, without any privilege.
    #[command(after_help = agent::HELP)]
    Agent(agent::Args),
    /// The roll call: every backend, in rotation or with the reason why not.
    #[command(after_help = STATUS_HELP)]
    Status,
    /// The verdict for monitors: one line with performance data, and their exit codes.
    #[command(after_help = check::HELP)]
    Check,
    /// For a timer beside the daemon: is it there? If not, says so in the journal and exits 2.
    #[command(after_help = watch::HELP)]
    Watch,
    /// Compare maps, pins, program, tables, addresses and flow counts with what was decided.
    #[command(after_help = audit::HELP)]
    Audit(audit::Args),
    /// Alerts that fire, since when, whom they went to, and who works on them; or a test of the routes.
    #[command(visible_alias = "alerts", after_help = alert::HELP)]
    Alert(alert::Args),
    /// To live without N-1 for a time: accept that, list what is accepted, withdraw it.
    #[command(subcommand)]
    Risk(risk::Verb),
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
    /// What the program does with one packet, and why, tried on a copy of the maps as they are now.
    #[command(after_help = trace::HELP)]
    Trace(trace::Args),
    /// What happened: the journal's events.
    Events(events::Args),
    /// The factual part of a post-mortem, as Markdown.
    Report(report::Args),
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
            Verb::Agent(args) => agent::run(args).await,
            Verb::Status => status::run(&context).await,
            Verb::Check => check::run(&context).await,
            Verb::Watch => watch::run(&context).await,
            Verb::Audit(args) => audit::run(&context, args).await,
            Verb::Risk(verb) => risk::run(&context, verb).await,
            Verb::Alert(args) => alert::run(&context, args).await,
            Verb::Backend(verb) => backend::run(&context, verb).await,
            Verb::Service(verb) => service::run(&context, verb).await,
            Verb::Stats(args) => stats::run(&context, args).await,
            Verb::Flows(args) => flows::run(&context, args).await,
            Verb::Trace(args) => trace::run(&context, args).await,
            Verb::Events(args) => events::run(&context, args).await,
            Verb::Report(args) => report::run(&context, args).await,
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
    #[case::agent_port(&["agent", "--listen", "127.0.0.1"])]
    #[case::agent_prefix(&["agent", "--allow", "10.0.0.0/33"])]
    #[case::report_without_begin(&["report"])]
    #[case::events_since_nothing(&["events", "--since", "yesterday"])]
    #[case::follow_until(&["events", "--follow", "--until", "1h"])]
    #[case::test_of_a_route_without_a_name(&["alert", "test", ""])]
    #[case::acknowledgement_of_nothing(&["alert", "ack"])]
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
