//! The real program on crafted packets, by `BPF_PROG_TEST_RUN`: `{maps, packet in} -> {verdict, packet out, counter}`.

mod affinity;
mod chance;
mod direct;
mod echo;
mod errors;
mod expired;
mod findings;
mod fragments;
mod least_conn;
mod limits;
mod malformed;
mod pass;
mod races;
mod reasons;
mod select;
mod tags;
mod tcp;
mod udp;
