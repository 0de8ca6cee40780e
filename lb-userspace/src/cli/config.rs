//! `rollcall config check|show`. `check` needs no daemon: it is the daemon's own parser.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::{Format, Paint, Tone, say};
use super::{Context, Outcome, plain, words};
use crate::config::{self, ConfigError};
use crate::control::daemon::{ControlError, ErrorCode};
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
            let (check, code) = check(file.as_ref().unwrap_or(&context.config));
            if check.valid || context.output.format == Format::Json {
                context.output.show(check, render)?;
            } else {
                say(&render(&plain::document(&check)?, Paint::PLAIN));
            }
            Ok(code.map_or(ExitCode::SUCCESS, |code| code.exit_code().into()))
        }
        Verb::Show { defaults: true } => {
            if context.output.format == Format::Json {
                return Err(ControlError::new(
                    ErrorCode::Usage,
                    "the defaults are a file to begin with, and have no JSON form",
                )
                .with_hint("leave --output json away"));
            }
            context.output.print(&config::default_text())?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Show { defaults: false } => {
            let file: ConfigFile = context.client.get("/v1/config").await?;
            // Of this document alone one text keeps its lines.
            let text = plain::lines(&file.text).into_owned();
            context.output.show(file, |file, paint| running(file, &text, paint))
        }
    }
}

fn running(file: &ConfigFile, text: &str, paint: Paint) -> String {
    let differs = if file.file_differs { "; the file has changed since" } else { "" };
    let heading = format!("# what runs, from {}{differs}", file.path);
    format!("{}\n{text}", paint.text(Tone::Dim, &heading))
}

/// What is wrong, and the error's class if anything is.
fn check(file: &Path) -> (ConfigCheck, Option<ErrorCode>) {
    let path = file.display().to_string();
    let mut code = ErrorCode::Config;
    let problems = match config::load(file) {
        Ok(loaded) => {
            let check = ConfigCheck {
                path,
                valid: true,
                problems: vec![],
                services: Some(loaded.config.services.len()),
                backends: Some(loaded.config.backends.len()),
                warnings: config::lint(&loaded.config),
            };
            return (check, None);
        }
        Err(ConfigError::Invalid(errors)) => errors.problems.iter().map(problem).collect(),
        Err(e) => {
            let e = ControlError::from(e);
            code = e.code;
            vec![ConfigProblem { line: None, column: None, message: e.message, hint: e.hint }]
        }
    };
    (ConfigCheck { path, valid: false, problems, services: None, backends: None, warnings: vec![] }, Some(code))
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
        let (mut check, _) = check(&file);
        check.path = "rollcall.toml".into();
        let text = render(&check, Paint::PLAIN);
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
    fn running_configuration_is_a_file_again_with_a_heading() {
        let file = ConfigFile::new(&crate::control::testing::view());
        let expected = "# what runs, from /etc/rollcall/rollcall.toml; the file has changed since\n\
                        # as applied\nconfig_owner = \"cli\"\n";
        assert_eq!(running(&file, &file.text, Paint::PLAIN), expected);
    }

    #[test]
    fn check_of_a_file_without_end_is_one_problem() {
        let (check, code) = check(Path::new("/dev/zero"));
        assert_eq!(code, Some(ErrorCode::Config));
        assert!(check.problems[0].message.contains("larger than 16 MiB"), "{:?}", check.problems);
    }

    #[test]
    fn check_of_a_missing_file_is_one_problem_without_a_line() {
        let (check, code) = check(Path::new("/nonexistent/rollcall.toml"));
        assert_eq!(code, Some(ErrorCode::Config));
        assert_eq!(check.problems.len(), 1);
        assert_eq!(check.problems[0].line, None);
        assert!(render(&check, Paint::PLAIN).contains("/nonexistent/rollcall.toml"));
    }
}
