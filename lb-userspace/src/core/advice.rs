//! What servers' own agents advise (HAProxy's agent-check), as the core follows it: a fourth fact beside intent, health and
//! memory.
//!
//! A percentage or a word such as `down` lowers the weight; `drain` and `maint` become a lease of `agent@SERVER`, which
//! `ready` ends. Advice never overrides a probe, nor anybody else's lease, and an agent gone silent advises nothing: what it
//! once took down does not stay down for ever.

use std::sync::Arc;

use super::Core;
use super::api::{EventKind, Output, Scope, SilentAgent, Store, Time, millis};
use super::capacity::Consent;
use super::lease::{Asked, DEFAULT, Lease, LeaseKind, Owner, agent_of};
use super::memory::advice::{Advice, Intent};
use crate::config::memory::AgentCheck;
use crate::config::model::{BackendName, Config};

/// So many intervals without an answer void an agent's advice.
const SILENT_AFTER: u32 = 3;
/// User id of nobody in particular: an agent is no user of this host.
const NO_UID: u32 = u32::MAX;

/// A server whose agent is asked.
#[derive(Debug)]
pub struct Asking {
    check: Arc<AgentCheck>,
    /// When it is asked next, CLOCK_BOOTTIME ms.
    at_ms: u64,
    /// The question under way.
    open: Option<u64>,
    /// When it answered last; before its first answer, when it was first to be asked.
    answered: Time,
    /// Whether it ever answered.
    heard: bool,
    /// Whether it has been silent for too long, as people were told.
    silent: bool,
    /// Why the last question had no answer.
    error: Option<String>,
    /// What holds.
    advice: Advice,
    /// The wish that was acted on. It is not acted on again before the agent has said something else, so that a recall is
    /// not undone at once.
    acted: Option<Intent>,
    /// The wish that was refused, as people were told.
    refused: Option<Intent>,
}

impl Core {
    /// Asks the agents of the configuration's servers from now on.
    pub(super) fn follow_agents(&mut self, config: &Config) {
        let mut old = std::mem::take(&mut self.asked);
        self.question_due.clear();
        for backend in config.backends.values() {
            let Some(check) = backend.agent_check else { continue };
            let now_ms = self.now.boot_ms;
            let kept = old.remove(&backend.name).filter(|a| a.check.to == check.to);
            let asking = kept.map_or_else(
                || Asking {
                    check: Arc::new(check),
                    at_ms: now_ms,
                    open: None,
                    answered: self.now,
                    heard: false,
                    silent: false,
                    error: None,
                    advice: Advice::default(),
                    acted: None,
                    refused: None,
                },
                |asking| Asking {
                    check: Arc::new(check),
                    at_ms: asking.at_ms.min(now_ms + millis(check.interval)),
                    ..asking
                },
            );
            self.question_due.insert((asking.at_ms, backend.name.clone()));
            self.asked.insert(backend.name.clone(), asking);
        }
    }

    /// Asks whoever is to be asked now, and gives up the advice of agents gone silent.
    pub(super) fn run_agents(&mut self) {
        let now = self.now;
        while self.question_due.first().is_some_and(|(at, _)| *at <= now.boot_ms) {
            let Some((_, name)) = self.question_due.pop_first() else { break };
            let Some(asking) = self.asked.get_mut(&name) else { continue };
            self.last_reading += 1;
            asking.open = Some(self.last_reading);
            asking.at_ms = now.boot_ms.saturating_add(millis(asking.check.interval).max(1));
            self.question_due.insert((asking.at_ms, name.clone()));
            let (id, check) = (self.last_reading, asking.check.clone());
            self.outputs.push_back(Output::AskAgent { backend: name.clone(), id, check });
            let limit = millis(asking.check.interval).saturating_mul(SILENT_AFTER.into());
            let quiet_ms = now.boot_ms.saturating_sub(asking.answered.boot_ms);
            if quiet_ms <= limit || std::mem::replace(&mut asking.silent, true) {
                continue;
            }
            asking.advice = Advice::default();
            let why = asking.error.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let cause = if asking.heard {
                format!("its agent no longer answers{why}: what it last advised no longer counts")
            } else {
                format!(
                    "its agent has not answered once in {} s{why}: what it would advise is not known",
                    quiet_ms / 1000
                )
            };
            let scope = Scope { backend: name, service: None };
            self.event_of(&scope, EventKind::AdviceSilent, cause);
            self.mark_dirty(&scope);
        }
    }

    /// Agents that do not answer, each with since when, and why.
    pub(super) fn silent_agents(&self, now: Time) -> Vec<SilentAgent> {
        let silent = self.asked.iter().filter(|(_, asking)| asking.silent);
        silent
            .map(|(backend, asking)| SilentAgent {
                backend: backend.clone(),
                since: asking.answered.seen_at(now),
                why: asking.error.clone().unwrap_or_else(|| "no answer".to_owned()),
            })
            .collect()
    }

