//! Memory of the servers: what samples say, and what follows for weights.
//!
//! The third fact beside intent and health, never merged with them: see [`super::weight`]. [`tracker`] concludes the fact
//! from samples, [`shed`] the factor of a weight from the facts of a whole pool, [`forecast`] when memory ends. Who
//! fetches samples, and what an alarm does, is decided elsewhere.

pub mod advice;
pub mod forecast;
#[cfg(test)]
pub(super) mod models;
pub mod sample;
pub mod shed;
pub mod theil_sen;
pub mod thresholds;
pub mod tracker;
mod window;
