//! See `tests/inputs/targets.rs`.
#![no_main]

nats_blocking_fuzz::fuzz!("client_ops");
