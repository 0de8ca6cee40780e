//! `rollcall config check|show`. `check` needs no daemon: it is the daemon's own parser.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::{Format, Paint, Tone};
use super::{Context, Outcome, words};
use crate::config::{self, ConfigError};
use crate::control::daemon::ErrorCode;
use crate::control::schema::{ConfigCheck, ConfigFile, ConfigProblem};

/// What to do with the configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Look for errors in a file; all are printed, as file:line:column. Changes nothing, needs no daemon.
    Check {
        /// The file. Default: the one that --config names.
        file: Option<PathBuf>,
    },
    /// The configuration that runs; with --defaults every key with its default, as a file to begin with.
    Show {
        /// Every key with its meaning and default; needs no daemon.
        #[arg(long)]
        defaults: bool,
    },
}

pub(super) async fn run(context: &Context, verb: Verb) -> Outcome {
    match verb {
        Verb::Check { file } => {
            let check = check(file.as_ref().unwrap_or(&context.config));
            let valid = check.valid;
            if valid || context.output.format == Format::Json {
                context.output.show(check, render)?;
            } else {
                eprint!("{}", render(&check, Paint(false)));
            }
            Ok(if valid { ExitCode::SUCCESS } else { ErrorCode::Config.exit_code().into() })
        }
        Verb::Show { defaults: true } => {
            let text = config::default_text();
            context.output.print(&text).map(|()| ExitCode::SUCCESS)
        }
        Verb::Show { defaults: false } => {
            let file: ConfigFile = context.client.get("/v1/config").await?;
            context.output.show(file, |file, paint| {
                let differs = if file.file_differs { "; the file has changed since" } else { "" };
                let heading = format!("# what runs, from {}{differs}", file.path);
                format!("{}\n{}", paint.text(Tone::Dim, &heading), file.text)
            })
        }
    }
}

fn check(file: &Path) -> ConfigCheck {
    let path = file.display().to_string();
    let problems = match config::load(file) {
        Ok(loaded) => {
            return ConfigCheck {
                path,
                valid: true,
                problems: vec![],
                services: Some(loaded.config.services.len()),
                backends: Some(loaded.config.backends.len()),
                warnings: config::lint(&loaded.config),
            };
        }
        Err(ConfigError::Invalid(errors)) => errors.problems.iter().map(problem).collect(),
        Err(e) => vec![ConfigProblem { line: None, column: None, message: e.to_string(), hint: None }],
    };
    ConfigCheck { path, valid: false, problems, services: None, backends: None, warnings: vec![] }
}

fn problem(p: &config::Problem) -> ConfigProblem {
    let place = match (&p.value, p.key.is_empty()) {
        (_, true) => String::new(),
        (Some(value), false) => format!("{} = {value}: ", p.key),
        (None, false) => format!("{}: ", p.key),
    };
    ConfigProblem {
        line: Some(p.line),
        column: Some(p.column),
        message: format!("{place}{}", p.rule),
        hint: (!p.mend.is_empty()).then(|| p.mend.clone()),
    }
}

fn render(check: &ConfigCheck, paint: Paint) -> String {
    let mut out = String::new();
    for p in &check.problems {
        if let (Some(line), Some(column)) = (p.line, p.column) {
            out += &format!("{}:{line}:{column}: ", check.path);
        }
        out += &p.message;
        if let Some(hint) = &p.hint {
            out += &format!("; {hint}");
        }
        out.push('\n');
    }
    for warning in &check.warnings {
        out += &format!("{} {warning}\n", paint.text(Tone::Warn, "warning:"));
    }
    if check.valid {
        let services = words::count(check.services.unwrap_or_default(), "service");
        let backends = words::count(check.backends.unwrap_or_default(), "backend");
        out += &paint.text(Tone::Good, &format!("{} is valid: {services}, {backends}", check.path));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (ConfigCheck, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rollcall.toml");
        std::fs::write(&file, text).unwrap();
        let mut check = check(&file);
        check.path = "rollcall.toml".into();
        let text = render(&check, Paint(false));
        (check, text)
    }

    #[test]
    fn check_of_a_file_with_two_errors_prints_both_with_their_places() {
        let (check, text) = checked("[edge]\ninterfaces = 3\nmode = \"fast\"\n");
        assert!(!check.valid);
        assert!(text.lines().any(|l| l.starts_with("rollcall.toml:2:")), "{text}");
        assert!(text.lines().any(|l| l.starts_with("rollcall.toml:3:")), "{text}");
        assert!(!text.contains("is valid"), "{text}");
    }

    #[test]
    fn check_of_a_missing_file_is_one_problem_without_a_line() {
        let check = check(Path::new("/nonexistent/rollcall.toml"));
        assert_eq!(check.problems.len(), 1);
        assert_eq!(check.problems[0].line, None);
        assert!(render(&check, Paint(false)).contains("/nonexistent/rollcall.toml"));
    }
}
