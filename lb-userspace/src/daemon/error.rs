//! Short constructors for [`ControlError`], the daemon's one error towards people: at start, and over the socket.

use std::fmt::Display;

use crate::control::daemon::{ControlError, ErrorCode};

/// What, where, why; add what to do with [`Mend::mend`].
pub fn error(code: ErrorCode, message: impl Display) -> ControlError {
    ControlError { code, message: message.to_string(), hint: None }
}

/// The kernel or the system refused.
pub fn system(message: impl Display) -> ControlError {
    error(ErrorCode::System, message)
}

/// The daemon is stopping.
pub fn stopping() -> ControlError {
    error(ErrorCode::Unavailable, "the daemon is stopping").mend("start it again, then repeat the request")
}

/// Adds what to do.
pub trait Mend {
    /// The same error with `hint`.
    fn mend(self, hint: impl Display) -> Self;
}

impl Mend for ControlError {
    fn mend(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}
