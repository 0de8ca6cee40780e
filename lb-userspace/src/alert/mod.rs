//! Alerts: what is wrong now, whom that concerns, and who is to be told when.
//!
//! As pure as the core, and held so by the same lint: [`conditions()`] reads the daemon's published picture, the
//! [`Tracker`] decides over time what fires, what is over and which route is due. Sending is `io::notify`'s; the clock and
//! the file that outlives the daemon are `daemon::alerts`'.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod ack;
mod board;
mod condition;
mod conditions;
mod message;
mod schedule;
mod signals;
mod tracker;

pub use ack::{Ack, AckAsked, AckRefusal, DEFAULT as ACK_DEFAULT};
pub use board::{Board, Firing, RouteState, Told};
pub use condition::{Condition, Kind};
pub use conditions::{Load, conditions};
pub use message::{Message, Status};
pub use signals::{Counted, Signals};
pub use tracker::{Acknowledgement, Change, Delivery, Outcome, Saved, Tracker};
