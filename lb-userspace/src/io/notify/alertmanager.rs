//! Alertmanager's v2 API. An alert is told by its labels, so these stay the same from firing to resolved; it ends by
//! itself unless it is sent again before `endsAt`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::http;
use crate::alert::{Message, Status};
use crate::config::model::HttpUrl;

/// How long an alert stands without hearing of it again: four times its refresh, as Prometheus does it.
const STANDS: Duration = Duration::from_secs(240);
/// How long a test stands.
const TEST_STANDS: Duration = Duration::from_secs(60);

/// One alert of `POST /api/v2/alerts`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

/// Sends one alert.
pub(super) async fn send(url: &HttpUrl, message: &Message) -> Result<(), String> {
    let body = serde_json::to_vec(&[alert(message, Timestamp::now())]).map_err(|e| format!("no JSON form: {e}"))?;
    http::post(url, &format!("{}/api/v2/alerts", url.path.trim_end_matches('/')), body).await
}

fn alert(message: &Message, now: Timestamp) -> Alert<'_> {
    let mut labels: BTreeMap<&str, &str> = message.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    labels.extend([
        ("alertname", message.condition.as_str()),
        ("severity", message.severity.name()),
        ("key", message.key.as_str()),
        ("instance", message.instance.as_str()),
    ]);
    labels.extend(message.service.as_ref().map(|service| ("service", service.as_str())));
    labels.extend(message.backend.as_ref().map(|backend| ("backend", backend.as_str())));
    labels.extend(message.owner_fired.as_deref().map(|owner| ("owner", owner)));
    let stands = if message.status == Status::Test { TEST_STANDS } else { STANDS };
    let ends_at = message.ended.unwrap_or_else(|| now.checked_add(stands).unwrap_or(now));
    // A clock that was set back since must not give an end before the start, which Alertmanager refuses.
    let starts_at = message.fired.min(ends_at);
    let annotations = BTreeMap::from([("summary", message.summary.as_str()), ("playbook", message.playbook.as_str())]);
    Alert { labels, annotations, starts_at, ends_at }
}
