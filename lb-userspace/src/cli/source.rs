//! Where the journal is read from: the daemon; or, where none runs, its file, so that what happened can be read when it
//! is needed most.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::Context;
use crate::config::{PathKey, path_in, text_of};
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::history;
use crate::control::schema::{Events, Report};
use crate::control::{EventParams, WindowParams};
use crate::daemon::clock;

/// Events that match.
pub(super) async fn events(context: &Context, params: &EventParams) -> Result<Events, ControlError> {
    match context.client.get(&params.path()).await {
        Err(e) if e.code == ErrorCode::Unavailable => {
            let query = params.clone().check()?;
            or_unavailable(e, history::events(&state_dir(&context.config), &query, clock::now()))
        }
        answer => answer,
    }
}

/// The facts of a window.
pub(super) async fn report(context: &Context, params: &WindowParams) -> Result<Report, ControlError> {
    match context.client.get(&params.path()).await {
        Err(e) if e.code == ErrorCode::Unavailable => {
            let window = params.clone().check(Timestamp::now())?;
            or_unavailable(e, history::report(&state_dir(&context.config), window, clock::now()))
        }
        answer => answer,
    }
}

/// Where there is no journal either, that the daemon does not run says more.
fn or_unavailable<T>(daemon: ControlError, read: Result<T, ControlError>) -> Result<T, ControlError> {
    read.map_err(|e| if e.code == ErrorCode::Unavailable { daemon } else { e })
}

/// Also of a file that is wrong by now.
fn state_dir(file: &Path) -> PathBuf {
    crate::config::load(file).map_or_else(
        |_| path_in(&text_of(file).unwrap_or_default(), PathKey::StateDir),
        |loaded| loaded.config.control.state_dir,
    )
}

/// A moment: a duration before now (`2h`), or RFC 3339 (`2026-11-21T10:00:00Z`).
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::now();
    let ago =
        crate::config::parse_duration(text).and_then(|d| now.checked_sub(jiff::SignedDuration::try_from(d).ok()?).ok());
    ago.or_else(|| text.parse().ok()).ok_or_else(|| {
        "a moment is a duration before now, such as 90s, 2h or 1d12h, or a time such as 2026-11-21T10:00:00Z".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_is_a_time_or_a_duration_before_now() {
        assert_eq!(moment("2026-11-21T11:00:00+01:00").unwrap().to_string(), "2026-11-21T10:00:00Z");
        let ago = Timestamp::now().as_second() - moment("2h").unwrap().as_second();
        assert!((7199..=7260).contains(&ago), "{ago}");
        assert!(moment("yesterday").unwrap_err().contains("2h"));
    }
}
