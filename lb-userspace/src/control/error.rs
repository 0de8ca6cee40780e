//! Errors as HTTP answers: the status for proxies and people with `curl`, the body for the CLI.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::daemon::{ControlError, ErrorCode};
use super::schema::{Envelope, Failure};

/// Names that an error lists.
const SHOWN: usize = 20;

impl ControlError {
    /// An error without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// There is no service or backend of that name; the hint has those there are, or the first of many.
    pub fn not_found<'a>(kind: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known = known.into_iter();
        let shown: Vec<_> = known.by_ref().take(SHOWN).collect();
        let more = known.count();
        let hint = match (shown.is_empty(), more) {
            (true, _) => format!("no {kind} is configured"),
            (false, 0) => format!("known: {}", shown.join(", ")),
            (false, more) => format!("known: {}, and {more} more; `rollcall {kind} list` lists them", shown.join(", ")),
        };
        Self::new(ErrorCode::NotFound, format!("there is no {kind} {name:?}")).with_hint(hint)
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
            ErrorCode::Conflict | ErrorCode::Unconfirmed | ErrorCode::Held => StatusCode::CONFLICT,
            ErrorCode::System => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(Envelope::new(Failure::from(self)))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_lists_what_there_is_but_not_thousands() {
        let hint = |n: usize| {
            let names: Vec<_> = (0..n).map(|i| format!("b{i}")).collect();
            ControlError::not_found("backend", "x", names.iter().map(String::as_str)).hint.unwrap()
        };
        assert_eq!(hint(0), "no backend is configured");
        assert_eq!(hint(2), "known: b0, b1");
        assert!(hint(SHOWN).ends_with("b19"), "{}", hint(SHOWN));
        assert!(hint(1000).ends_with("b19, and 980 more; `rollcall backend list` lists them"), "{}", hint(1000));
    }
}
