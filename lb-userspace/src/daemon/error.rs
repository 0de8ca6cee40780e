//! Short constructors for [`ControlError`], the daemon's one error towards people: at start, and over the socket.

use std::fmt::Display;

use crate::control::daemon::{ControlError, ErrorCode};

/// The kernel or the system refused: what, where, why.
pub fn system(message: impl Display) -> ControlError {
    ControlError::new(ErrorCode::System, message.to_string())
}

/// The daemon is stopping.
pub fn stopping() -> ControlError {
    ControlError::new(ErrorCode::Unavailable, "the daemon is stopping")
        .with_hint("start it again, then repeat the request")
}
