//! One configured member with everything that is known of it.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::api::Time;
use super::health::{Origin, Tracker};
use super::kernel::MemberId;
use super::ramp::Ramp;
use super::reason::Reason;
use crate::config::model::{Listen, Probe};

/// What stays the same while a member is the same, whatever names the file gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The service's key.
    pub listen: Listen,
    /// The backend's address in the service's family.
    pub address: IpAddr,
    /// Its port.
    pub port: NonZeroU16,
}

/// A configured member.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Who it is.
    pub endpoint: Endpoint,
    /// Configured weight.
    pub weight: NonZeroU16,
    /// How it is probed, if at all.
    pub probe: Option<Arc<Probe>>,
    /// What probes say.
    pub health: Tracker,
    /// Kept in rotation although down, because the edge is suspected.
    pub held: bool,
    /// Since when a lease is over and no probe that began later has succeeded yet.
    pub returning: Option<Time>,
    /// Whether a probe has failed since.
    pub return_failed: bool,
    /// Its id in the kernel, once planned.
    pub id: Option<MemberId>,
    /// Effective weight apart from what is shed for memory, 1/256.
    pub unshed: u32,
    /// Effective weight, 1/256.
    pub effective: u32,
    /// Why it is lowered.
    pub reasons: Vec<Reason>,
    /// Of the backup tier, and nothing else keeps it out.
    pub stands_by: bool,
    /// Whether it takes new flows, as far as weights go; at a start, until that is decided, as it was before.
    pub admitted: bool,
    /// When it last came to do so; `None`: it did from the start.
    pub entered: Option<Time>,
    /// On its way to its full weight.
    pub ramp: Option<Ramp>,
    /// Whether the live table has slots of it.
    pub in_rotation: bool,
    /// Since when.
    pub since: Time,
    /// Why, in words.
    pub why: String,
    /// If it was taken out: since when it has had no flow.
    pub empty_since: Option<Time>,
}

impl Watched {
    /// A member that is configured from `now` on.
    pub fn new(endpoint: Endpoint, weight: NonZeroU16, probe: Option<Arc<Probe>>, origin: Origin, now: Time) -> Self {
        let health = Tracker::new(if probe.is_some() { origin } else { Origin::Unprobed });
        Self {
            endpoint,
            weight,
            probe,
            health,
            held: false,
            returning: None,
            return_failed: false,
            id: None,
            unshed: 0,
            effective: 0,
            reasons: Vec::new(),
            stands_by: false,
            admitted: origin == Origin::Cold,
            entered: None,
            ramp: None,
            in_rotation: false,
            since: now,
            why: String::new(),
            empty_since: None,
        }
    }
}
