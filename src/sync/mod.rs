//! The only door to locks and threads.
//!
//! ```text
//!   the library ──▶ ranked ──▶ plain      (parking_lot and std: every ordinary build)
//!                          └─▶ modelled   (loom or shuttle: `--cfg loom` or `--cfg shuttle`, the
//!                                          models in tests/models)
//! ```
//!
//! Both faces have the same names, so that the library is checked as it is: its queues and tables
//! under every order in which their threads can run (loom), a whole connection under orders that
//! are drawn (shuttle).
//!
//! Not here: channels (nothing inside the core uses one).

#[cfg(any(loom, shuttle))]
mod modelled;
#[cfg(not(any(loom, shuttle)))]
mod plain;
mod ranked;

#[cfg(any(loom, shuttle))]
use modelled as face;
#[cfg(not(any(loom, shuttle)))]
use plain as face;

pub(crate) use std::sync::{Arc, Weak};

pub(crate) use face::{JoinHandle, atomic, time};
pub(crate) use ranked::{
    Condvar, Mutex, MutexGuard, Rank, assert_unlocked, caught, current_owner, guarded,
    is_essential, mark_essential, spawn,
};
