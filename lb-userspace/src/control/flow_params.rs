//! The parameters of a flow query: written by the CLI, checked by the server.

use std::net::IpAddr;

use lb_common::conntrack::Phase;
use serde::Deserialize;

use super::daemon::{ControlError, ErrorCode, FlowQuery, View};
use super::{DEFAULT_FLOWS, MAX_FLOWS};
use crate::config::model::{BackendName, ServiceName};

/// `/v1/flows?…`, and what the CLI sends there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowParams {
    /// Only of this service.
    pub service: Option<String>,
    /// Only to this backend.
    pub backend: Option<String>,
    /// Only from this address.
    pub client: Option<IpAddr>,
    /// Only in this phase.
    pub phase: Option<String>,
    /// At most so many; default [`DEFAULT_FLOWS`].
    pub limit: Option<usize>,
}

impl FlowParams {
    /// The request for these parameters. Names, addresses and phases need no escaping: none may hold a character that
    /// means something in a query.
    pub fn path(&self) -> String {
        let pairs = [
            ("service", self.service.clone()),
            ("backend", self.backend.clone()),
            ("client", self.client.map(|c| c.to_string())),
            ("phase", self.phase.clone()),
            ("limit", self.limit.map(|l| l.to_string())),
        ];
        let pairs = pairs.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        format!("/v1/flows?{}", pairs.collect::<Vec<_>>().join("&"))
    }

    /// Checks names, phase and limit, so that a typing error is an error and not an empty list.
    pub(super) fn check(self, view: &View) -> Result<FlowQuery, ControlError> {
        let missing = |kind: &str, name: &str, known: Vec<&str>| {
            ControlError::new(ErrorCode::NotFound, format!("there is no {kind} {name:?}"))
                .with_hint(format!("known: {}", known.join(", ")))
        };
        let service = match self.service {
            None => None,
            Some(name) => {
                Some(ServiceName::new(&name).filter(|n| view.config.services.iter().any(|s| s.name == *n)).ok_or_else(
                    || missing("service", &name, view.config.services.iter().map(|s| s.name.as_str()).collect()),
                )?)
            }
        };
        let backend = match self.backend {
            None => None,
            Some(name) => {
                Some(BackendName::new(&name).filter(|n| view.config.backends.contains_key(n)).ok_or_else(|| {
                    missing("backend", &name, view.config.backends.keys().map(BackendName::as_str).collect())
                })?)
            }
        };
        if let Some(phase) = &self.phase {
            let mut known = (1..).map_while(Phase::from_number).map(Phase::name);
            if !known.any(|name| name == phase) {
                let known: Vec<_> = (1..).map_while(Phase::from_number).map(Phase::name).collect();
                return Err(ControlError::new(ErrorCode::Usage, format!("there is no phase {phase:?}"))
                    .with_hint(format!("known: {}", known.join(", "))));
            }
        }
        let limit = self.limit.unwrap_or(DEFAULT_FLOWS);
        if !(1..=MAX_FLOWS).contains(&limit) {
            return Err(ControlError::new(ErrorCode::Usage, format!("limit is {limit}"))
                .with_hint(format!("ask for 1 to {MAX_FLOWS}")));
        }
        Ok(FlowQuery { service, backend, client: self.client, phase: self.phase, limit })
    }
}
