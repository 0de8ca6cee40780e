//! The control socket: HTTP with JSON over a unix socket, and the schemas of what it answers.

pub mod daemon;
