//! `[[alert_route]]`: which keys each type has, and their values.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use rustls_pki_types::ServerName;
use toml::de::DeValue;

use super::super::defaults::{
    self, ALERT_AFTERS, ALERT_REPEATS, MAX_LABELS, MAX_LINE_BYTES, MAX_PATH_BYTES, MAX_RECIPIENTS, MAX_WORDS,
};
use super::super::model::{AlertRoute, AlertTarget, HttpUrl, RouteName, Severity};
use super::section::{Field, Located, Section};
use super::values::{self, Refusal};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Journald,
    Mail,
    Command,
    Webhook,
    Alertmanager,
}

const TYPES: &[(&str, Type)] = &[
    ("journald", Type::Journald),
    ("mail", Type::Mail),
    ("command", Type::Command),
    ("webhook", Type::Webhook),
    ("alertmanager", Type::Alertmanager),
];
const SEVERITIES: &[(&str, Severity)] =
    &[("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

/// `[[alert_route]]`.
pub(crate) struct RawRoute {
    /// `name`.
    pub(crate) name: Field<RouteName>,
    /// The whole, if nothing in it was refused.
    pub(crate) route: Option<AlertRoute>,
}

/// Reads one table.
pub(super) fn route(mut section: Section<'_, '_>) -> RawRoute {
    let name = section.require("name", values::route_name);
    let kind = section.require("type", values::one_of(TYPES)).value();
    let url = section.read("url", url);
    let to = section.list("to", address);
    let command = section.read("command", command);
    let user = section.read("user", values::owner);
    let severity = section.read("severity", values::one_of(SEVERITIES)).or(defaults::ALERT_SEVERITY);
    let after = section.read("after", values::duration(ALERT_AFTERS)).or(Duration::ZERO);
    let repeat = section.read("repeat", values::duration(ALERT_REPEATS));
    let labels = section.read("labels", labels).or(BTreeMap::new());
    if let Some(kind) = kind {
        let web = matches!(kind, Type::Webhook | Type::Alertmanager);
        idle(&url, web, "it is for type \"webhook\" and \"alertmanager\"", &section);
        idle(&to, kind == Type::Mail, "it is for type \"mail\"", &section);
        idle(&command, matches!(kind, Type::Command | Type::Mail), "it is for type \"command\" and \"mail\"", &section);
        idle(&user, kind == Type::Command, "it is for type \"command\"", &section);
        idle(&repeat, kind != Type::Alertmanager, "an Alertmanager repeats by its own rules", &section);
    }
    let target = kind.and_then(|kind| match kind {
        Type::Journald => Some(AlertTarget::Journald),
        Type::Mail => {
            let to = needed(to, "to", "[\"oncall@example.org\"]", &section)?;
            let (to, at) = (to.value, to.at);
            if !(1..=MAX_RECIPIENTS).contains(&to.len()) {
                section.report().value(
                    &at,
                    format!("must hold 1 to {MAX_RECIPIENTS} addresses"),
                    "name the recipients",
                );
                return None;
            }
            let to = to.into_iter().map(|located| located.value).collect();
            Some(AlertTarget::Mail { to, command: command.or(vec![defaults::SENDMAIL.to_owned()]) })
        }
        Type::Command => {
            let command = needed(command, "command", "[\"/usr/local/bin/page\"]", &section)?.value;
            Some(AlertTarget::Command { command, user: user.or(defaults::ALERT_USER.to_owned()) })
        }
        Type::Webhook => {
            let url = needed(url, "url", "\"https://oncall.example.org/hook\"", &section)?;
            Some(AlertTarget::Webhook(url.value))
        }
        Type::Alertmanager => {
            let url = needed(url, "url", "\"http://127.0.0.1:9093\"", &section)?;
            if url.value.path.contains("/api/v2") || url.value.path.contains('?') {
                let mend = "name Alertmanager's own address, for example url = \"http://127.0.0.1:9093\"";
                section.report().value(&url.at, "must not name the API's path or a query", mend);
            }
            Some(AlertTarget::Alertmanager(url.value))
        }
    });
    section.finish();
    let route = name.good().zip(target).map(|(name, target)| AlertRoute {
        name: name.value.clone(),
        target,
        severity,
        after,
        repeat: repeat.or(defaults::ALERT_REPEAT),
        labels,
    });
    RawRoute { name, route }
}

/// A key without effect is a misunderstanding.
fn idle<T>(field: &Field<T>, has_effect: bool, why: &str, section: &Section<'_, '_>) {
    if let Some(Located { at, .. }) = field.good()
        && !has_effect
    {
        section.report().value(at, format!("has no effect: {why}"), "remove it, or change type");
    }
}

/// A key that this type needs.
fn needed<T>(field: Field<T>, key: &str, example: &str, section: &Section<'_, '_>) -> Option<Located<T>> {
    match field {
        Field::Good(located) => Some(located),
        Field::Bad => None,
        Field::Absent => {
            section.report().place(section.at(), format!("needs {key}"), format!("add {key} = {example}"));
            None
        }
    }
}

fn graphic(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn url(value: &DeValue<'_>) -> Result<HttpUrl, Refusal> {
    let text = values::string(value)?;
    let rule = || Refusal::new("must be an http:// or https:// URL of printable ASCII, without user and fragment");
    let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(rule()),
    };
    if !graphic(rest) || text.len() > MAX_PATH_BYTES || rest.contains(['#', '@', '"', '<', '>', '\\']) {
        return Err(rule());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(rule)?)),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| Refusal::new("the URL's port must be 1 to 65535"))?,
        None => NonZeroU16::new(if tls { 443 } else { 80 }).expect("neither is 0"),
    };
    ServerName::try_from(host).map_err(|_| Refusal::new("the URL's host must be a DNS name or an IP address"))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(HttpUrl { tls, host: host.to_owned(), port, path })
}

