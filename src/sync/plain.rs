//! The face of every ordinary build: `parking_lot`'s locks, std's threads and atomics, the system's
//! clock.
//!
//! Everything here is a re-export or a thread-local. Called by `ranked.rs` from any thread.

pub(super) use parking_lot::{Condvar as RawCondvar, Mutex as RawMutex, MutexGuard as RawGuard};
pub(crate) use std::sync::atomic;
pub(super) use std::thread::Builder;
pub(crate) use std::thread::JoinHandle;

use std::cell::Cell;

thread_local! {
    /// One bit for each rank that this thread holds (debug builds only).
    pub(super) static HELD: Cell<u32> = const { Cell::new(0) };
    /// The connection that this thread belongs to, 0 for a thread of the program.
    pub(super) static OWNER: Cell<u64> = const { Cell::new(0) };
    /// Whether everything else of that connection waits for this thread.
    pub(super) static ESSENTIAL: Cell<bool> = const { Cell::new(false) };
}

/// The system's monotonic clock. For `clock.rs`, which everybody else asks.
pub(crate) mod time {
    use std::time::Instant;

    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}
