//! Changes that people ask for: reload, edit, down. Each either happens as a whole or changes nothing and says why.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::block_in_place;

use super::actor::{Actor, Flow};
use super::boot::Running;
use super::error::system;
use super::handle::Request;
use super::leases::refused;
use super::picture::Topic;
use super::revise::Change;
use super::{clock, file, host, who};
use crate::config::{self, model::Config, model::ConfigOwner};
use crate::control::daemon::{self, ControlError, Edit, ErrorCode, Outcome};
use crate::core::api::{Event, EventKind, Input, Scope};
use crate::io::bpf::DataPlane;

/// How long a change may take to reach the kernel before its answer says that it is still under way.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// Changes that an event of a revision lists.
const CHANGES_TOLD: usize = 20;

impl Actor {
    /// Carries a request out and answers it.
    pub(super) async fn request(&mut self, request: Request) -> Flow {
        // The peer may have hung up; what was done is done.
        match request {
            Request::Reload(by, reply) => {
                let outcome = self.reload(Some(by)).await;
                self.publish();
                let _ = reply.send(outcome);
                Flow::Run
            }
            Request::Edit(edit, by, reply) => {
                let outcome = self.edit(&edit, by).await;
                self.publish();
                let _ = reply.send(outcome);
                Flow::Run
            }
            Request::Duty(duty, by, reply) => {
                let outcome = self.duty(duty, by).await;
                self.publish();
                let _ = reply.send(outcome);
                Flow::Run
            }
            Request::Audit(repair, reply) => {
                let report = self.audit(repair).await;
                self.publish();
                let _ = reply.send(report);
                Flow::Run
            }
            Request::Down(by, reply) => {
                tracing::warn!(uid = by.uid, loginuid = by.loginuid, "taking the data plane down, as asked");
                let done = self.take_down().await;
                let flow = if done.is_ok() { Flow::Stop } else { Flow::Run };
                if done.is_ok() {
                    let by = who::name(Some(&by));
                    let cause = format!("by {by}, and the data plane was taken down");
                    self.picture.happened(EventKind::DaemonStopped, Some(&by), cause);
                }
                let _ = reply.send(done);
                flow
            }
        }
    }

    /// Reads the file and runs it.
    pub(super) async fn reload(&mut self, by: Option<daemon::Actor>) -> Result<Outcome, ControlError> {
        let loaded = block_in_place(|| config::load(self.journal.path())).map_err(|e| {
            ControlError::new(ErrorCode::Config, e.to_string())
                .with_hint("correct the file and reload again; what ran before still runs")
        })?;
        let change = Change::new(loaded.text, by, "reload");
        let outcome = self.change(loaded.config, change, Target::Running).await?;
        self.picture.clear(Topic::BadFile);
        self.picture.file_differs = false;
        Ok(outcome)
    }

    /// Changes file and running state together.
    async fn edit(&mut self, edit: &Edit, by: daemon::Actor) -> Result<Outcome, ControlError> {
        let path = self.journal.path().to_owned();
        if self.running.config.owner != ConfigOwner::Cli {
            return Err(ControlError::new(
                ErrorCode::Conflict,
                format!("{} has config_owner = \"external\": something else writes it", path.display()),
            )
            .with_hint("change it there and run `rollcall reload`, or set config_owner = \"cli\""));
        }
        if block_in_place(|| file::digest(&path)).as_deref() != Some(self.running.sha256.as_str()) {
            return Err(ControlError::new(
                ErrorCode::Conflict,
                format!("{} differs from what runs: someone changed it since it was last applied", path.display()),
            )
            .with_hint("apply it with `rollcall reload`, then repeat the edit"));
        }
        let overrode = self.ask_guard(edit)?;
        let text = config::edit::apply(&self.running.text, edit)?;
        let config = config::parse(&text, &path).map_err(|e| {
            ControlError::new(ErrorCode::Config, format!("the configuration would be wrong: {e}"))
                .with_hint("change the request; the file was not touched")
        })?;
        let mut change = Change::new(text, Some(by), &cause(edit));
        if let Edit::RemoveBackend { name, service: None, decommission: Some(why), .. } = edit {
            change.decommissioned.insert(name.clone(), why.clone());
        }
        let by = who::name(change.by.as_ref());
        let done = self.change(config, change, Target::FileAndRunning).await?;
        if let Some((scope, why)) = overrode {
            let (backend, service, cause) = (Some(scope.backend), scope.service, format!("by {by}: {why}"));
            let (time, kind) = (clock::now(), EventKind::GuardOverridden);
            self.picture.record(Event { time, backend, service, kind, by: Some(by), cause });
        }
        Ok(done)
    }

    /// Whether the others can carry what an edit leaves to them; what was overridden, and where.
    fn ask_guard(&mut self, edit: &Edit) -> Result<Option<(Scope, String)>, ControlError> {
        let (scope, weight, consent) = match edit {
            Edit::RemoveBackend { name, service, consent, .. } => {
                (Scope { backend: name.clone(), service: service.clone() }, None, consent)
            }
            Edit::SetBackend { name, service, weight: Some(weight), consent, .. } => {
                (Scope { backend: name.clone(), service: service.clone() }, Some(*weight), consent)
            }
            Edit::SetBackend { .. } | Edit::AddBackend { .. } => return Ok(None),
        };
        self.input(Input::Tick);
        let overrode = self.core.check_edit(&scope, weight, consent).map_err(refused)?;
        Ok(overrode.map(|why| (scope, why)))
    }

