//! `rollcall service list|show`.

use super::output::{Paint, Tone};
use super::table::{Cell, Table};
use super::{Context, Outcome, frozen, status};
use crate::config::model::ServiceName;
use crate::control::daemon::ControlError;
use crate::control::schema::Services;
use crate::daemon::frozen::Left;

/// What to do with services.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// All services, one line each.
    List,
    /// One service with its backends.
    Show {
        /// The service.
        #[arg(value_parser = super::backend::name::<ServiceName>)]
        name: ServiceName,
    },
}

pub(super) async fn run(context: &Context, verb: Verb) -> Outcome {
    let of_left = |left: &Left| Ok(Services::new(&left.view, &left.counters));
    let (mut services, code) = frozen::get(context, "/v1/services", of_left).await?;
    match verb {
        Verb::List => context.output.show(services, list)?,
        Verb::Show { name } => {
            let known: Vec<_> = services.services.iter().map(|s| s.name.to_string()).collect();
            services.services.retain(|s| s.name == name);
            if services.services.is_empty() {
                return Err(ControlError::not_found("service", name.as_str(), known.iter().map(String::as_str)));
            }
            context.output.show(services, |found, paint| {
                found.services.iter().map(|s| status::service(s, found.time, paint)).collect()
            })?
        }
    };
    Ok(code)
}

fn list(services: &Services, paint: Paint) -> String {
    if services.services.is_empty() {
        return "no services are configured\n".into();
    }
    let mut table = Table::new(["SERVICE", "LISTEN", "IN ROTATION", "OWNER"]).narrow(Some("OWNER"), &["LISTEN"]);
    for s in &services.services {
        let all = s.backends.iter().filter(|b| !b.standby).count();
        let tone = match s.in_rotation {
            0 => Tone::Bad,
            n if n < all => Tone::Warn,
            _ => Tone::Good,
        };
        table.row([
            s.name.as_str().into(),
            status::listener(s).into(),
            Cell::new(tone, format!("{} of {all}", s.in_rotation)),
            s.owner.as_deref().unwrap_or_default().into(),
        ]);
    }
    table.render(0, paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn list_of_services_shows_how_many_are_in() {
        let services = Services::new(&testing::view(), &testing::counters());
        let expected = "\
SERVICE  LISTEN                    IN ROTATION  OWNER
www      192.0.2.10:80/tcp maglev  2 of 3       web team
dns      192.0.2.10:53/udp maglev  1 of 1       web team
";
        assert_eq!(list(&services, Paint::PLAIN), expected);
    }
}
