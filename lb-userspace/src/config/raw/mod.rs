//! The raw form: every value read and checked on its own, with its place in the text. Rules that span values of
//! different items are not here but in `check`, which alone makes a `Config` of this.

mod alert;
mod global;
mod memory;
mod probe;
pub(super) mod section;
mod service;
mod values;

use toml::de::DeTable;

use super::error::{At, Report};
use super::keys::Scope;
use super::model::{ConfigOwner, Conntrack, Control, Heartbeat};
pub(super) use alert::RawRoute;
pub(super) use global::{RawEdge, RawPool};
pub(super) use memory::Source;
pub(super) use probe::default_tcp;
use section::Section;
pub(super) use section::{Field, Located};
pub(super) use service::{RawBackend, RawMember, RawService};

/// The whole file.
pub(super) struct Raw {
    /// Who edits it.
    pub(super) owner: ConfigOwner,
    /// `[edge]`.
    pub(super) edge: RawEdge,
    /// `[source_pool]`.
    pub(super) pool: RawPool,
    /// `[conntrack]`: nothing in it depends on others but the arena's size, whose place is kept.
    pub(super) conntrack: (Conntrack, At),
    /// `[control]`.
    pub(super) control: Control,
    /// `[heartbeat]`.
    pub(super) heartbeat: Option<Heartbeat>,
    /// `[[backend]]`, in the file's order.
    pub(super) backends: Vec<RawBackend>,
    /// `[[service]]`, in the file's order.
    pub(super) services: Vec<RawService>,
    /// `[[alert_route]]`, in the file's order.
    pub(super) routes: Vec<RawRoute>,
}

/// Reads the text. `None` after errors of TOML's syntax: what they leave over would give misleading errors.
pub(super) fn read(text: &str, report: &Report<'_>) -> Option<Raw> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let at = At { key: String::new(), span: error.span().unwrap_or(0..0) };
            let message = error.message().trim().replace('\n', ", ");
            report.place(&at, format!("not TOML: {message}"), "see https://toml.io for the syntax");
        }
        return None;
    }
    let mut root = Section::root(table.get_ref(), report);
    let owner = global::owner(&mut root);
    let edge = global::edge(root.table(Scope::Edge));
    let pool = global::pool(root.table(Scope::SourcePool));
    let conntrack = global::conntrack(root.table(Scope::Conntrack));
    let control = global::control(root.table(Scope::Control), report);
    let heartbeat = root.table(Scope::Heartbeat).and_then(global::heartbeat);
    let backends = root.tables(Scope::Backend).unwrap_or_default().into_iter().map(service::backend).collect();
    let services = root.tables(Scope::Service).unwrap_or_default().into_iter().map(service::service).collect();
    let routes = root.tables(Scope::AlertRoute).unwrap_or_default().into_iter().map(alert::route).collect();
    root.finish();
    Some(Raw { owner, edge, pool, conntrack, control, heartbeat, backends, services, routes })
}
