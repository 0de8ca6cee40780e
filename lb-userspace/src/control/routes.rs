//! Paths and their handlers. Each asks the daemon, shapes the answer, and decides nothing.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::connections::Limits;
use super::daemon::{Actor, AlertAck, AlertTest, ControlError, Daemon, ErrorCode};
use super::event_params::{EventParams, WindowParams};
use super::flow_params::FlowParams;
use super::peer::{Access, Policy};
use super::schema::{
    Alerts, AlertsAck, AlertsTest, Applied, AuditReport, Backends, ConfigFile, Document, DutyDone, Envelope, Events,
    Failure, Flows, Report, Services, Stats, Status, Stopping, Trace,
};
use super::server::Connection;
use super::trace_params::TraceParams;
use super::{MAX_REQUEST_BYTES, metrics};

type Answer<T> = Result<Json<Envelope<T>>, ControlError>;

/// The control socket's paths.
pub(super) fn control<D: Daemon>(daemon: D, policy: Policy) -> Router {
    Router::new()
        .route("/v1/status", get(status::<D>))
        .route("/v1/backends", get(backends::<D>))
        .route("/v1/services", get(services::<D>))
        .route("/v1/stats", get(stats::<D>))
        .route("/v1/flows", get(flows::<D>))
        .route("/v1/trace", get(trace::<D>))
        .route("/v1/events", get(events::<D>))
        .route("/v1/report", get(report::<D>))
        .route("/v1/config", get(config::<D>))
        .route("/v1/reload", post(reload::<D>))
        .route("/v1/edit", post(edit::<D>))
        .route("/v1/duty", post(duty::<D>))
        .route("/v1/audit", get(audit::<D>).post(repair::<D>))
        .route("/v1/alerts", get(alerts::<D>))
        .route("/v1/alerts/test", post(test_alert::<D>))
        .route("/v1/alerts/ack", post(acknowledge::<D>))
        .route("/v1/down", post(down::<D>))
        .route("/metrics", get(render_metrics::<D>))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(from_fn_with_state(policy, admit))
        .with_state(daemon)
}

/// The TCP listener's only path.
pub(super) fn metrics_only<D: Daemon>(daemon: D) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics::<D>))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(0))
        .with_state(daemon)
}

/// Checks the peer before anything else is looked at: GET and HEAD read, all else writes.
async fn admit(
    State(policy): State<Policy>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    mut request: Request,
    next: Next,
) -> Result<Response, ControlError> {
    let peer = connection.0.as_ref().as_ref().map_err(|e| {
        ControlError::new(ErrorCode::Permission, format!("the kernel did not say who is connected: {e}"))
    })?;
    let access = if matches!(*request.method(), Method::GET | Method::HEAD) { Access::Read } else { Access::Write };
    policy.check(peer, access)?;
    if access == Access::Write {
        request.extensions_mut().insert(peer.actor());
    }
    Ok(next.run(request).await)
}

fn answer<T: Document>(body: T) -> Answer<T> {
    Ok(Json(Envelope::new(body)))
}

async fn status<D: Daemon>(State(daemon): State<D>) -> Answer<Status> {
    let status = Status::new(&*daemon.view().await?, &daemon.counters().await?);
    answer(status.with_alerts(&*daemon.alerts().await?))
}

async fn backends<D: Daemon>(State(daemon): State<D>) -> Answer<Backends> {
    answer(Backends::new(&*daemon.view().await?, &daemon.counters().await?))
}

async fn services<D: Daemon>(State(daemon): State<D>) -> Answer<Services> {
    answer(Services::new(&*daemon.view().await?, &daemon.counters().await?))
}

async fn stats<D: Daemon>(State(daemon): State<D>) -> Answer<Stats> {
    let (view, counters) = (daemon.view().await?, daemon.counters().await?);
    answer(Stats::new(&view, &counters, now()))
}

async fn config<D: Daemon>(State(daemon): State<D>) -> Answer<ConfigFile> {
    answer(ConfigFile::new(&*daemon.view().await?))
}

async fn flows<D: Daemon>(State(daemon): State<D>, params: Result<Query<FlowParams>, QueryRejection>) -> Answer<Flows> {
    let Query(params) = params.map_err(|e| ControlError::new(ErrorCode::Usage, e.body_text()))?;
    let view = daemon.view().await?;
    let (records, more) = daemon.flows(params.check(&view)?).await?;
    answer(Flows::new(&view, &records, more, now()))
}

async fn trace<D: Daemon>(
    State(daemon): State<D>,
    params: Result<Query<TraceParams>, QueryRejection>,
) -> Answer<Trace> {
    let Query(params) = params.map_err(|e| ControlError::new(ErrorCode::Usage, e.body_text()))?;
    answer(daemon.trace(params.check()?).await?)
}

async fn events<D: Daemon>(
    State(daemon): State<D>,
    params: Result<Query<EventParams>, QueryRejection>,
) -> Answer<Events> {
    let Query(params) = params.map_err(|e| ControlError::new(ErrorCode::Usage, e.body_text()))?;
    answer(daemon.events(params.check()?).await?)
}

