//! Comparing what others can change with what was decided: the maps, the pins, the program on the interfaces. Repairs
//! what can be repaired, and says what not.

use tokio::task::block_in_place;
use tokio::time::Instant;

use super::actor::Actor;
use super::audit::{self, REPAIRS};
use super::picture::Topic;
use super::{clock, placing};
use crate::core::api::{EventKind, Input};
use crate::core::kernel::KernelState;
use crate::io::bpf::types::Attached;

impl Actor {
    /// Compares what the kernel holds with what was decided, and repairs.
    pub(super) async fn verified(&mut self, writes: u64, state: Result<Box<KernelState>, String>) {
        let state = match state {
            Ok(state) => state,
            Err(why) => {
                self.picture.warn(Topic::Drift, format!("the maps cannot be read back: {why}"));
                self.upkeep.drift = Some(Instant::now());
                return;
            }
        };
        if writes == self.writes && self.core.roll_call(clock::now()).settled {
            self.compare(state);
        }
        self.verify_pins();
        self.verify_program().await;
    }

    /// As each ten seconds, at once.
    pub(super) async fn verify_now(&mut self) {
        let state = block_in_place(|| self.plane.read_state()).map(Box::new).map_err(|e| e.to_string());
        self.verified(self.writes, state).await;
    }

    /// Compares maps that were read back, and repairs unless that was done too often lately.
    fn compare(&mut self, state: Box<KernelState>) {
        let found = self.core.drift(&state);
        if found.is_empty() {
            self.upkeep.auditor.told.clear();
            return self.picture.clear(Topic::Unrepaired);
        }
        let now = Instant::now();
        self.upkeep.drift = Some(now);
        // Found again and again while it is left, it is told once.
        let is_new = self.upkeep.auditor.told != found;
        if is_new {
            self.tell_of(&found, EventKind::DriftFound);
        }
        if !self.upkeep.auditor.maps.take(now) {
            let text = format!(
                "something else changed the maps again, and they were repaired {REPAIRS} times within ten minutes, so they are \
                 left: {}. Find out who writes to them, then `rollcall audit --repair`",
                audit::summary(&found)
            );
            self.picture.warn(Topic::Unrepaired, text);
            if is_new {
                self.tell_of(&found, EventKind::DriftLeft);
            }
            self.upkeep.auditor.told = found;
            return;
        }
        self.picture
            .warn(Topic::Drift, format!("something else changed the maps: {}; repaired", audit::summary(&found)));
        self.input(Input::Maps { meta: self.plane.meta(), state, adopted: true });
        // A write that fails has a warning of its own, and is tried again.
        if self.core.roll_call(clock::now()).settled {
            self.picture.clear(Topic::Unrepaired);
            self.tell_of(&found, EventKind::DriftRepaired);
        }
        self.upkeep.auditor.told.clear();
    }

    /// Pins cannot be put back without losing what they name; but that they are gone must be known before the restart.
    fn verify_pins(&mut self) {
        let missing = self.missing_pins();
        if missing.is_empty() {
            return self.picture.clear(Topic::Pins);
        }
        let dir = &self.running.config.control.pin_dir;
        let what = if dir.exists() {
            format!("someone removed pins below {}: {}", dir.display(), missing.join(", "))
        } else {
            format!("someone removed {} with all pins, or unmounted the BPF file system that holds it", dir.display())
        };
        let text = format!(
            "{what}; traffic goes on while this daemon runs, but the next start cannot take it over: plan `rollcall down` \
             and a start, which ends every connection"
        );
        self.picture.warn(Topic::Pins, text);
    }

    /// Pins of maps, programs and links that somebody removed.
    pub(super) fn missing_pins(&self) -> Vec<String> {
        let pins = block_in_place(|| self.plane.missing_pins()).into_iter().map(str::to_owned);
        pins.chain(self.unpinned_links().into_iter().map(|name| format!("the link of {name}"))).collect()
    }

    /// Interfaces that carry the program without a pinned link.
    fn unpinned_links(&self) -> Vec<String> {
        let interfaces = if self.placing.is_placed() { placing::interfaces(&self.running.config) } else { &[] };
        let carries = |name: &&String| matches!(block_in_place(|| self.plane.carries(name)), Ok((true, false)));
        interfaces.iter().filter(carries).cloned().collect()
    }

    /// Interfaces that should carry the program and do not; none if that cannot be seen.
    pub(super) fn lost(&self) -> Vec<String> {
        let Ok(found) = block_in_place(|| self.plane.attached()) else { return Vec::new() };
        if !self.placing.is_placed() {
            return Vec::new();
        }
        // By the configuration and not by what was attached: putting it back may have failed before.
        let missing =
            |name: &&String| device_index(name).is_some_and(|index| !found.iter().any(|f| f.ifindex == index));
        // Where only the pin is gone there is nothing to put back; that is told with the pins.
        let carried = |name: &String| matches!(block_in_place(|| self.plane.carries(name)), Ok((true, _)));
        let interfaces = placing::interfaces(&self.running.config).iter();
        interfaces.filter(missing).filter(|name| !carried(name)).cloned().collect()
    }

    async fn verify_program(&mut self) {
        if let Err(e) = block_in_place(|| self.plane.attached()) {
            self.upkeep.drift = Some(Instant::now());
            return self.picture.warn(Topic::Detached, format!("cannot see where the program is: {e}"));
        }
        let lost = self.lost();
        if lost.is_empty() {
            return;
        }
        let had = |attached: &[Attached], name: &String| attached.iter().any(|a| a.interface == *name);
        let left = std::mem::take(&mut self.upkeep.auditor.left);
        let taken: Vec<String> =
            (lost.iter()).filter(|name| had(&self.picture.attached, name) || left.contains(*name)).cloned().collect();
        self.picture.attached.retain(|a| !lost.contains(&a.interface));
        let what = "the program was taken off";
        let is_new = taken.iter().any(|name| !left.contains(name));
        if is_new {
            self.tell_of_interfaces(&taken, what, EventKind::DriftFound);
        }
        let (now, names) = (Instant::now(), taken.join(" and "));
        if !taken.is_empty() && !self.upkeep.auditor.program.take(now) {
            let text = format!(
                "something took the program off {names} again, and it was put back {REPAIRS} times within ten minutes, so it is \
                 left: nothing is balanced there. Find out who takes it off, then `rollcall audit --repair`"
            );
            self.picture.warn(Topic::Attach, text);
            if is_new {
                self.tell_of_interfaces(&taken, what, EventKind::DriftLeft);
            }
            self.upkeep.auditor.left = taken.into_iter().collect();
            return;
        }
        self.place_again().await;
        if !taken.is_empty() {
            // Stays to be read when the program is long back: who did it may do it again.
            self.upkeep.drift = Some(now);
            let back = lost.iter().all(|name| had(&self.picture.attached, name));
            let outcome = if back { "it was put back" } else { "it could not be put back yet" };
            self.picture.warn(Topic::Detached, format!("something took the program off {names}; {outcome}"));
            if back {
                self.tell_of_interfaces(&taken, what, EventKind::DriftRepaired);
            }
        }
    }
}

fn device_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}
