//! Memory of the servers: what samples say, and what follows for weights.
//!
//! The third fact beside intent and health, never merged with them: see [`super::weight`].

pub mod advice;
pub mod sample;
