//! The face of the models: loom's locks and atomics, which run a model under every order of its
//! threads, and a clock that a model moves.
//!
//! Time: [`time::now`] stands still until the model calls [`time::pass`], then it is later than
//! every deadline that was set before. A timed wait that begins afterwards ends at once, with its
//! lock released in between; one that begins before must be woken, or the model ends in a deadlock
//! that loom reports. So a wake-up that is lost is found also where a deadline would have hidden
//! it, and a wait may end by time at any moment at which the other threads let it.
//!
//! `Arc` stays std's: loom's knows neither `Weak` nor trait objects. Threads are started by the
//! models themselves; `spawn` is std's, for code that no model runs.

pub(crate) use loom::sync::atomic;
pub(super) use std::thread::Builder;
pub(crate) use std::thread::JoinHandle;

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::time::Instant;

loom::thread_local! {
    static HELD: Cell<u32> = Cell::new(0);
    static OWNER: Cell<u64> = Cell::new(0);
    static ESSENTIAL: Cell<bool> = Cell::new(false);
}

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

/// A lock with `parking_lot`'s signatures.
pub(super) struct RawMutex<T>(loom::sync::Mutex<T>);

/// It is taken out of the option only for the time of a wait.
pub(super) struct RawGuard<'a, T> {
    lock: &'a RawMutex<T>,
    inner: Option<loom::sync::MutexGuard<'a, T>>,
}

impl<T> RawMutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> RawGuard<'_, T> {
        RawGuard { lock: self, inner: Some(self.take()) }
    }

    fn take(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<T> Deref for RawGuard<'_, T> {
    type Target = T;

    #[allow(clippy::expect_used)]
    fn deref(&self) -> &T {
        // Invariant: the guard is there outside of `Condvar::wait`, which holds `&mut self`.
        self.inner.as_ref().expect("held")
    }
}

impl<T> DerefMut for RawGuard<'_, T> {
    #[allow(clippy::expect_used)]
    fn deref_mut(&mut self) -> &mut T {
        // Invariant: the guard is there outside of `Condvar::wait`, which holds `&mut self`.
        self.inner.as_mut().expect("held")
    }
}

/// A condition variable with `parking_lot`'s signatures.
#[derive(Debug, Default)]
pub(super) struct RawCondvar(loom::sync::Condvar);

/// Whether a timed wait ended by time.
pub(super) struct Waited(bool);

impl Waited {
    pub(super) fn timed_out(&self) -> bool {
        self.0
    }
}

impl RawCondvar {
    pub(super) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(super) fn wait<T>(&self, guard: &mut RawGuard<'_, T>) {
        if let Some(inner) = guard.inner.take() {
            let inner = self.0.wait(inner);
            guard.inner = Some(inner.unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }

    pub(super) fn wait_until<T>(&self, guard: &mut RawGuard<'_, T>, deadline: Instant) -> Waited {
        let over = time::now() >= deadline;
        if over {
            guard.inner = None;
            loom::thread::yield_now();
            guard.inner = Some(guard.lock.take());
        } else {
            self.wait(guard);
        }
        Waited(over)
    }

    #[track_caller]
    pub(super) fn notify_one(&self) {
        if !time::is_lost(Location::caller()) {
            self.0.notify_one();
        }
    }

    #[track_caller]
    pub(super) fn notify_all(&self) {
        if !time::is_lost(Location::caller()) {
            self.0.notify_all();
        }
    }
}

/// The clock of a model, and the faults that are planted to see that models find them.
pub(crate) mod time {
    use std::panic::Location;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use loom::sync::atomic::{AtomicBool, Ordering};

    loom::lazy_static! {
        static ref PASSED: AtomicBool = AtomicBool::new(false);
    }

    static START: OnceLock<Instant> = OnceLock::new();

    /// Longer than any time-out of a model.
    const STEP: Duration = Duration::from_secs(60 * 60 * 24 * 365);

    pub(crate) fn now() -> Instant {
        let start = *START.get_or_init(Instant::now);
        if PASSED.load(Ordering::SeqCst) { start + STEP } else { start }
    }

    /// Every deadline that was set so far is over.
    pub(crate) fn pass() {
        PASSED.store(true, Ordering::SeqCst);
    }

    static LOST: OnceLock<&str> = OnceLock::new();

    /// From now on the wake-ups that this file (`file.rs`) or place (`file.rs:12`) gives are lost.
    pub(crate) fn lose_wakes(place: &'static str) {
        let _ = LOST.set(place);
    }

    pub(super) fn is_lost(from: &Location<'_>) -> bool {
        let (file, line) = (from.file(), from.line());
        LOST.get()
            .is_some_and(|place| file.ends_with(place) || format!("{file}:{line}").ends_with(place))
    }
}
