//! Locks with a place in an order, and threads that know whose they are.
//!
//! No lock is poisoned: a panic in user code can never make a lock unusable. Each carries a
//! [`Rank`]. In debug builds, taking a lock whose rank is not above every rank that the
//! thread already holds panics at once, so a wrong order cannot wait for the day when two threads
//! meet. [`assert_unlocked`] stands in front of socket IO, name resolution, user code and joins.
//!
//! The order, lowest first, is the declaration order of [`Rank`]: a lock may be taken while any
//! lock above it in that list is held, never the other way round.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::time::Instant;

use super::face;
use crate::error::{Error, ErrorKind, Result};

/// The place of a lock in the order. A thread takes locks downwards in this list only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A lock of the testing feature, above everything of the library.
    #[cfg_attr(not(feature = "testing"), allow(dead_code))]
    Outer,
    /// The subscriptions of a set.
    Set,
    /// The life of a connection: status, server, reason of the end.
    Life,
    /// The subscription that replies come to.
    Inbox,
    /// sid to subscription.
    Registry,
    /// Frames that wait to be written, and the line of expected PONGs.
    Outbox,
    /// Waiting requests by token.
    Requests,
    /// A flush, request or drain that somebody waits for.
    Outcome,
    /// Messages that wait for a consumer.
    Mailbox,
    /// Closures that wait for the end of a subscription.
    Hooks,
    /// Events that wait for a listener.
    Events,
    /// The TLS session of a stream: never held while the socket is read or written.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    Session,
    /// Host names that are being looked up.
    Lookups,
    /// A leaf: nothing is taken while it is held.
    Leaf,
}

/// The ranks that this thread holds; none for a thread that is ending, whose locals may be gone
/// while it drops its last values.
fn held() -> u32 {
    face::HELD.try_with(Cell::get).unwrap_or(0)
}

fn set_held(bits: u32) {
    let _ = face::HELD.try_with(|held| held.set(bits));
}

#[derive(Debug)]
struct Held(Rank);

impl Held {
    fn new(rank: Rank) -> Self {
        if cfg!(debug_assertions) {
            let bits = held();
            debug_assert!(
                bits >> (rank as u32) == 0,
                "lock order: {rank:?} taken while holding {bits:#b}"
            );
            set_held(bits | 1 << (rank as u32));
        }
        Self(rank)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            set_held(held() & !(1 << (self.0 as u32)));
        }
    }
}

/// Asserts, in debug builds, that this thread holds no lock of the library.
pub(crate) fn assert_unlocked(doing: &str) {
    if cfg!(debug_assertions) {
        let bits = held();
        debug_assert!(bits == 0, "a lock is held while {doing}: {bits:#b}");
    }
}

/// Runs code of the program, with no lock held; false if it panicked.
pub(crate) fn guarded(call: impl FnOnce()) -> bool {
    caught(call).is_some()
}

/// Runs code of the program, with no lock held; none if it panicked. The payload of a panic is
/// given up, because its own drop could panic again.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    assert_unlocked("running code of the program");
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(payload) => {
            std::mem::forget(payload);
            None
        }
    }
}

/// A lock with its place in the order.
pub(crate) struct Mutex<T> {
    rank: Rank,
    inner: face::RawMutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: face::RawMutex::new(value) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = Held::new(self.rank);
        MutexGuard { inner: self.inner.lock(), _held: held }
    }
}

/// Code of the program never runs while one is held, so a panic of it leaves what it guards whole.
impl<T> UnwindSafe for Mutex<T> {}
impl<T> RefUnwindSafe for Mutex<T> {}

impl<T> std::fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mutex").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// A held lock.
pub(crate) struct MutexGuard<'a, T> {
    inner: face::RawGuard<'a, T>,
    _held: Held,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

/// A condition variable. Every wait has a deadline, but for those of the connection's threads for
/// work and those for the next message or event.
#[derive(Debug, Default)]
pub(crate) struct Condvar(face::RawCondvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(face::RawCondvar::new())
    }

    /// Waits until woken or until the deadline; `None` waits until woken. Returns whether the
    /// deadline passed. A wake-up may be spurious.
    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
    ) -> bool {
        match deadline {
            Some(deadline) => self.0.wait_until(&mut guard.inner, deadline).timed_out(),
            None => {
                self.0.wait(&mut guard.inner);
                false
            }
        }
    }

    #[cfg_attr(any(loom, shuttle), track_caller)]
    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    #[cfg_attr(any(loom, shuttle), track_caller)]
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Starts a named thread that belongs to connection `owner`; see [`current_owner`].
pub(crate) fn spawn(
    name: String,
    owner: u64,
    body: impl FnOnce() + Send + 'static,
) -> Result<face::JoinHandle<()>> {
    let what = format!("the thread '{name}' could not be started");
    face::Builder::new()
        .name(name)
        .spawn(move || {
            let _ = face::OWNER.try_with(|cell| cell.set(owner));
            body();
        })
        .map_err(|error| Error::with_source(ErrorKind::Io, format!("{what}: {error}"), error))
}

/// The connection whose thread this is, or 0 on a thread of the program.
pub(crate) fn current_owner() -> u64 {
    face::OWNER.try_with(Cell::get).unwrap_or(0)
}

/// From now on this thread is one that its whole connection waits for.
pub(crate) fn mark_essential() {
    let _ = face::ESSENTIAL.try_with(|cell| cell.set(true));
}

/// Whether this is a thread that its whole connection waits for: nothing may make it wait without a
/// limit.
pub(crate) fn is_essential() -> bool {
    face::ESSENTIAL.try_with(Cell::get).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(debug_assertions)]
    #[test]
    fn a_wrong_lock_order_is_noticed_at_once() {
        let registry = Mutex::new(Rank::Registry, ());
        let outbox = Mutex::new(Rank::Outbox, ());
        {
            let _first = registry.lock();
            let _second = outbox.lock();
        }
        let wrong = catch_unwind(AssertUnwindSafe(|| {
            let _first = outbox.lock();
            let _second = registry.lock();
        }));
        assert!(wrong.is_err());
        assert_unlocked("testing");
    }

    #[test]
    fn a_thread_knows_whose_it_is() {
        assert_eq!(current_owner(), 0);
        let thread = spawn("owner".to_owned(), 7, || assert_eq!(current_owner(), 7));
        thread.expect("a thread").join().expect("no panic");
    }
}
