//! The real daemon where something goes wrong: bad files, crashes in the middle of an edit, other programs, foreign
//! hands in the maps. What it does with traffic is the namespace tests' subject.

mod acks;
mod alerts;
mod boot;
mod capacity;
mod conflict;
mod deadman;
mod edits;
mod interfaces;
mod journal;
mod kills;
mod leases;
mod leaving;
mod memory;
mod process;
mod record;
mod repair;
mod stage;
mod start;
mod tiers;
mod trace;
mod watch;
