//! The only door to locks and threads.
//!
//! ```text
//!   the library ──▶ ranked ──▶ plain      (parking_lot and std: every ordinary build)
//!                          └─▶ modelled   (loom: `--cfg loom`, the models in tests/models)
//! ```
//!
//! Both faces have the same names, so that the queues and tables of the library are checked as they
//! are, under every order in which their threads can run.
//!
//! Not here: channels (nothing inside the core uses one).

#[cfg(loom)]
mod modelled;
#[cfg(not(loom))]
mod plain;
mod ranked;

#[cfg(loom)]
use modelled as face;
#[cfg(not(loom))]
use plain as face;

pub(crate) use std::sync::{Arc, Weak};

pub(crate) use face::{JoinHandle, atomic, time};
pub(crate) use ranked::{
    Condvar, Mutex, MutexGuard, Rank, assert_unlocked, caught, current_owner, guarded,
    is_essential, mark_essential, spawn,
};
