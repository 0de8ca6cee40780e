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
    pub fn check(self, view: &View) -> Result<FlowQuery, ControlError> {
        let (services, backends) = (&view.config.services, &view.config.backends);
        let service = self.service.map(|name| {
            let known = ServiceName::new(&name).filter(|n| services.iter().any(|s| s.name == *n));
            known.ok_or_else(|| ControlError::not_found("service", &name, services.iter().map(|s| s.name.as_str())))
        });
        let backend = self.backend.map(|name| {
            let known = BackendName::new(&name).filter(|n| backends.contains_key(n));
            known.ok_or_else(|| ControlError::not_found("backend", &name, backends.keys().map(BackendName::as_str)))
        });
        let (service, backend) = (service.transpose()?, backend.transpose()?);
        if let Some(phase) = &self.phase {
            let known: Vec<_> = (1..).map_while(Phase::from_number).map(Phase::name).collect();
            if !known.contains(&phase.as_str()) {
                return Err(ControlError::new(ErrorCode::Usage, format!("there is no phase {phase:?}"))
                    .with_hint(format!("known: {}", known.join(", "))));
            }
        }
        let limit = self.limit.unwrap_or(DEFAULT_FLOWS);
        if !(1..=MAX_FLOWS).contains(&limit) {
            return Err(ControlError::new(ErrorCode::Usage, format!("limit is {limit}"))
                .with_hint(format!("ask for 1 to {MAX_FLOWS}")));
        }
        // Flows of an IPv4 client are IPv4, whichever way its address is written.
        let client = self.client.map(|ip| ip.to_canonical());
        Ok(FlowQuery { service, backend, client, phase: self.phase, limit })
    }
}
