//! The parameters of a trace: written by the CLI, checked by the server.

use std::net::SocketAddr;

use lb_common::wire::l4;
use serde::Deserialize;

use super::daemon::{ControlError, ErrorCode};
use crate::config::model::Protocol;

/// TCP flags by name.
const FLAGS: [(&str, u8); 4] = [("syn", l4::SYN), ("ack", l4::ACK), ("fin", l4::FIN), ("rst", l4::RST)];

/// `/v1/trace?…`, and what the CLI sends there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceParams {
    /// Source address and port.
    pub from: SocketAddr,
    /// Destination address and port.
    pub to: SocketAddr,
    /// Default TCP.
    pub protocol: Option<Protocol>,
    /// TCP flags, joined by dots; default `syn`.
    pub flags: Option<String>,
    /// The interface that it comes in on; default: the clients', the first of `edge.interfaces`.
    pub interface: Option<String>,
}

/// A packet to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceQuery {
    /// Source.
    pub from: SocketAddr,
    /// Destination, of the same family.
    pub to: SocketAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// TCP flags; 0 for UDP.
    pub flags: u8,
    /// The interface that it comes in on, if that is said.
    pub interface: Option<String>,
}

impl TraceParams {
    /// The request for these parameters. Names of interfaces are escaped, the rest needs it not.
    pub fn path(&self) -> String {
        let protocol = self.protocol.map(|p| if p == Protocol::Tcp { "tcp" } else { "udp" }.to_owned());
        let pairs = [
            ("from", Some(self.from.to_string())),
            ("to", Some(self.to.to_string())),
            ("protocol", protocol),
            ("flags", self.flags.clone()),
            ("interface", self.interface.as_deref().map(escaped)),
        ];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        format!("/v1/trace?{}", pairs.collect::<Vec<_>>().join("&"))
    }

    /// Checks that such a packet can be.
    pub fn check(self) -> Result<TraceQuery, ControlError> {
        let usage = |message: String, hint: &str| Err(ControlError::new(ErrorCode::Usage, message).with_hint(hint));
        let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let (from, to) = (plain(self.from), plain(self.to));
        if from.is_ipv4() != to.is_ipv4() {
            return usage(format!("{from} and {to} are of two families"), "give both as IPv4 or both as IPv6");
        }
        if from.port() == 0 || to.port() == 0 {
            return usage("port 0 is no port".into(), "give the ports that a packet would have");
        }
        let protocol = self.protocol.unwrap_or(Protocol::Tcp);
        if protocol == Protocol::Udp && self.flags.is_some() {
            return usage("UDP has no flags".into(), "leave --flags out, or trace TCP");
        }
        let mut flags = 0;
        for name in self.flags.as_deref().unwrap_or("syn").split('.') {
            match FLAGS.iter().find(|(known, _)| *known == name) {
                Some((_, bit)) => flags |= bit,
                None => {
                    let known: Vec<_> = FLAGS.iter().map(|(name, _)| *name).collect();
                    return usage(format!("{name:?} is no TCP flag"), &format!("known: {}", known.join(", ")));
                }
            }
        }
        let flags = if protocol == Protocol::Tcp { flags } else { 0 };
        Ok(TraceQuery { from, to, protocol, flags, interface: self.interface })
    }
}

/// Bytes of a name that mean something in a query, as `%` and two digits.
fn escaped(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(from: &str, to: &str, flags: Option<&str>, protocol: Option<Protocol>) -> TraceParams {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        TraceParams { from, to, protocol, flags: flags.map(str::to_owned), interface: Some("eth0.5@x".into()) }
    }

    #[test]
    fn packet_is_a_syn_unless_said_otherwise() {
        let query = params("198.51.100.7:40000", "192.0.2.80:80", None, None).check().unwrap();
        assert_eq!((query.flags, query.protocol), (l4::SYN, Protocol::Tcp));
        let query = params("[::ffff:198.51.100.7]:40000", "192.0.2.80:80", Some("fin.ack"), None).check().unwrap();
        assert_eq!((query.flags, query.from.to_string().as_str()), (l4::FIN | l4::ACK, "198.51.100.7:40000"));
        let query = params("198.51.100.7:40000", "192.0.2.80:80", None, Some(Protocol::Udp)).check().unwrap();
        assert_eq!(query.flags, 0);
    }

    #[test]
    fn packet_that_cannot_be_is_refused_with_a_hint() {
        for (from, to, flags, protocol, why) in [
            ("198.51.100.7:1", "[2001:db8::1]:80", None, None, "two families"),
            ("198.51.100.7:0", "192.0.2.80:80", None, None, "port 0"),
            ("198.51.100.7:1", "192.0.2.80:80", Some("sin"), None, "\"sin\" is no TCP flag"),
            ("198.51.100.7:1", "192.0.2.80:80", Some("syn"), Some(Protocol::Udp), "UDP has no flags"),
        ] {
            let error = params(from, to, flags, protocol).check().unwrap_err();
            assert!(error.message.contains(why) && error.hint.is_some(), "{error:?}");
        }
    }

    #[test]
    fn path_escapes_what_a_query_would_take_for_its_own() {
        let path = params("198.51.100.7:1", "192.0.2.80:80", Some("syn.ack"), Some(Protocol::Tcp)).path();
        assert_eq!(
            path,
            "/v1/trace?from=198.51.100.7:1&to=192.0.2.80:80&protocol=tcp&flags=syn.ack&interface=eth0.5%40x"
        );
    }
}
