//! Reading verbs without a daemon: what it left, read from the kernel and `state.db`, in the same documents.
//!
//! Only where it is certain that no daemon runs: one that does not answer has the truth all the same, and is an error.

use std::process::ExitCode;

use super::output::{Paint, say};
use super::{Context, Outcome, words};
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::schema::{Document, Status};
use crate::daemon::frozen::{self, Left};

/// Shows a document that the daemon answers; where none runs, one that `make` makes of what it left. Then the exit code says
/// that the daemon is not running.
pub(super) async fn show<T: Document>(
    context: &Context,
    path: &str,
    make: impl FnOnce(&Left) -> T,
    render: impl FnOnce(&T, Paint) -> String,
) -> Outcome {
    let (document, code) = get(context, path, |left| Ok(make(left))).await?;
    context.output.show(document, render)?;
    Ok(code)
}

/// A document and the exit code to end with, as [`show`].
pub(super) async fn get<T: Document>(
    context: &Context,
    path: &str,
    make: impl FnOnce(&Left) -> Result<T, ControlError>,
) -> Result<(T, ExitCode), ControlError> {
    let error = match context.client.get(path).await {
        Ok(document) => return Ok((document, ExitCode::SUCCESS)),
        Err(e) => e,
    };
    match left(context, &error).await {
        None => Err(error),
        Some(Err(why)) => Err(ControlError { message: format!("{}; {why}", error.message), ..error }),
        Some(Ok(left)) => {
            // Standard error, so that programs that read the document alone still read a document.
            if T::SCHEMA != Status::SCHEMA {
                let since = left.view.frozen.and_then(|f| f.since).map(crate::control::schema::timestamp);
                say(&format!("warning: DAEMON DOWN{}; this is what it left\n", moment(since)));
            }
            Ok((make(&left)?, ExitCode::from(ErrorCode::Unavailable.exit_code())))
        }
    }
}

/// What a daemon that certainly does not run left, or why that cannot be read; `None` if one may run.
pub(super) async fn left(context: &Context, error: &ControlError) -> Option<Result<Left, String>> {
    if error.code != ErrorCode::Unavailable || !context.client.is_deserted().await {
        return None;
    }
    frozen::read(&context.config)
}

/// `DAEMON DOWN since 2026-11-21 16:54:10 UTC (12 m); leases and health frozen`; `None` if one runs.
pub(super) fn in_words(status: &Status) -> Option<String> {
    if status.daemon.running {
        return None;
    }
    let ago = status.daemon.down_since.map(|since| format!(" ({})", words::since(since, status.time)));
    let since = moment(status.daemon.down_since);
    Some(format!("DAEMON DOWN{since}{}; leases and health frozen", ago.unwrap_or_default()))
}

fn moment(since: Option<jiff::Timestamp>) -> String {
    since.map(|since| format!(" since {}", since.strftime("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default()
}
