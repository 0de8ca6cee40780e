//! The agent's two paths. All are read-only, and a request has no body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State as Held};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper::body::Body as _;
use jiff::Timestamp;

use super::access::Token;
use super::metrics::{self, Refused};
use super::sources::{Measurement, Sources};
use crate::control::daemon::{ControlError, ErrorCode};
use crate::control::metrics::CONTENT_TYPE;
use crate::control::schema::{Envelope, Failure, Headroom};

/// What the handlers share.
pub(super) struct State {
    /// What is read.
    pub(super) sources: Sources,
    token: Option<Token>,
    /// Connections refused by their address.
    pub(super) refused: Arc<AtomicU64>,
    without_token: AtomicU64,
}

impl State {
    /// With `token`, each request must carry it.
    pub(super) fn new(sources: Sources, token: Option<Token>) -> Self {
        Self { sources, token, refused: Arc::default(), without_token: AtomicU64::new(0) }
    }

    fn measure(&self) -> Result<Measurement, ControlError> {
        self.sources.measure().map_err(|why| ControlError::new(ErrorCode::Unavailable, why))
    }
}

/// All paths.
pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route(Headroom::PATH, get(headroom))
        .route("/metrics", get(render_metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&state), admit))
        .with_state(state)
}

/// Checks the token and that there is no body, before anything else is looked at.
async fn admit(Held(state): Held<Arc<State>>, request: Request, next: Next) -> Response {
    if state.token.as_ref().is_some_and(|token| !token.is_in(request.headers())) {
        state.without_token.fetch_add(1, Ordering::Relaxed);
        let error =
            ControlError::new(ErrorCode::Permission, "this agent asks for a token, and the right one is not there")
                .with_hint("name the agent's token file as token_file of [backend.memory]");
        let mut response = failure(StatusCode::UNAUTHORIZED, error);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    if !request.body().is_end_stream() {
        let error = ControlError::new(ErrorCode::Usage, "requests to the agent have no body");
        return failure(StatusCode::PAYLOAD_TOO_LARGE, error);
    }
    next.run(request).await
}

async fn headroom(Held(state): Held<Arc<State>>) -> Result<Json<Envelope<Headroom>>, ControlError> {
    let measurement = state.measure()?;
    Ok(Json(Envelope::new(state.sources.headroom(&measurement, Timestamp::now()))))
}

async fn render_metrics(Held(state): Held<Arc<State>>) -> Result<Response, ControlError> {
    let refused =
        Refused { address: state.refused.load(Ordering::Relaxed), token: state.without_token.load(Ordering::Relaxed) };
    let text = metrics::render(&state.measure()?, refused);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

async fn unknown_path(request: Request) -> ControlError {
    ControlError::new(ErrorCode::NotFound, format!("there is no {}", request.uri().path()))
        .with_hint(format!("the agent answers at {} and /metrics", Headroom::PATH))
}

async fn wrong_method(method: Method) -> Response {
    let error = ControlError::new(ErrorCode::Usage, format!("the agent answers GET, not {method}"));
    failure(StatusCode::METHOD_NOT_ALLOWED, error)
}

fn failure(status: StatusCode, error: ControlError) -> Response {
    (status, Json(Envelope::new(Failure::from(error)))).into_response()
}