    /// Takes an agent's answer.
    pub(super) fn take_advice(&mut self, backend: &BackendName, id: u64, result: Result<Advice, String>) {
        let Some(asking) = self.asked.get_mut(backend) else { return };
        if asking.open.take_if(|open| *open == id).is_none() {
            return;
        }
        let new = match result {
            Ok(new) => new,
            Err(why) => return asking.error = Some(why),
        };
        (asking.answered, asking.heard, asking.error) = (self.now, true, None);
        let back = std::mem::replace(&mut asking.silent, false);
        // What an agent does not mention is not changed.
        let old = asking.advice.clone();
        let mut next = Advice { message: new.message, unknown: None, max_connections: None, ..old.clone() };
        next.percent = new.percent.or(next.percent);
        next.state = new.state.or(next.state);
        next.intent = new.intent.or(next.intent);
        let intent = next.intent.filter(|intent| asking.acted != Some(*intent));
        let changed = (next.percent, next.state) != (old.percent, old.state);
        asking.advice = next;
        let scope = Scope { backend: backend.clone(), service: None };
        if changed || back {
            let text = self.advised(backend).map_or_else(|| "nothing against it".to_owned(), |(_, why)| why);
            self.event_of(&scope, EventKind::Advised, text);
            self.mark_dirty(&scope);
        }
        match intent {
            Some(intent) => self.act_on(&scope, intent),
            None => self.renew(&scope),
        }
    }

    /// An agent that goes on saying the same keeps its lease: between two leases, flows would go to the server.
    fn renew(&mut self, scope: &Scope) {
        let Some(asking) = self.asked.get(&scope.backend) else { return };
        let wanted = matches!(asking.acted, Some(Intent::Drain | Intent::Maintenance));
        let soon = self.now + asking.check.interval * SILENT_AFTER;
        let own = |l: &Lease| l.owner.name == agent_of(&scope.backend) && l.ends.boot_ms <= soon.boot_ms;
        if !wanted || !self.leases.get(scope).is_some_and(own) {
            return;
        }
        // Refused at the end of the longest lease: then it ends, which is told.
        if let Ok(lease) = self.extended(scope, DEFAULT) {
            self.outputs.push_back(Output::Store(Store::PutLease(lease.clone())));
            self.take_lease(lease, &agent_of(&scope.backend));
        }
    }

    fn act_on(&mut self, scope: &Scope, intent: Intent) {
        let Some(asking) = self.asked.get_mut(&scope.backend) else { return };
        asking.acted = Some(intent);
        asking.refused.take_if(|refused| *refused != intent);
        let why = asking.advice.message.clone().unwrap_or_else(|| "advised by its agent".to_owned());
        let name = agent_of(&scope.backend);
        let own = self.leases.get(scope).map(|lease| lease.owner.name == name);
        let kind = match intent {
            Intent::Ready if own == Some(true) => return self.restore(scope, name),
            Intent::Ready => return,
            Intent::Drain => LeaseKind::Drain,
            Intent::Maintenance => LeaseKind::Maintenance,
        };
        if own == Some(false) {
            // Somebody else took it out already. When that is over, the wish counts.
            if let Some(asking) = self.asked.get_mut(&scope.backend) {
                asking.acted = None;
            }
            return;
        }
        let asked = Asked {
            scope: scope.clone(),
            kind,
            length: DEFAULT,
            owner: Owner { name, claimed: false, uid: NO_UID, loginuid: None },
            reason: why,
            recallable: true,
            consent: Consent::sure(),
            replace: false,
        };
        match self.grant(asked, &self.boot_id, self.now) {
            Ok(lease) => {
                self.outputs.push_back(Output::Store(Store::PutLease(lease.clone())));
                self.take_lease(lease, &agent_of(&scope.backend));
            }
            Err(refusal) => {
                // Asked again with the next answer, told once.
                let Some(asking) = self.asked.get_mut(&scope.backend) else { return };
                asking.acted = None;
                if asking.refused.replace(intent) == Some(intent) {
                    return;
                }
                let cause = format!("its agent wants a {}, which is not granted: {refusal}", kind.name());
                self.event_of(scope, EventKind::Advised, cause);
            }
        }
    }

    /// After the end of an agent's lease: the same wish may be acted on again.
    pub(super) fn forget_wish(&mut self, scope: &Scope) {
        if let Some(asking) = self.asked.get_mut(&scope.backend) {
            asking.acted = None;
        }
    }

    /// Per cent of its weight that a server's agent advises, and its words, if that is less than all.
    pub(super) fn advised(&self, backend: &BackendName) -> Option<(u32, String)> {
        let advice = &self.asked.get(backend)?.advice;
        let said = advice.message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default();
        if let Some(state) = advice.state.filter(|state| state.is_down()) {
            return Some((0, format!("its agent says {}{said}", format!("{state:?}").to_lowercase())));
        }
        let percent = advice.percent.filter(|p| *p < 100)?;
        Some((percent.into(), format!("its agent advises {percent} % of its weight{said}")))
    }

    /// When the next agent is asked, CLOCK_BOOTTIME ms.
    pub(super) fn next_question(&self) -> Option<u64> {
        self.question_due.first().map(|(at, _)| *at)
    }
}