async fn report<D: Daemon>(
    State(daemon): State<D>,
    params: Result<Query<WindowParams>, QueryRejection>,
) -> Answer<Report> {
    let Query(params) = params.map_err(|e| ControlError::new(ErrorCode::Usage, e.body_text()))?;
    answer(daemon.report(params.check(now())?).await?)
}

async fn reload<D: Daemon>(State(daemon): State<D>, actor: axum::Extension<Actor>) -> Answer<Applied> {
    answer(daemon.reload(actor.0).await?.into())
}

async fn edit<D: Daemon>(
    State(daemon): State<D>,
    actor: axum::Extension<Actor>,
    limits: axum::Extension<Limits>,
    request: Request,
) -> Result<Json<Envelope<Applied>>, Response> {
    let edit = read(request, *limits, "edit").await?;
    answer(daemon.edit(edit, actor.0).await.map_err(IntoResponse::into_response)?.into())
        .map_err(IntoResponse::into_response)
}

async fn duty<D: Daemon>(
    State(daemon): State<D>,
    actor: axum::Extension<Actor>,
    limits: axum::Extension<Limits>,
    request: Request,
) -> Result<Json<Envelope<DutyDone>>, Response> {
    let duty = read(request, *limits, "request about leases").await?;
    answer(daemon.duty(duty, actor.0).await.map_err(IntoResponse::into_response)?.into())
        .map_err(IntoResponse::into_response)
}

/// A request's body, which should be `what`.
async fn read<T: DeserializeOwned>(request: Request, limits: Limits, what: &str) -> Result<T, Response> {
    let body = tokio::time::timeout(limits.body, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| late_body(limits.body))?.map_err(|e| refuse_body(&e))?;
    serde_json::from_slice(&body).map_err(|e| {
        ControlError::new(ErrorCode::Usage, format!("the request's body is no {what}: {e}")).into_response()
    })
}

async fn audit<D: Daemon>(State(daemon): State<D>) -> Answer<AuditReport> {
    answer(daemon.audit(None).await?)
}

async fn repair<D: Daemon>(State(daemon): State<D>, actor: axum::Extension<Actor>) -> Answer<AuditReport> {
    answer(daemon.audit(Some(actor.0)).await?)
}

async fn alerts<D: Daemon>(State(daemon): State<D>) -> Answer<Alerts> {
    answer(Alerts::new(&*daemon.alerts().await?, now()))
}

async fn test_alert<D: Daemon>(
    State(daemon): State<D>,
    actor: axum::Extension<Actor>,
    limits: axum::Extension<Limits>,
    request: Request,
) -> Result<Json<Envelope<AlertsTest>>, Response> {
    let AlertTest { route } = read(request, *limits, "request for a test alert").await?;
    let tests = daemon.test_alert(route, actor.0).await.map_err(IntoResponse::into_response)?;
    answer(AlertsTest::from(tests)).map_err(IntoResponse::into_response)
}

async fn acknowledge<D: Daemon>(
    State(daemon): State<D>,
    actor: axum::Extension<Actor>,
    limits: axum::Extension<Limits>,
    request: Request,
) -> Result<Json<Envelope<AlertsAck>>, Response> {
    let ack: AlertAck = read(request, *limits, "acknowledgement").await?;
    let firing = daemon.acknowledge(ack, actor.0).await.map_err(IntoResponse::into_response)?;
    answer(AlertsAck::from(&firing)).map_err(IntoResponse::into_response)
}

async fn down<D: Daemon>(State(daemon): State<D>, actor: axum::Extension<Actor>) -> Answer<Stopping> {
    daemon.down(actor.0).await?;
    answer(Stopping { by_daemon: true })
}

async fn render_metrics<D: Daemon>(State(daemon): State<D>) -> Result<Response, ControlError> {
    let text = metrics::render(&*daemon.view().await?, &daemon.counters().await?, &*daemon.alerts().await?);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn unknown_path(request: Request) -> ControlError {
    ControlError::new(ErrorCode::NotFound, format!("there is no {}", request.uri().path()))
        .with_hint("docs/cli.md lists the paths")
}

async fn wrong_method(request: Request) -> Response {
    let error =
        ControlError::new(ErrorCode::Usage, format!("{} is not for {}", request.uri().path(), request.method()));
    (StatusCode::METHOD_NOT_ALLOWED, Json(Envelope::new(Failure::from(error)))).into_response()
}

fn late_body(limit: Duration) -> Response {
    let error = ControlError::new(ErrorCode::Usage, format!("the request's body did not arrive within {limit:?}"));
    (StatusCode::REQUEST_TIMEOUT, Json(Envelope::new(Failure::from(error)))).into_response()
}

fn refuse_body(rejection: &BytesRejection) -> Response {
    let status = rejection.status();
    let error = if status == StatusCode::PAYLOAD_TOO_LARGE {
        ControlError::new(ErrorCode::Usage, format!("the request's body is larger than {MAX_REQUEST_BYTES} bytes"))
    } else {
        ControlError::new(ErrorCode::Usage, format!("the request's body did not arrive: {rejection}"))
    };
    (status, Json(Envelope::new(Failure::from(error)))).into_response()
}

fn now() -> Timestamp {
    Timestamp::now()
}
