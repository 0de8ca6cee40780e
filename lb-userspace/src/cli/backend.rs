//! `rollcall backend list|show|add|remove|set`; the verbs of leases are in [`lease`].

use std::net::IpAddr;
use std::num::NonZeroU16;

use jiff::Timestamp;

use super::output::{Paint, Tone};
use super::table::{Cell, Table};
use super::{Context, Outcome, consent, frozen, lease, reload, source, status, words};
use crate::config::model::{BackendName, ServiceName};
use crate::control::EventParams;
use crate::control::daemon::{ControlError, Edit};
use crate::control::schema::{Applied, Backends, EventStatus};
use crate::core::lease::LeaseKind;
use crate::daemon::frozen::Left;

const ADD_HELP: &str = "\
Examples:
  rollcall backend add web-04 --address 10.0.0.4 --service www
  rollcall backend add web-04 --address 10.0.0.4 --address 2001:db8::4 --service www --service www6 --port 8080 --weight 2
  rollcall backend add web-04 --service api              web-04 exists; it joins one more service

A new backend takes flows after its first successful probe.";

const REMOVE_HELP: &str = "\
Examples:
  rollcall backend remove web-04 --service api    it stays in its other services
  rollcall backend remove web-04                  from everywhere; the roll call misses it until it is back
  rollcall backend remove web-04 --decommission --reason 'sold'    for good: nobody misses it

A service keeps at least one member. To take a server out for a time, use `rollcall backend drain`.";

const SET_HELP: &str = "\
Examples:
  rollcall backend set web-04 --weight 2
  rollcall backend set web-04 --service api --port 8081    its flows go on
  rollcall backend set web-04 --owner 'storage team'";

/// Where the daemon answers all of them.
const PATH: &str = "/v1/backends";
/// Events shown of a backend; JSON has all that were asked for.
const EVENTS: usize = 10;

/// What to do with backends.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// All backends, one line each.
    List,
    /// One backend in all its services, with its newest events.
    Show {
        /// The backend.
        #[arg(value_parser = name::<BackendName>)]
        name: BackendName,
    },
    /// Add a server and make it a member of services; in the file, too.
    #[command(after_help = ADD_HELP)]
    Add {
        /// Its name.
        #[arg(value_parser = name::<BackendName>)]
        name: BackendName,
        /// Its address; once for each family. Not needed if the server exists.
        #[arg(long = "address", value_name = "IP")]
        addresses: Vec<IpAddr>,
        /// A service to join; may be given more than once.
        #[arg(long = "service", value_name = "NAME", required = true, value_parser = name::<ServiceName>)]
        services: Vec<ServiceName>,
        /// Its port in those services. Default: the service's own.
        #[arg(long, value_parser = port)]
        port: Option<NonZeroU16>,
        /// Its weight in those services. Default: 1.
        #[arg(long, value_parser = weight)]
        weight: Option<NonZeroU16>,
        /// Who is called when it is out.
        #[arg(long)]
        owner: Option<String>,
    },
    /// Remove a server from one service, or from all and the list; from the file, too. Its flows go on until they end.
    #[command(after_help = REMOVE_HELP)]
    Remove {
        /// The backend.
        #[arg(value_parser = name::<BackendName>)]
        name: BackendName,
        /// From this service only.
        #[arg(long, value_name = "NAME", value_parser = name::<ServiceName>)]
        service: Option<ServiceName>,
        /// For good: it is not expected back.
        #[arg(long, requires = "reason", conflicts_with = "service")]
        decommission: bool,
        /// Why it goes for good.
        #[arg(long, value_name = "TEXT", requires = "decommission")]
        reason: Option<String>,
        #[command(flatten)]
        consent: consent::Args,
    },
    /// Take a server out for a time: no new flows, those it has go on. It comes back by itself.
    #[command(after_help = lease::TAKE_HELP)]
    Drain(lease::Take),
    /// Take a server out for a time, and end its flows. It comes back by itself.
    #[command(visible_alias = "maint", after_help = lease::TAKE_HELP)]
    Maintenance(lease::Take),
    /// Let a drain or maintenance end later.
    Extend(lease::Extend),
    /// End a drain or maintenance now: the server is probed, then takes flows again.
    #[command(visible_alias = "ready")]
    Restore(lease::Target),
    /// Do not expect a removed server back.
    Forget(lease::Target),
    /// Change weight, port or owner; in the file, too.
    #[command(after_help = SET_HELP, group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// The backend.
        #[arg(value_parser = name::<BackendName>)]
        name: BackendName,
        /// In this service only. Default: in all.
        #[arg(long, value_name = "NAME", value_parser = name::<ServiceName>)]
        service: Option<ServiceName>,
        /// The new weight.
        #[arg(long, group = "change", value_parser = weight)]
        weight: Option<NonZeroU16>,
        /// The new port.
        #[arg(long, group = "change", value_parser = port)]
        port: Option<NonZeroU16>,
        /// The new owner.
        #[arg(long, group = "change")]
        owner: Option<String>,
        #[command(flatten)]
        consent: consent::Args,
    },
}

