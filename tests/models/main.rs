//! I1, models: the queues and tables of the library, and a whole connection, run under every order
//! of their threads in which at most two of them are interrupted (loom), or three in the long tier.
//! I4, schedules: whole connections with all their threads, run under orders that are drawn
//! (shuttle), each from a seed that replays it.
//!
//! A program without the test harness, because a deadlock that loom finds ends its process: each
//! model and each control runs in a process of its own. A control is a model with a fault planted
//! in the library (lost wake-ups of one file) or in the way it is used, which must be found.
//!
//!     RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom \
//!         cargo test --release --features internals --test models
//!     RUSTFLAGS='--cfg shuttle' CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
//!         CARGO_TARGET_DIR=target/shuttle \
//!         cargo test --release --features internals --test models
//!
//! `-- --long` is the long tier, `-- --bound=N` another number of interruptions, `-- --schedules=N`
//! of schedules. `-- NAME` runs one model here, with everything that the engine says; with
//! `--lose=FILE.rs:LINE` also the wake-up of that line of the library is lost, and with `SEED=N` in
//! the environment the first schedule is that of the seed.

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
mod orders;
#[cfg(loom)]
mod outbox;
#[cfg(loom)]
mod pongs;
#[cfg(loom)]
mod queue;
#[cfg(loom)]
mod requests;
#[cfg(any(loom, shuttle))]
mod run;
#[cfg(shuttle)]
mod schedules;
#[cfg(loom)]
mod wire;

#[cfg(loom)]
use orders as engine;
#[cfg(shuttle)]
use schedules as engine;

#[cfg(any(loom, shuttle))]
fn main() {
    run::main();
}

#[cfg(not(any(loom, shuttle)))]
fn main() {
    println!("models are run with RUSTFLAGS='--cfg loom' or '--cfg shuttle'");
}
