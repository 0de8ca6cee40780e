//! Single values: from a TOML value to a checked one, or why not. Knows nothing of places and of other values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::super::defaults::{MAX_INTERFACE_BYTES, MAX_LINE_BYTES};
use super::super::duration;
use super::super::model::{BackendName, RouteName, ServiceName};

/// Why a value is refused. Without a mend the key's example is shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The rule.
    pub(crate) rule: String,
    /// What to do.
    pub(crate) mend: Option<String>,
}

impl Refusal {
    /// A rule, with the key's example as its mend.
    pub(crate) fn new(rule: impl Into<String>) -> Self {
        Self { rule: rule.into(), mend: None }
    }

    /// A rule and its mend.
    pub(crate) fn with(rule: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { rule: rule.into(), mend: Some(mend.into()) }
    }

    /// A value of another type than wanted.
    pub(crate) fn of_type(wanted: &str, found: &DeValue<'_>) -> Self {
        Self::new(format!("must be {wanted}, not {}", type_name(found)))
    }
}

type Parsed<T> = Result<T, Refusal>;

/// A TOML type with its article.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Whether a text is a name by the model's rule.
pub(crate) fn is_name(text: &str) -> bool {
    ServiceName::new(text).is_some()
}

/// A string.
pub(crate) fn string<'v>(value: &'v DeValue<'_>) -> Parsed<&'v str> {
    value.as_str().ok_or_else(|| Refusal::of_type("a string", value))
}

/// A boolean.
pub(crate) fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| Refusal::of_type("true or false", value))
}

/// An integer in a range.
pub(crate) fn integer(range: RangeInclusive<u32>) -> impl Fn(&DeValue<'_>) -> Parsed<u32> {
    move |value| {
        let number = value.as_integer().ok_or_else(|| Refusal::of_type("an integer", value))?;
        // What does not fit 64 bits is out of every range here.
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| u32::try_from(n).ok());
        number
            .filter(|n| range.contains(n))
            .ok_or_else(|| Refusal::new(format!("must be {} to {}", range.start(), range.end())))
    }
}

/// A port.
pub(crate) fn port(value: &DeValue<'_>) -> Parsed<NonZeroU16> {
    integer(1..=65535)(value)
        .map(|n| u16::try_from(n).ok().and_then(NonZeroU16::new).expect("the range excludes 0 and ends at 65535"))
}

/// A weight; 0 is a wish to drain.
pub(crate) fn weight(value: &DeValue<'_>) -> Parsed<NonZeroU16> {
    let zero = value.as_integer().is_some_and(|n| !n.as_str().is_empty() && n.as_str().bytes().all(|b| b == b'0'));
    if zero {
        let instead = "to take a server out for a while, drain it (rollcall backend drain): its connections go on until they \
                       end, and it comes back by itself";
        return Err(Refusal::with("must be 1 to 65535", instead));
    }
    port(value)
}

/// A duration in a range.
pub(crate) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Parsed<Duration> {
    move |value| {
        let text = value.as_str().ok_or_else(|| Refusal::of_type("a string with a unit", value))?;
        let parsed = duration::parse(text)
            .ok_or_else(|| Refusal::new("must be a whole number and a unit of ms, s, m, h or d, without spaces"))?;
        if range.contains(&parsed) {
            Ok(parsed)
        } else {
            let (min, max) = (duration::Display(*range.start()), duration::Display(*range.end()));
            Err(Refusal::new(format!("must be {min} to {max}")))
        }
    }
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let text = string(value)?;
        words.iter().find(|(word, _)| *word == text).map(|(_, t)| *t).ok_or_else(|| {
            let all = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>();
            let rule = format!("must be {}", all.join(" or "));
            match super::section::nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(near) => Refusal::with(rule, format!("did you mean {near:?}?")),
                None => Refusal::new(rule),
            }
        })
    }
}

/// A backend's name.
pub(crate) fn backend_name(value: &DeValue<'_>) -> Parsed<BackendName> {
    BackendName::new(string(value)?).ok_or_else(name_rule)
}

/// A service's name.
pub(crate) fn service_name(value: &DeValue<'_>) -> Parsed<ServiceName> {
    ServiceName::new(string(value)?).ok_or_else(name_rule)
}

/// An alert route's name.
pub(crate) fn route_name(value: &DeValue<'_>) -> Parsed<RouteName> {
    RouteName::new(string(value)?).ok_or_else(name_rule)
}

fn name_rule() -> Refusal {
    Refusal::new("a name is 1 to 63 letters, digits, dots, underscores or hyphens and begins with a letter or digit")
}

/// An owner.
pub(crate) fn owner(value: &DeValue<'_>) -> Parsed<String> {
    let text = string(value)?;
    if (1..=MAX_LINE_BYTES).contains(&text.len()) && !text.trim().is_empty() && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new(format!("must be 1 to {MAX_LINE_BYTES} bytes on one line")))
    }
}

