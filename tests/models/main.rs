//! I1, models: the queues and tables of the library, and a whole connection, run under every order
//! of their threads in which at most two of them are interrupted (loom), or three in the long tier.
//!
//! A program without the test harness, because a deadlock that loom finds ends its process: each
//! model and each control runs in a process of its own. A control is a model with a fault planted
//! in the library (lost wake-ups of one file) or in the way it is used, which must be found.
//!
//!     RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom \
//!         cargo test --release --features internals --test models
//!
//! `-- --long` is the long tier, `-- --bound=N` another number of interruptions. `-- NAME` runs one
//! model here, with everything that loom says; with `--lose=FILE.rs:LINE` also the wake-up of that
//! line of the library is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test program without the harness: a failure ends it"
)]

#[cfg(loom)]
mod epoch;
#[cfg(loom)]
mod outbox;
#[cfg(loom)]
mod pongs;
#[cfg(loom)]
mod queue;
#[cfg(loom)]
mod requests;
#[cfg(loom)]
mod run;
#[cfg(loom)]
mod wire;

#[cfg(loom)]
fn main() {
    run::main();
}

#[cfg(not(loom))]
fn main() {
    println!("models are run with RUSTFLAGS='--cfg loom'");
}
