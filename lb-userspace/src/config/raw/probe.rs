//! `[service.probe]`: which keys each type of probe has, and their values.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustls_pki_types::ServerName;
use toml::de::DeValue;

use super::super::defaults::{self, MAX_BODY_BYTES, MAX_LINE_BYTES, MAX_PATH_BYTES, PROBE_COUNTS, PROBE_TIMES};
use super::super::duration;
use super::super::model::{HttpProbe, Probe, ProbeKind, TlsProbe};
use super::section::{Field, Located, Section};
use super::values::{self, Refusal};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    None,
    Tcp,
    Http,
    Https,
}

/// All keys, read but not yet related.
struct Keys {
    port: Field<NonZeroU16>,
    interval: Field<Duration>,
    timeout: Field<Duration>,
    rise: Field<u32>,
    fall: Field<u32>,
    path: Field<String>,
    status: Field<Vec<RangeInclusive<u16>>>,
    body: Field<String>,
    host: Field<String>,
    server_name: Field<String>,
    verify: Field<bool>,
}

/// Reads the table. `Good(None)`: no probe, as asked.
pub(super) fn probe(mut section: Section<'_, '_>) -> Field<Option<Probe>> {
    let types = &[("tcp", Type::Tcp), ("http", Type::Http), ("https", Type::Https), ("none", Type::None)];
    let kind = section.require("type", values::one_of(types)).value();
    let keys = Keys {
        port: section.read("port", values::port),
        interval: section.read("interval", values::duration(PROBE_TIMES)),
        timeout: section.read("timeout", values::duration(PROBE_TIMES)),
        rise: section.read("rise", values::integer(PROBE_COUNTS)),
        fall: section.read("fall", values::integer(PROBE_COUNTS)),
        path: section.read("path", path),
        status: section.read("status", status),
        body: section.read("body", body),
        host: section.read("host", host),
        server_name: section.read("server_name", server_name),
        verify: section.read("verify", values::boolean),
    };
    if let Some(kind) = kind {
        keys.refuse_idle(kind, &section);
    }
    keys.check_times(&section);
    let at = section.at().clone();
    section.finish();
    match kind {
        None => Field::Bad,
        Some(kind) => Field::Good(Located { value: keys.build(kind), at }),
    }
}

impl Keys {
    /// A key without effect is a misunderstanding.
    fn refuse_idle(&self, kind: Type, section: &Section<'_, '_>) {
        fn check<T>(field: &Field<T>, kind: Type, least: Type, only: &str, section: &Section<'_, '_>) {
            if kind < least
                && let Some(Located { at, .. }) = field.good()
            {
                section.report().value(at, format!("has no effect: {only}"), "remove it, or change type");
            }
        }
        let any = "type = \"none\" makes no checks";
        check(&self.port, kind, Type::Tcp, any, section);
        check(&self.interval, kind, Type::Tcp, any, section);
        check(&self.timeout, kind, Type::Tcp, any, section);
        check(&self.rise, kind, Type::Tcp, any, section);
        check(&self.fall, kind, Type::Tcp, any, section);
        let http = "it is for type \"http\" and \"https\"";
        check(&self.path, kind, Type::Http, http, section);
        check(&self.status, kind, Type::Http, http, section);
        check(&self.body, kind, Type::Http, http, section);
        check(&self.host, kind, Type::Http, http, section);
        let https = "it is for type \"https\"";
        check(&self.server_name, kind, Type::Https, https, section);
        check(&self.verify, kind, Type::Https, https, section);
    }

    fn check_times(&self, section: &Section<'_, '_>) {
        let Some(Located { value: timeout, at }) = self.timeout.good() else { return };
        let interval = match &self.interval {
            Field::Bad => return,
            interval => interval.good().map_or(defaults::PROBE_INTERVAL, |located| located.value),
        };
        if *timeout > interval {
            let interval = duration::Display(interval);
            let mend = "shorten the timeout or lengthen the interval";
            section.report().value(at, format!("must be at most the interval, {interval}"), mend);
        }
    }