/// An address that can stand in a header and on a command line as it is.
fn address(value: &DeValue<'_>) -> Result<String, Refusal> {
    let text = values::string(value)?;
    let odd = |c: char| !c.is_ascii_graphic() || "()<>[],;:\\\"".contains(c);
    let fits = text.len() <= MAX_LINE_BYTES && !text.contains(odd) && !text.starts_with('-');
    // A local user has no domain.
    let parts: Vec<&str> = text.split('@').collect();
    if fits && parts.len() <= 2 && parts.iter().all(|part| !part.is_empty()) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new("must be a plain mail address, without a name and angle brackets"))
}

fn command(value: &DeValue<'_>) -> Result<Vec<String>, Refusal> {
    let refusal = || Refusal::new(format!("must be an array of 1 to {MAX_WORDS} strings, the first an absolute path"));
    let words = value.as_array().ok_or_else(refusal)?;
    let words: Option<Vec<&str>> = words.iter().map(|word| word.get_ref().as_str()).collect();
    let words = words.filter(|words| words.len() <= MAX_WORDS).ok_or_else(refusal)?;
    let whole = |word: &&str| word.len() <= MAX_PATH_BYTES && !word.contains('\0');
    if !words.first().is_some_and(|program| program.starts_with('/')) || !words.iter().all(whole) {
        return Err(refusal());
    }
    Ok(words.into_iter().map(str::to_owned).collect())
}

/// Names that alerts have themselves.
const RESERVED: [&str; 7] = ["alertname", "severity", "key", "service", "backend", "owner", "instance"];

fn labels(value: &DeValue<'_>) -> Result<BTreeMap<String, String>, Refusal> {
    let table = value.as_table().ok_or_else(|| Refusal::of_type("a table", value))?;
    if table.len() > MAX_LABELS {
        return Err(Refusal::new(format!("must hold at most {MAX_LABELS} labels")));
    }
    let mut labels = BTreeMap::new();
    for (name, value) in table.iter() {
        let name: &str = name.get_ref();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.len() > 63
            || !name.chars().all(word)
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(Refusal::new("a label's name is letters, digits and _, and does not begin with a digit"));
        }
        if RESERVED.contains(&name) {
            return Err(Refusal::with(format!("{name} is a label that alerts have themselves"), "choose another name"));
        }
        let text = values::owner(value.get_ref()).map_err(|_| {
            Refusal::new(format!("a label's value is a string of 1 to {MAX_LINE_BYTES} bytes on one line"))
        })?;
        labels.insert(name.to_owned(), text);
    }
    Ok(labels)
}
