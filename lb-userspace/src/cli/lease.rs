//! `rollcall backend drain|maintenance|extend|restore|forget`: a server's absence has an owner, a reason and an end.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;

use super::backend::name;
use super::output::{Paint, Tone};
use super::{Context, Outcome, consent, risk, words};
use crate::config::model::{BackendName, ServiceName};
use crate::control::daemon::{ControlError, Duty, ErrorCode};
use crate::control::schema::{DutyDone, LeaseStatus};
use crate::core::api::{Scope, millis};
use crate::core::lease::{self, LeaseKind};

pub(super) const TAKE_HELP: &str = "\
Examples:
  rollcall backend drain web-02 --for 30m --reason 'kernel test'
  rollcall backend drain web-02 --service api --for 2h --reason 'new release' --no-recall
  rollcall backend maintenance web-02 --for 1h --reason 'new disk' --owner ada

At its end, the server is probed and takes flows again by itself; if it does not answer, that is told. A drained server \
comes back earlier if the others become too few, or can no longer carry its load (not with --no-recall).

It is refused if the others cannot carry its load, by max_flows or by what they are known to have carried.";

/// Which server, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The backend.
    #[arg(value_parser = name::<BackendName>)]
    name: BackendName,
    /// In this service only. Default: in all.
    #[arg(long, value_name = "NAME", value_parser = name::<ServiceName>)]
    service: Option<ServiceName>,
    /// Who answers for it. Default: the user who is logged in; root without a login must say.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
}

/// A lease.
#[derive(Debug, clap::Args)]
pub(super) struct Take {
    #[command(flatten)]
    target: Target,
    /// For how long, such as 30m or 1h30m; at most 72h.
    #[arg(long = "for", value_name = "TIME", default_value = "30m", value_parser = length)]
    length: Duration,
    /// Why. It is shown wherever the server is missed.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Not to be called back before the end, even if the others become too few.
    #[arg(long)]
    no_recall: bool,
    #[command(flatten)]
    consent: consent::Args,
}

/// More time.
#[derive(Debug, clap::Args)]
pub(super) struct Extend {
    #[command(flatten)]
    target: Target,
    /// How much later it is to end; 72h at most in all.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    length: Duration,
}

pub(super) fn length(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text)
        .ok_or_else(|| "a duration is whole numbers with units, such as 90s, 30m or 1h30m".to_owned())
}

impl Target {
    fn scope(&self) -> Scope {
        Scope { backend: self.name.clone(), service: self.service.clone() }
    }

    fn owner(&self) -> Option<String> {
        claimed(self.owner.clone())
    }
}

/// What the caller says of itself. Under sudo without a login session that is the user who called it.
pub(super) fn claimed(owner: Option<String>) -> Option<String> {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|t| t.trim().parse::<u32>().ok());
    let sudo = || std::env::var("SUDO_USER").ok().filter(|_| login.is_none_or(|uid| uid == u32::MAX));
    owner.or_else(sudo)
}

pub(super) async fn take(context: &Context, kind: LeaseKind, args: Take) -> Outcome {
    let Take { target, length, reason, no_recall, consent } = args;
    let consent = consent.checked()?;
    let duty = |consent, replace| Duty::Take {
        scope: target.scope(),
        kind,
        for_ms: millis(length),
        reason: reason.clone(),
        owner: target.owner(),
        recallable: !no_recall,
        consent,
        replace,
    };
    let (mut replace, mut consent) = (consent.sure, consent);
    loop {
        // Each of the two is asked once, with its own evidence.
        let e = match ask(context, &duty(consent.clone(), replace)).await {
            Err(e) if e.code == ErrorCode::Unconfirmed && !consent.sure => e,
            Err(e) if e.code == ErrorCode::Held && !replace => e,
            done => return show(context, done?),
        };
        if !std::io::stdin().is_terminal() {
            return Err(e);
        }
        consent::confirm(&e, &format!("{} {}", kind.name(), target.name))?;
        if e.code == ErrorCode::Held {
            replace = true;
        } else {
            consent.sure = true;
        }
    }
}

pub(super) async fn extend(context: &Context, args: Extend) -> Outcome {
    let (scope, owner) = (args.target.scope(), args.target.owner());
    show(context, ask(context, &Duty::Extend { scope, more_ms: millis(args.length), owner }).await?)
}

pub(super) async fn restore(context: &Context, target: Target) -> Outcome {
    let (scope, owner) = (target.scope(), target.owner());
    show(context, ask(context, &Duty::Restore { scope, owner }).await?)
}

