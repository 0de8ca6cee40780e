//! Taking down what a daemon that no longer runs left behind: the addresses it added, its data plane, its socket.
//!
//! In the order in which a running daemon does it: first nobody asks for the addresses any more, then the program goes.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use tokio::sync::mpsc;

use super::error::system;
use super::lock::{InstanceLock, PinLock};
use super::revise::unusable;
use crate::control::daemon::ControlError;
use crate::io::bpf::DataPlane;
use crate::io::net::{self, Placement};
use crate::io::state::State;

/// Removes all of it; returns what could not be removed, in words. Refused while any daemon holds a lock.
pub async fn remove(pin_dir: &Path, state_dir: &Path, socket: &Path) -> Result<Vec<String>, ControlError> {
    let _state = if state_dir.exists() { Some(InstanceLock::take(state_dir)?) } else { None };
    let _pins = PinLock::take(pin_dir)?;
    let mut left = Vec::new();
    if state_dir.join("state.db").exists() {
        let mut state = State::open(state_dir).map_err(unusable)?;
        left = addresses(&mut state).await?;
    }
    DataPlane::remove(pin_dir).map_err(|e| {
        system(format!("cannot remove the data plane at {}: {e}", pin_dir.display())).with_hint("run it as root")
    })?;
    let is_socket = std::fs::symlink_metadata(socket).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && let Err(e) = std::fs::remove_file(socket) {
        left.push(format!("{}: {e}", socket.display()));
    }
    Ok(left)
}

/// Removes the addresses that the daemon added, and forgets those that are gone.
async fn addresses(state: &mut State) -> Result<Vec<String>, ControlError> {
    let ours: BTreeSet<Placement> = state.addresses().map_err(unusable)?.into_iter().collect();
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    // Of no interface: nothing is watched, and nobody reads events.
    let (events, _unread) = mpsc::channel(1);
    let net = net::spawn(Vec::new(), events).map_err(system)?;
    let (left, still) = match net.manage_addresses([], ours.iter().cloned()).await {
        Ok(managed) => {
            let left = managed.failed.iter().map(|(address, why)| format!("{address}: {why}")).collect();
            (left, managed.ours)
        }
        Err(e) => (vec![format!("the addresses that the daemon added: {e}")], ours),
    };
    state.set_addresses(&still.into_iter().collect::<Vec<_>>()).map_err(unusable)?;
    Ok(left)
}
