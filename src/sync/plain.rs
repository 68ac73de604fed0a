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
    static HELD: Cell<u32> = const { Cell::new(0) };
    /// The connection that this thread belongs to, 0 for a thread of the program.
    static OWNER: Cell<u64> = const { Cell::new(0) };
    /// Whether everything else of that connection waits for this thread.
    static ESSENTIAL: Cell<bool> = const { Cell::new(false) };
}

/// The ranks that this thread holds; none for a thread that is ending, whose locals may be gone
/// while it drops its last values.
pub(super) fn held() -> u32 {
    HELD.try_with(Cell::get).unwrap_or(0)
}

pub(super) fn set_held(bits: u32) {
    let _ = HELD.try_with(|held| held.set(bits));
}

pub(super) fn owner() -> u64 {
    OWNER.try_with(Cell::get).unwrap_or(0)
}

pub(super) fn set_owner(owner: u64) {
    let _ = OWNER.try_with(|cell| cell.set(owner));
}

pub(super) fn essential() -> bool {
    ESSENTIAL.try_with(Cell::get).unwrap_or(false)
}

pub(super) fn set_essential() {
    let _ = ESSENTIAL.try_with(|cell| cell.set(true));
}

/// The system's monotonic clock. For `clock.rs`, which everybody else asks.
pub(crate) mod time {
    use std::time::Instant;

    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}