    fn build(self, kind: Type) -> Option<Probe> {
        let http = |tls| {
            ProbeKind::Http(HttpProbe {
                path: self.path.or(defaults::PROBE_PATH.into()),
                status: self.status.or(vec![defaults::PROBE_STATUS]),
                body: self.body.value(),
                host: self.host.value(),
                tls,
            })
        };
        let kind = match kind {
            Type::None => return None,
            Type::Tcp => ProbeKind::Tcp,
            Type::Http => http(None),
            Type::Https => {
                http(Some(TlsProbe { server_name: self.server_name.value(), verify: self.verify.or(false) }))
            }
        };
        let interval = self.interval.or(defaults::PROBE_INTERVAL);
        Some(Probe {
            kind,
            port: self.port.value(),
            interval,
            timeout: self.timeout.or(defaults::PROBE_TIMEOUT.min(interval)),
            rise: self.rise.or(defaults::PROBE_RISE),
            fall: self.fall.or(defaults::PROBE_FALL),
        })
    }
}

/// What a TCP service gets without the table.
pub(crate) fn default_tcp() -> Probe {
    Probe {
        kind: ProbeKind::Tcp,
        port: None,
        interval: defaults::PROBE_INTERVAL,
        timeout: defaults::PROBE_TIMEOUT,
        rise: defaults::PROBE_RISE,
        fall: defaults::PROBE_FALL,
    }
}

/// Text that goes into a request's head: nothing in it may end a line or a word.
fn graphic(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn path(value: &DeValue<'_>) -> Result<String, Refusal> {
    let text = values::string(value)?;
    if !text.starts_with('/') {
        return Err(Refusal::new("must begin with /"));
    }
    if text.len() > MAX_PATH_BYTES {
        return Err(Refusal::new(format!("must have at most {MAX_PATH_BYTES} bytes")));
    }
    if !graphic(text) {
        return Err(Refusal::with(
            "must be printable ASCII without spaces and line breaks",
            "write other characters percent-encoded, for example %20",
        ));
    }
    Ok(text.to_owned())
}

fn host(value: &DeValue<'_>) -> Result<String, Refusal> {
    let text = values::string(value)?;
    if (1..=MAX_LINE_BYTES).contains(&text.len()) && graphic(text) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(format!("must be 1 to {MAX_LINE_BYTES} bytes of printable ASCII without spaces and line breaks")))
}

fn body(value: &DeValue<'_>) -> Result<String, Refusal> {
    let text = values::string(value)?;
    if (1..=MAX_BODY_BYTES).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Refusal::with(format!("must have 1 to {MAX_BODY_BYTES} bytes"), "look for a short, telling part of the body"))
}

fn server_name(value: &DeValue<'_>) -> Result<String, Refusal> {
    let text = values::string(value)?;
    ServerName::try_from(text).map_err(|_| Refusal::new("must be a DNS name or an IP address"))?;
    Ok(text.to_owned())
}

fn status(value: &DeValue<'_>) -> Result<Vec<RangeInclusive<u16>>, Refusal> {
    let refusal = || Refusal::new("must be a code, \"first-last\", or an array of these, all of 100 to 599");
    let one = |value: &DeValue<'_>| match value {
        DeValue::Integer(_) => {
            let code = values::integer(100..=599)(value).map_err(|_| refusal())?;
            let code = u16::try_from(code).expect("the range ends at 599");
            Ok(code..=code)
        }
        DeValue::String(text) => values::range(text, 100..=599).ok_or_else(refusal),
        _ => Err(refusal()),
    };
    match value {
        DeValue::Array(array) if array.is_empty() => Err(refusal()),
        DeValue::Array(array) => array.iter().map(|element| one(element.get_ref())).collect(),
        value => Ok(vec![one(value)?]),
    }
}
