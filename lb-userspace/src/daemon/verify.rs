//! Comparing what others can change with what was decided: the maps, the pins, the program on the interfaces. Repairs
//! what can be repaired, and says what not.

use tokio::task::block_in_place;
use tokio::time::Instant;

use super::actor::Actor;
use super::picture::Topic;
use super::{clock, placing};
use crate::core::api::{EventKind, Input};
use crate::core::diff::diff;
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
        let meanwhile = writes != self.writes || !self.core.roll_call(clock::now()).settled;
        if !meanwhile {
            let differences = diff(&state, self.core.desired()).len();
            if differences > 0 {
                self.upkeep.drift = Some(Instant::now());
                self.picture.warn(
                    Topic::Drift,
                    format!("something else changed the maps: {differences} operations were needed to repair them"),
                );
                let cause = format!("{differences} operations are needed");
                self.picture.happened(EventKind::DriftFound, None, cause);
                self.input(Input::Maps { meta: self.plane.meta(), state, adopted: true });
                if self.core.roll_call(clock::now()).settled {
                    self.picture.happened(EventKind::DriftRepaired, None, "the maps are as decided".to_owned());
                }
            }
        }
        self.verify_pins();
        self.verify_program().await;
    }

    /// Pins cannot be put back without losing what they name; but that they are gone must be known before the restart.
    fn verify_pins(&mut self) {
        let mut missing: Vec<String> =
            block_in_place(|| self.plane.missing_pins()).into_iter().map(str::to_owned).collect();
        missing.extend(self.unpinned_links().into_iter().map(|name| format!("the link of {name}")));
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

    /// Interfaces that carry the program without a pinned link.
    fn unpinned_links(&self) -> Vec<String> {
        let interfaces = if self.placing.is_placed() { placing::interfaces(&self.running.config) } else { &[] };
        let carries = |name: &&String| matches!(block_in_place(|| self.plane.carries(name)), Ok((true, false)));
        interfaces.iter().filter(carries).cloned().collect()
    }

    async fn verify_program(&mut self) {
        let found = match block_in_place(|| self.plane.attached()) {
            Ok(found) => found,
            Err(e) => return self.picture.warn(Topic::Attach, format!("cannot see where the program is: {e}")),
        };
        if !self.placing.is_placed() {
            return;
        }
        // By the configuration and not by what was attached: putting it back may have failed before.
        let missing =
            |name: &&String| device_index(name).is_some_and(|index| !found.iter().any(|f| f.ifindex == index));
        // Where only the pin is gone there is nothing to put back; that is told with the pins.
        let carried = |name: &String| matches!(block_in_place(|| self.plane.carries(name)), Ok((true, _)));
        let interfaces = placing::interfaces(&self.running.config).iter();
        let lost: Vec<String> = interfaces.filter(missing).filter(|name| !carried(name)).cloned().collect();
        if lost.is_empty() {
            return;
        }
        let had = |attached: &[Attached], name: &String| attached.iter().any(|a| a.interface == *name);
        let taken: Vec<&str> =
            lost.iter().filter(|name| had(&self.picture.attached, name)).map(String::as_str).collect();
        if !taken.is_empty() {
            let cause = format!("something took it off {}", taken.join(" and "));
            self.picture.happened(EventKind::ProgramLost, None, cause);
        }
        self.picture.attached.retain(|a| !lost.contains(&a.interface));
        self.place_again().await;
        if !taken.is_empty() {
            // Stays to be read when the program is long back: who did it may do it again.
            self.upkeep.drift = Some(Instant::now());
            let back = lost.iter().all(|name| had(&self.picture.attached, name));
            let outcome = if back { "it was put back" } else { "it could not be put back yet" };
            let text = format!("something took the program off {}; {outcome}", taken.join(" and "));
            self.picture.warn(Topic::Detached, text);
        }
    }
}

fn device_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}