/// Parses a name by the configuration's rule.
pub(super) fn name<T: TryFrom<String, Error = String>>(text: &str) -> Result<T, String> {
    T::try_from(text.to_owned())
        .map_err(|e| format!("{e}: 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"))
}

fn port(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| "a port is a whole number from 1 to 65535".to_owned())
}

fn weight(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| {
        "a weight is a whole number from 1 to 65535; to take a server out, `rollcall backend drain` it".to_owned()
    })
}

pub(super) async fn run(context: &Context, verb: Verb) -> Outcome {
    let applied = match verb {
        Verb::List => return frozen::show(context, PATH, of_left, list).await,
        Verb::Show { name } => return show(context, &name).await,
        Verb::Add { name, addresses, services, port, weight, owner } => {
            edit(context, Edit::AddBackend { name, addresses, owner, services, port, weight }).await?
        }
        Verb::Remove { name, service, reason, consent, .. } => {
            let remove = |consent| {
                let (name, service, decommission) = (name.clone(), service.clone(), reason.clone());
                Edit::RemoveBackend { name, service, decommission, consent }
            };
            let what = format!("remove {name}");
            consent::ask(consent, &what, async |consent| edit(context, remove(consent)).await).await?
        }
        Verb::Drain(args) => return lease::take(context, LeaseKind::Drain, args).await,
        Verb::Maintenance(args) => return lease::take(context, LeaseKind::Maintenance, args).await,
        Verb::Extend(args) => return lease::extend(context, args).await,
        Verb::Restore(target) => return lease::restore(context, target).await,
        Verb::Forget(target) => return lease::forget(context, target).await,
        Verb::Set { name, service, weight, port, owner, consent } => {
            let set = |consent| {
                let (name, service, owner) = (name.clone(), service.clone(), owner.clone());
                Edit::SetBackend { name, service, weight, port, owner, consent }
            };
            let what = format!("change {name}");
            consent::ask(consent, &what, async |consent| edit(context, set(consent)).await).await?
        }
    };
    context.output.show(applied, reload::render)
}

async fn edit(context: &Context, edit: Edit) -> Result<Applied, ControlError> {
    context.client.post_json("/v1/edit", &edit).await
}

async fn show(context: &Context, name: &BackendName) -> Outcome {
    let (mut all, code) = frozen::get(context, PATH, |left| Ok(of_left(left))).await?;
    let known: Vec<_> = all.backends.iter().map(|b| b.name.to_string()).collect();
    all.backends.retain(|b| b.name == *name);
    if all.backends.is_empty() {
        return Err(ControlError::not_found("backend", name.as_str(), known.iter().map(String::as_str)));
    }
    // The journal goes further back than the daemon's memory; if it cannot be read, that is no reason to show less.
    let params = EventParams { backend: Some(name.to_string()), ..EventParams::default() };
    let history = source::events(context, &params).await.map(|found| found.events).unwrap_or_default();
    if let (Some(backend), false) = (all.backends.first_mut(), history.is_empty()) {
        backend.events = history.into_iter().filter_map(EventStatus::of).collect();
    }
    context.output.show(all, details)?;
    Ok(code)
}

fn of_left(left: &Left) -> Backends {
    Backends::new(&left.view, &left.counters)
}

