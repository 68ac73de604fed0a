//! Something that happens once, and whoever waits for it.
//!
//! Flushes, requests and drains all end exactly once; the first outcome holds. Completed by any
//! thread with no higher lock in the way, waited for by any number of threads. A [`Barrier`] is
//! completed by the last of several.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::clock;
use crate::sync::{Condvar, Mutex, Rank};

/// A place for one outcome.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    value: Mutex<Option<T>>,
    arrived: Condvar,
}

impl<T: Clone> Outcome<T> {
    pub(crate) fn new() -> Self {
        Self { value: Mutex::new(Rank::Outcome, None), arrived: Condvar::new() }
    }

    /// Gives the outcome and wakes whoever waits. A later one changes nothing.
    pub(crate) fn complete(&self, outcome: T) {
        self.fill(outcome);
        self.wake();
    }

    /// Gives the outcome without waking anybody: `wake` must follow. A later one changes nothing.
    pub(crate) fn fill(&self, outcome: T) {
        self.value.lock().get_or_insert(outcome);
    }

    /// Wakes whoever waits for what `fill` gave.
    pub(crate) fn wake(&self) {
        self.arrived.notify_all();
    }

    /// Whether the outcome is there.
    pub(crate) fn is_there(&self) -> bool {
        self.value.lock().is_some()
    }

    /// The outcome, if it comes by the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> Option<T> {
        let mut value = self.value.lock();
        while value.is_none() && clock::now() < deadline {
            self.arrived.wait_until(&mut value, Some(deadline));
        }
        value.clone()
    }

    /// The outcome, if it is there.
    pub(crate) fn get(&self) -> Option<T> {
        self.value.lock().clone()
    }
}

/// Something that several queues reach, each once, and whoever waits until all have.
#[derive(Debug)]
pub(crate) struct Barrier {
    left: AtomicUsize,
    /// Whether all have reached it; false if it was given up.
    outcome: Outcome<bool>,
}

impl Barrier {
    /// One that so many have to reach.
    pub(crate) fn new(count: usize) -> Self {
        Self { left: AtomicUsize::new(count), outcome: Outcome::new() }
    }

    /// One more has reached it.
    pub(crate) fn arrive(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.outcome.complete(true);
        }
    }

    /// It will not be reached any more.
    pub(crate) fn give_up(&self) {
        self.outcome.complete(false);
    }

    /// Whether all have reached it; none if they have not by the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> Option<bool> {
        self.outcome.wait(deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_first_outcome_holds_and_wakes_every_waiter() {
        let outcome = Arc::new(Outcome::new());
        assert_eq!(outcome.wait(Instant::now()), None);
        assert!(!outcome.is_there());
        let far = Instant::now() + Duration::from_secs(60);
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let outcome = Arc::clone(&outcome);
                std::thread::Builder::new().spawn(move || outcome.wait(far)).expect("a thread")
            })
            .collect();
        outcome.complete(1);
        outcome.complete(2);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), Some(1));
        }
        assert_eq!(outcome.get(), Some(1));
    }
}
