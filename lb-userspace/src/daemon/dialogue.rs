//! What passes between the actor and the core: inputs go in, and what comes out is carried out at once, in order.
//!
//! Owns the order and the times of inputs; what they mean is the core's, when they come the actor's.

use tokio::task::block_in_place;

use super::actor::{Actor, Flow};
use super::picture::Topic;
use super::{clock, crash};
use crate::core::api::{Input, Output, Time};
use crate::core::kernel::MapOp;

impl Actor {
    /// Gives the core an input and carries out what it answers.
    pub(super) fn input(&mut self, input: Input) -> Flow {
        self.tell(input);
        self.obey()
    }

    /// Gives the core an input. Answers of probes that wait go first, each at the time at which it came: however long
    /// something kept this task, the core must not take that for silence.
    pub(super) fn tell(&mut self, input: Input) {
        self.tell_probed();
        self.tell_at(clock::now(), input);
    }

    pub(super) fn tell_probed(&mut self) {
        while let Ok(probed) = self.probed.try_recv() {
            self.tell_at(probed.ended, probed.input);
        }
    }

    pub(super) fn tell_at(&mut self, time: Time, input: Input) {
        if time.boot_ms >= self.told.boot_ms {
            self.told = time;
        }
        self.core.handle(input, self.told);
    }

    /// Carries out what the core wants.
    pub(super) fn obey(&mut self) -> Flow {
        let writes = self.writes;
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Apply { id, ops } => self.apply(id, &ops),
                Output::Probe { member, id, address, port, probe } => {
                    self.prober.start(member, id, address, port, probe);
                }
                Output::Resolve(addresses) => {
                    self.net.handle.resolve(addresses.clone());
                    self.resolving = addresses;
                }
                Output::ReadMemory { backend, id, source } => self.prober.read_memory(backend, id, source),
                Output::AskAgent { backend, id, check } => self.prober.ask_agent(backend, id, check),
                Output::Store(store) => self.store(store),
                Output::Event(event) => self.picture.record(event),
            }
        }
        match self.core.shortages() {
            [] => self.picture.clear(Topic::Shortage),
            shortages => self.picture.warn(Topic::Shortage, shortages.join("; ")),
        }
        // A release build checks with each read-back alone: reading the roll call costs more than most inputs.
        if cfg!(debug_assertions) && self.writes != writes {
            self.check_core();
        }
        Flow::Run
    }

    /// Checks what must hold between any two inputs.
    pub(super) fn check_core(&mut self) {
        let outcome =
            if crash::fails("invariant") { Err("told to fail".to_owned()) } else { self.core.check_invariants() };
        self.picture.checked(outcome);
    }

    fn apply(&mut self, id: u64, ops: &[MapOp]) {
        self.writes += 1;
        let result = if crash::fails("apply") {
            Err("told to fail".to_owned())
        } else {
            block_in_place(|| ops.iter().try_for_each(|op| self.plane.apply(op))).map_err(|e| e.to_string())
        };
        match &result {
            Ok(()) => self.picture.clear(Topic::Apply),
            Err(why) => {
                self.picture
                    .warn(Topic::Apply, format!("the kernel refused a change of the maps, which is retried: {why}"));
                self.blind = true;
            }
        }
        self.tell(Input::Applied { id, result });
        self.look_if_blind();
    }

    /// After a failed write nobody knows what the maps hold: reads them, and lets the core begin from there. The core
    /// paces the attempts; if even reading fails, the next second tries again.
    pub(super) fn look_if_blind(&mut self) {
        if !self.blind {
            return;
        }
        match block_in_place(|| self.plane.read_state()) {
            Ok(state) => {
                self.blind = false;
                self.tell(Input::Maps { meta: self.plane.meta(), state: Box::new(state), adopted: true });
            }
            Err(e) => {
                self.picture.warn(Topic::Apply, format!("the maps cannot be read back after a failed write: {e}"))
            }
        }
    }
}