pub(super) async fn forget(context: &Context, target: Target) -> Outcome {
    let (scope, owner) = (target.scope(), target.owner());
    show(context, ask(context, &Duty::Forget { scope, owner }).await?)
}

async fn ask(context: &Context, duty: &Duty) -> Result<DutyDone, ControlError> {
    context.client.post_json("/v1/duty", duty).await
}

fn show(context: &Context, done: DutyDone) -> Outcome {
    context.output.show(done, |done, paint| render(done, paint, Timestamp::now()))
}

pub(super) fn render(done: &DutyDone, paint: Paint, now: Timestamp) -> String {
    let mut out = String::new();
    if let Some(lease) = &done.lease {
        out += &paint.text(Tone::Warn, &in_words(lease, now));
        out.push('\n');
        let undo = lease.service.as_ref().map(|s| format!(" --service {s}")).unwrap_or_default();
        out += &format!("  bring it back earlier: rollcall backend restore {}{undo}\n", lease.backend);
    }
    if let Some(risk) = &done.risk {
        let place = risk.service.as_ref().map_or_else(|| "every service".to_owned(), |s| format!("service {s}"));
        let (left, owner) = (words::since(now, risk.ends), risk::owner(risk));
        out += &format!("{place} may be without N-1, accepted by {owner}, {left} left: {}\n", risk.reason);
    }
    for change in &done.changes {
        out += &format!("{change}\n");
    }
    out
}

/// `web-02 drained by ada, 29 m left: kernel test`.
pub(super) fn in_words(lease: &LeaseStatus, now: Timestamp) -> String {
    let place = lease.service.as_ref().map(|s| format!(" in {s}")).unwrap_or_default();
    let claimed = if lease.owner_claimed { " (claimed)" } else { "" };
    format!(
        "{}{place} {} by {}{claimed}, {}: {}",
        lease.backend,
        lease.kind.participle(),
        lease.owner,
        time_left(lease, now),
        lease.reason
    )
}

/// `12 m left`. Only without a daemon is it ever over for longer than a moment.
pub(super) fn time_left(lease: &LeaseStatus, now: Timestamp) -> String {
    if now.as_millisecond() - lease.ends.as_millisecond() < OVER_MS {
        format!("{} left", words::since(now, lease.ends))
    } else {
        format!("over for {}, not ended because the daemon is down", words::since(lease.ends, now))
    }
}

/// A running daemon ends a lease well within this time.
const OVER_MS: i64 = 3_000;

/// The default of `--for`, as the core has it.
const _: () = assert!(lease::DEFAULT.as_secs() == 30 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> LeaseStatus {
        LeaseStatus {
            backend: BackendName::new("web-02").unwrap(),
            service: None,
            kind: LeaseKind::Drain,
            owner: "ada".into(),
            owner_claimed: false,
            uid: 0,
            loginuid: Some(1000),
            reason: "kernel test".into(),
            begun: "2026-11-21T10:00:00Z".parse().unwrap(),
            ends: "2026-11-21T10:30:00Z".parse().unwrap(),
            recallable: true,
        }
    }

    #[test]
    fn render_of_a_lease_says_who_how_long_why_and_how_to_end_it() {
        let now = "2026-11-21T10:18:00Z".parse().unwrap();
        let done = DutyDone { lease: Some(lease()), risk: None, changes: vec!["more".into()] };
        let expected = "\
web-02 drained by ada, 12 m left: kernel test
  bring it back earlier: rollcall backend restore web-02
more
";
        assert_eq!(render(&done, Paint::PLAIN, now), expected);
        let narrow = LeaseStatus { service: ServiceName::new("api"), owner_claimed: true, ..lease() };
        let done = DutyDone { lease: Some(narrow), risk: None, changes: Vec::new() };
        let text = render(&done, Paint::PLAIN, now);
        assert!(text.starts_with("web-02 in api drained by ada (claimed), 12 m left"), "{text}");
        assert!(text.contains("restore web-02 --service api\n"), "{text}");
    }

    #[test]
    fn lease_that_nobody_ended_says_for_how_long_it_is_over() {
        let late = "2026-11-21T10:42:00Z".parse().unwrap();
        let expected = "web-02 drained by ada, over for 12 m, not ended because the daemon is down: kernel test";
        assert_eq!(in_words(&lease(), late), expected);
    }
}
