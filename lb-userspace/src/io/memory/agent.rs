//! `rollcall agent`: one JSON document.

use std::net::SocketAddr;
use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

use super::believe::{self, Unbelievable};
use super::{Deadline, MemoryError, cleaned, http, token};
use crate::control::schema::{Document, Failure, Headroom};
use crate::core::memory::sample::Sample;
use crate::io::probe::LOCAL;

/// Most bytes of a document that are read. The agent's own are below 1 KB plus the length of a cgroup's path.
const MAX_BODY_BYTES: usize = 4 << 10;

/// The request, with the token if there is a file of one.
pub(super) fn request(to: SocketAddr, token_file: Option<&Path>) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = http::request(Headroom::PATH, &to.to_string())?;
    if let Some(file) = token_file {
        let token = token::read(file).map_err(|why| format!("{LOCAL}token file {}: {why}", file.display()))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| format!("{LOCAL}token file {}: holds something else than a token", file.display()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Which document it is.
#[derive(Deserialize)]
struct Schema {
    schema: String,
}

/// What is needed of a [`Headroom`]. Later versions of the agent may say more.
#[derive(Deserialize)]
struct Answer {
    time: Timestamp,
    total_bytes: u64,
    available_bytes: u64,
    pressure_some_avg10_ratio: Option<f64>,
}

/// Reads the document and checks it.
pub(super) async fn sample<B>(response: Response<B>, deadline: Deadline) -> Result<Sample, MemoryError>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let status = response.status();
    let body = deadline.within("reading the body", whole(response.into_body())).await??;
    if status != StatusCode::OK {
        return Err(refused(status, &body).into());
    }
    let format = |e: serde_json::Error| Unbelievable::Format(format!("no {} document: {e}", Headroom::SCHEMA));
    // The schema first: of another document nothing else would make sense.
    let schema: Schema = serde_json::from_slice(&body).map_err(format)?;
    if schema.schema != Headroom::SCHEMA {
        let found = cleaned(&schema.schema);
        return Err(Unbelievable::Format(format!("a {found} document, not {}", Headroom::SCHEMA)).into());
    }
    let answer: Answer = serde_json::from_slice(&body).map_err(format)?;
    believe::fresh(answer.time, Timestamp::now())?;
    let (total, available) = (answer.total_bytes as f64, answer.available_bytes as f64);
    Ok(believe::sample(total, available, answer.pressure_some_avg10_ratio)?)
}

async fn whole<B>(mut body: B) -> Result<Vec<u8>, MemoryError>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| http::describe(&e))?.into_data() else { continue };
        if seen.len() + data.len() > MAX_BODY_BYTES {
            return Err(Unbelievable::Format(format!("the answer exceeds {} KiB", MAX_BODY_BYTES >> 10)).into());
        }
        seen.extend_from_slice(&data);
    }
    Ok(seen)
}

/// The status and, if it is our agent that answers, its own words.
fn refused(status: StatusCode, body: &[u8]) -> String {
    let code = status.as_u16();
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => format!("status {code}: {}", cleaned(&failure.message)),
        Err(_) if status.is_redirection() => format!("status {code}, and redirects are not followed"),
        Err(_) => format!("status {code}, expected 200"),
    }
}
