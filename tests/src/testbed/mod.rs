//! A testbed on one machine: network namespaces joined by veth pairs and bridges, real servers, the real daemon, and load.
//!
//! Used by the namespace tests, by the demo and by the drill. It knows the product only from outside: its binary, its configuration
//! file and its JSON; [`kernel`] alone reads the pinned maps, to hold them against that JSON. Functions here
//! panic with a full sentence where a test could only fail anyway; demo and drill turn such a panic into one line.

pub mod bed;
pub mod cgroup;
pub mod download;
pub mod interrupt;
pub mod kernel;
pub mod limits;
pub mod load;
pub mod netns;
pub mod nginx;
pub mod pattern;
pub mod poll;
pub mod process;
pub mod receiver;
pub mod rollcall;
pub mod scratch;
pub mod tunnel;
pub mod udp;
pub mod xdp_pass;
