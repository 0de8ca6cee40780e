//! Sending alerts: one message by one route, once, within a deadline. What is due, and when to try again, is
//! [`crate::alert`]'s.
//!
//! Receivers are not trusted: none can make the daemon wait beyond the deadline, follow it elsewhere, or read more than a
//! little of what it says.

mod alertmanager;
mod command;
mod http;
mod journald;
mod mail;

use std::time::Duration;

use tokio::time::timeout;

use crate::alert::Message;
use crate::config::model::{AlertRoute, AlertTarget};
use crate::control::schema::{Document, Envelope};

/// Time for a program.
const PROGRAM: Duration = Duration::from_secs(10);
/// Time for an HTTP exchange, look-up of the name and TLS included.
const EXCHANGE: Duration = Duration::from_secs(5);

/// Sends a message once. The error says why it was not taken, in a line.
pub async fn send(route: &AlertRoute, message: &Message) -> Result<(), String> {
    match &route.target {
        AlertTarget::Journald => journald::send(message),
        AlertTarget::Mail { to, command } => within(PROGRAM, mail::send(to, command, message)).await,
        AlertTarget::Command { command, user } => within(PROGRAM, command::send(command, user, message)).await,
        AlertTarget::Webhook(url) => within(EXCHANGE, http::post(url, &url.path, json(message)?)).await,
        AlertTarget::Alertmanager(url) => within(EXCHANGE, alertmanager::send(url, message)).await,
    }
}

async fn within(limit: Duration, send: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    timeout(limit, send).await.unwrap_or_else(|_| Err(format!("not done within {} s", limit.as_secs())))
}

/// The message as one line of JSON, its schema's name on top.
fn json(message: &Message) -> Result<Vec<u8>, String> {
    let document = Envelope { schema: Message::SCHEMA.to_owned(), body: message };
    serde_json::to_vec(&document).map_err(|e| format!("the alert has no JSON form: {e}"))
}

/// What a receiver said, on one line and short.
fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::message as sample;