fn addresses(of: &[IpAddr]) -> String {
    of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn list(backends: &Backends, paint: Paint) -> String {
    if backends.backends.is_empty() {
        return "no backends are configured\n".into();
    }
    let mut table = Table::new(["BACKEND", "ADDRESSES", "ROTATION", "SERVICES", "OWNER"])
        .narrow(Some("SERVICES"), &["OWNER", "ADDRESSES"]);
    for b in &backends.backends {
        let members = || b.services.iter().flat_map(|s| s.backends.iter().map(move |m| (s, m)));
        let (all, out) = (members().count(), members().filter(|(_, m)| !m.in_rotation).count());
        let (tone, rotation) = match (all, out) {
            (0, _) => (Tone::Dim, "in no service"),
            (_, 0) => (Tone::Good, "in"),
            (all, out) if all == out => (Tone::Bad, "OUT"),
            _ => (Tone::Warn, "in part"),
        };
        let services: Vec<_> =
            members().map(|(s, m)| format!("{}{}", s.name, if m.in_rotation { "" } else { " (out)" })).collect();
        table.row([
            b.name.as_str().into(),
            addresses(&b.addresses).into(),
            Cell::new(tone, rotation),
            services.join(", ").into(),
            b.owner.as_deref().unwrap_or_default().into(),
        ]);
    }
    table.render(0, paint)
}

fn details(backends: &Backends, paint: Paint) -> String {
    let mut out = String::new();
    for b in &backends.backends {
        let owner = b.owner.as_ref().map(|o| format!("  owner {o}")).unwrap_or_default();
        out += &format!("{}  {}{owner}\n", paint.text(Tone::Bold, b.name.as_str()), addresses(&b.addresses));
        if b.services.is_empty() {
            out += "in no service\n";
        }
        for s in &b.services {
            out.push('\n');
            out += &status::service(s, backends.time, paint);
            let hop = s.backends.first().and_then(|m| m.next_hop.as_ref());
            let hop = hop.map_or_else(
                || paint.text(Tone::Warn, "unresolved"),
                |h| format!("{} by interface {}", h.mac, h.ifindex),
            );
            out += &format!("  next hop: {hop}\n");
        }
        out += &events(&b.events, backends.time, paint);
    }
    out
}

/// The newest events, newest first; nothing if there are none.
fn events(all: &[EventStatus], now: Timestamp, paint: Paint) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut table = Table::new([">AGO", "EVENT", "SERVICE", "CAUSE"]).narrow(Some("CAUSE"), &[]);
    for e in all.iter().rev().take(EVENTS) {
        table.row([
            words::since(e.time, now).into(),
            Cell::new(words::event_tone(e.kind), words::event(e.kind)),
            e.service.as_ref().map_or("all", |s| s.as_str()).into(),
            e.cause.as_str().into(),
        ]);
    }
    format!("\nevents\n{}", table.render(2, paint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn list_of_backends_shows_each_once_with_all_its_services() {
        let backends = Backends::new(&testing::view(), &testing::counters());
        let expected = "\
BACKEND   ADDRESSES  ROTATION       SERVICES   OWNER
spare-01  10.0.0.9   in no service
web-01    10.0.0.1   in             www, dns
web-02    10.0.0.2   OUT            www (out)
web-03    10.0.0.3   in             www        shop team
";
        assert_eq!(list(&backends, Paint::PLAIN), expected);
    }

    #[test]
    fn details_of_a_backend_name_its_next_hop_or_that_there_is_none() {
        let mut backends = Backends::new(&testing::view(), &testing::counters());
        backends.backends.retain(|b| b.name.as_str().starts_with("web-0"));
        let text = details(&backends, Paint::PLAIN);
        assert!(text.contains("next hop: 02:00:00:00:00:01 by interface 2"), "{text}");
        assert!(text.contains("next hop: unresolved"), "{text}");
    }

    #[test]
    fn details_of_a_backend_end_with_its_own_events_newest_first() {
        let mut backends = Backends::new(&testing::view(), &testing::counters());
        backends.backends.retain(|b| b.name.as_str() == "web-02");
        let text = details(&backends, Paint::PLAIN);
        let (_, events) = text.split_once("\nevents\n").expect("it has events");
        let expected = "  AGO  EVENT            SERVICE  CAUSE
  4 m  OUT of rotation  www      probe failed: connection refused
  4 m  down             www      3 probes failed: connection refused
";
        assert_eq!(events, expected);

        let event = backends.backends[0].events[0].clone();
        backends.backends[0].events = vec![event; EVENTS + 1];
        assert_eq!(details(&backends, Paint::PLAIN).matches("3 probes failed").count(), EVENTS);
        backends.backends[0].events.clear();
        assert!(!details(&backends, Paint::PLAIN).contains("events"));
    }
}
