//! The face of the models: the locks and atomics of an engine that decides which thread runs next,
//! and a clock that a model moves. With `--cfg loom` the engine is loom, which tries every order of
//! the threads of a small model; with `--cfg shuttle` it is shuttle, which draws the orders of a
//! whole connection at random.
//!
//! Time: [`time::now`] stands still until the model calls [`time::pass`], then it is later than
//! every deadline that was set before. A timed wait that begins afterwards ends at once, with its
//! lock released in between; one that begins before must be woken, or the model ends in a deadlock
//! that the engine reports. So a wake-up that is lost is found also where a deadline would have
//! hidden it, and a wait may end by time at any moment at which the other threads let it.
//!
//! `Arc` stays std's: loom's knows neither `Weak` nor trait objects. The models of loom start their
//! threads themselves, and `spawn` is std's, for code that none of them runs; those of shuttle let
//! the library start its own.

#[cfg(loom)]
use loom as engine;
#[cfg(shuttle)]
use shuttle as engine;

pub(crate) use engine::sync::atomic;
#[cfg(loom)]
pub(super) use std::thread::Builder;
#[cfg(loom)]
pub(crate) use std::thread::JoinHandle;
#[cfg(shuttle)]
pub(super) use threads::Builder;
#[cfg(shuttle)]
pub(crate) use threads::JoinHandle;

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::time::Instant;

engine::thread_local! {
    pub(super) static HELD: Cell<u32> = Cell::new(0);
    pub(super) static OWNER: Cell<u64> = Cell::new(0);
    pub(super) static ESSENTIAL: Cell<bool> = Cell::new(false);
}

/// A lock with `parking_lot`'s signatures.
pub(super) struct RawMutex<T>(engine::sync::Mutex<T>);

/// It is taken out of the option only for the time of a wait.
pub(super) struct RawGuard<'a, T> {
    lock: &'a RawMutex<T>,
    inner: Option<engine::sync::MutexGuard<'a, T>>,
}

impl<T> RawMutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(engine::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> RawGuard<'_, T> {
        RawGuard { lock: self, inner: Some(self.take()) }
    }

    fn take(&self) -> engine::sync::MutexGuard<'_, T> {
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
pub(super) struct RawCondvar(engine::sync::Condvar);

/// Whether a timed wait ended by time.
pub(super) struct Waited(bool);

impl Waited {
    pub(super) fn timed_out(&self) -> bool {
        self.0
    }
}

impl RawCondvar {
    pub(super) fn new() -> Self {
        Self(engine::sync::Condvar::new())
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
            engine::thread::yield_now();
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

/// Threads of shuttle with std's names.
#[cfg(shuttle)]
mod threads {
    use std::io;
    use std::sync::Arc;
    use std::thread;

    use shuttle::thread::{Builder as Inner, JoinHandle as Handle};

    pub(crate) struct Builder(Inner);

    impl Builder {
        pub(crate) fn new() -> Self {
            Self(Inner::new())
        }

        pub(crate) fn name(self, name: String) -> Self {
            Self(self.0.name(name))
        }

        pub(crate) fn spawn(
            self,
            body: impl FnOnce() + Send + 'static,
        ) -> io::Result<JoinHandle<()>> {
            let running = Arc::new(());
            let mine = Arc::clone(&running);
            let handle = self.0.spawn(move || {
                let _mine = mine;
                body();
            })?;
            Ok(JoinHandle { handle, running })
        }
    }

    #[derive(Debug)]
    pub(crate) struct JoinHandle<T> {
        handle: Handle<T>,
        /// Held a second time for as long as the thread runs.
        running: Arc<()>,
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn is_finished(&self) -> bool {
            Arc::strong_count(&self.running) == 1
        }

        pub(crate) fn join(self) -> thread::Result<T> {
            self.handle.join()
        }
    }
}

/// The clock of a model, and the faults that are planted to see that models find them.
pub(crate) mod time {
    use std::panic::Location;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use super::engine;
    use super::engine::sync::atomic::{AtomicBool, Ordering};

    engine::lazy_static! {
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
