//! Errors as HTTP answers: the status for proxies and people with `curl`, the body for the CLI.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::daemon::{ControlError, ErrorCode};
use super::schema::{Envelope, Failure};

impl ControlError {
    /// An error without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match self.code {
            ErrorCode::Usage => StatusCode::BAD_REQUEST,
            ErrorCode::Config => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Permission => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Conflict | ErrorCode::Unconfirmed => StatusCode::CONFLICT,
            ErrorCode::System => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(Envelope::new(Failure::from(self)))).into_response()
    }
}
