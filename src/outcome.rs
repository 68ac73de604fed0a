//! Something that happens once, and whoever waits for it.
//!
//! Flushes, requests and drains all end exactly once; the first outcome holds. Completed by any
//! thread with no higher lock in the way, waited for by any number of threads.

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
        self.value.lock().get_or_insert(outcome);
        self.arrived.notify_all();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_first_outcome_holds_and_wakes_every_waiter() {
        let outcome = Arc::new(Outcome::new());
        assert_eq!(outcome.wait(Instant::now()), None);
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