/// An interface's name, by the kernel's rule.
pub(crate) fn interface(value: &DeValue<'_>) -> Parsed<String> {
    let text = string(value)?;
    if !(1..=MAX_INTERFACE_BYTES).contains(&text.len()) {
        return Err(Refusal::with(
            format!("an interface's name has 1 to {MAX_INTERFACE_BYTES} bytes"),
            "see ip link for the names",
        ));
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
    if text.contains(odd) || matches!(text, "." | "..") {
        return Err(Refusal::with("is not an interface's name", "see ip link for the names"));
    }
    Ok(text.to_owned())
}

/// An absolute path.
pub(crate) fn path(value: &DeValue<'_>) -> Parsed<PathBuf> {
    let text = string(value)?;
    if text.contains('\0') {
        return Err(Refusal::new("a path cannot hold a NUL"));
    }
    if !text.starts_with('/') {
        return Err(Refusal::new("must be an absolute path"));
    }
    Ok(PathBuf::from(text))
}

/// A listener's address and port.
pub(crate) fn listener(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let address: SocketAddr = string(value)?
        .parse()
        .map_err(|_| Refusal::new("must be an IP address and a port, an IPv6 address in square brackets"))?;
    if address.port() == 0 { Err(Refusal::new("the port must be 1 to 65535")) } else { Ok(address) }
}

/// A URL in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// As it was written.
    pub(crate) text: String,
    /// `https`, not `http`.
    pub(crate) is_https: bool,
    /// Name or address, IPv6 in brackets.
    pub(crate) host: String,
    /// Its port, or the scheme's.
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
}

/// An HTTP or HTTPS URL.
pub(crate) fn url(value: &DeValue<'_>) -> Parsed<Url> {
    let text = string(value)?;
    let refused = || Refusal::new("must be a URL that begins with http:// or https://");
    let uri: hyper::Uri = text.parse().map_err(|_| refused())?;
    let is_https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(refused()),
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Refusal::new("must not hold a user or password: they would be shown wherever the URL is"));
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refused)?;
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let (host, path) = (host.to_owned(), if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
    Ok(Url { text: text.to_owned(), is_https, host, port, path })
}

/// A range of ports.
pub(crate) fn ports(value: &DeValue<'_>) -> Parsed<RangeInclusive<u16>> {
    range(string(value)?, 1..=65535).ok_or_else(|| Refusal::new("must be first-last with 1 <= first <= last <= 65535"))
}

/// `first-last` within bounds, or one number.
pub(crate) fn range(text: &str, within: RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u16>().ok()).flatten();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (digits(first.trim())?, digits(last.trim())?);
    (first <= last && within.contains(&first) && within.contains(&last)).then_some(first..=last)
}

/// A unicast address of any family.
pub(crate) fn address(value: &DeValue<'_>) -> Parsed<IpAddr> {
    let text = string(value)?;
    unicast(text.parse().map_err(|_| not_an_address(text, "an IPv4 or IPv6 address"))?)
}

/// A unicast IPv4 address.
pub(crate) fn ipv4(value: &DeValue<'_>) -> Parsed<Ipv4Addr> {
    let text = string(value)?;
    match text.parse() {
        Ok(IpAddr::V4(v4)) => unicast(IpAddr::V4(v4)).map(|_| v4),
        Ok(IpAddr::V6(_)) => Err(Refusal::with("must be an IPv4 address, not IPv6", "write it under ipv6")),
        Err(_) => Err(not_an_address(text, "an IPv4 address")),
    }
}

/// A unicast IPv6 address.
pub(crate) fn ipv6(value: &DeValue<'_>) -> Parsed<Ipv6Addr> {
    let text = string(value)?;
    match text.parse() {
        Ok(IpAddr::V6(v6)) => unicast(IpAddr::V6(v6)).map(|_| v6),
        Ok(IpAddr::V4(_)) => Err(Refusal::with("must be an IPv6 address, not IPv4", "write it under ipv4")),
        Err(_) => Err(not_an_address(text, "an IPv6 address")),
    }
}

fn not_an_address(text: &str, wanted: &str) -> Refusal {
    let rule = format!("must be {wanted}");
    match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            Refusal::with(rule, format!("leave out the prefix length: \"{address}\""))
        }
        _ => Refusal::new(rule),
    }
}

/// Refuses what cannot be the one address of a host on a routed network.
fn unicast(address: IpAddr) -> Parsed<IpAddr> {
    let what = match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "an unspecified",
        IpAddr::V4(v4) if v4.is_broadcast() => "a broadcast",
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => "a reserved",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let v4 = v6.to_ipv4_mapped().expect("just seen");
            return Err(Refusal::with(
                "must not be an IPv4-mapped address",
                format!("write \"{v4}\" as an IPv4 address"),
            ));
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local",
        _ if address.is_unspecified() => "an unspecified",
        _ if address.is_loopback() => "a loopback",
        _ if address.is_multicast() => "a multicast",
        _ => return Ok(address),
    };
    Err(Refusal::with(format!("must not be {what} address"), "use a unicast address that the network routes"))
}