    /// The one way from a configuration to the next.
    async fn change(&mut self, new: Config, change: Change, target: Target) -> Result<Outcome, ControlError> {
        let old = self.running.clone();
        let sha256 = config::sha256(&change.text);
        if sha256 == old.sha256 {
            return Ok(Outcome { revision: old.revision.unwrap_or(0), changes: Vec::new() });
        }
        let fixed = config::diff::needs_recreate(&old.config, &new);
        if !fixed.is_empty() {
            return Err(ControlError::new(
                ErrorCode::Config,
                format!("these cannot change while the data plane is up: {}", fixed.join("; ")),
            )
            .with_hint("set them back, or `rollcall down` (flows are lost) and start again"));
        }
        host::check_interfaces(&new, Some(&old.config))?;
        let mut changes = config::diff::describe(&old.config, &new);
        let later = config::diff::needs_restart(&old.config, &new);
        changes.extend(later.into_iter().map(|key| format!("{key}: takes effect when the daemon starts again")));
        if target == Target::FileAndRunning {
            changes.extend(block_in_place(|| self.journal.write(&old.sha256, &change))?);
        }
        let new = Arc::new(new);
        match self.switch(&old.config, &new, &change).await {
            Ok(problems) => changes.extend(problems.into_iter().map(|why| format!("not in force: {why}"))),
            Err(e) => {
                if target == Target::FileAndRunning
                    && let Err(stuck) = block_in_place(|| self.journal.revert(&old.text))
                {
                    return Err(ControlError::new(e.code, format!("{e}; what ran before still runs, but {stuck}"))
                        .with_hint(
                            "the file differs from what runs: put the old text back, or mend the cause and `rollcall \
                             reload`",
                        ));
                }
                return Err(e);
            }
        }
        self.running = Running { config: new, text: change.text.as_str().into(), sha256, revision: old.revision };
        let (by, cause) = (who::name(change.by.as_ref()), change.cause.clone());
        self.record(change);
        self.applied(&by, &cause, &changes);
        if !self.settle(SETTLE).await {
            changes.push("not yet in the kernel, see the warnings of `rollcall status`; it is tried again".to_owned());
        }
        let leaving = self.core.leaving_addresses().iter();
        changes.extend(leaving.map(|ip| format!("source address {ip}: stays until no flow uses it")));
        Ok(Outcome { revision: self.running.revision.unwrap_or(0), changes })
    }

    /// Tells the journal which configuration runs.
    pub(super) fn applied(&mut self, by: &str, how: &str, changes: &[String]) {
        let revision = self.running.revision.map_or("not recorded yet".to_owned(), |id| format!("revision {id}"));
        let mut cause = format!("{revision} by {by} ({how})");
        for (n, change) in changes.iter().take(CHANGES_TOLD).enumerate() {
            cause += if n == 0 { ": " } else { "; " };
            cause += change;
        }
        if changes.len() > CHANGES_TOLD {
            cause += &format!("; and {} more", changes.len() - CHANGES_TOLD);
        }
        self.picture.happened(EventKind::RevisionApplied, Some(by), cause);
    }

    /// Lets the core and the interfaces follow `new`; back to `old` if the program cannot. Returns what is wrong with the
    /// addresses.
    async fn switch(
        &mut self,
        old: &Arc<Config>,
        new: &Arc<Config>,
        change: &Change,
    ) -> Result<Vec<String>, ControlError> {
        let removed = self.core.roll_call(clock::now()).removed;
        self.input(Input::Configure(new.clone(), change.author()));
        self.settle(SETTLE).await;
        let e = match self.follow(old, new).await {
            Ok(problems) => return Ok(problems),
            Err(e) => e,
        };
        self.input(Input::Revert { config: old.clone(), removed, by: change.author() });
        self.settle(SETTLE).await;
        if let Err(again) = self.follow(new, old).await {
            self.picture.warn(Topic::Attach, format!("cannot return to the former interfaces: {again}"));
        }
        Err(e)
    }

    async fn take_down(&mut self) -> Result<(), ControlError> {
        self.release_addresses().await;
        let pin_dir = self.running.config.control.pin_dir.clone();
        block_in_place(|| DataPlane::remove(&pin_dir))
            .map_err(|e| system(format!("the data plane is not wholly down: {e}")).with_hint("repeat `rollcall down`"))
    }
}

/// What a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The file already says so.
    Running,
    /// The file is to say so too.
    FileAndRunning,
}

fn cause(edit: &Edit) -> String {
    let on = |service: &Option<_>| service.as_ref().map(|s| format!(" in {s}")).unwrap_or_default();
    match edit {
        Edit::AddBackend { name, services, .. } => {
            let services: Vec<&str> = services.iter().map(|s| s.as_str()).collect();
            format!("backend add {name} to {}", services.join(", "))
        }
        Edit::RemoveBackend { name, service, .. } => format!("backend remove {name}{}", on(service)),
        Edit::SetBackend { name, service, .. } => format!("backend set {name}{}", on(service)),
    }
}
