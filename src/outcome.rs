//! Something that happens once, and whoever waits for it.
//!
//! Flushes, requests and drains all end exactly once; the first outcome holds. Completed by any
//! thread with no higher lock in the way, waited for by any number of threads. [`deadline_in`]
//! makes a program's time-out the deadline of a wait.

use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, Rank};

/// Longer than any program runs, and within every clock.
const VERY_LONG: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);

/// When a time-out that begins now is over. One beyond the clock, such as `Duration::MAX`, means
/// "very long".
pub(crate) fn deadline_in(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).or_else(|| now.checked_add(VERY_LONG)).unwrap_or(now)
}

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
        while value.is_none() && Instant::now() < deadline {
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

    #[test]
    fn a_timeout_beyond_the_clock_is_a_very_long_one() {
        for timeout in [Duration::ZERO, Duration::from_secs(1), VERY_LONG, Duration::MAX] {
            let deadline = deadline_in(timeout);
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(left <= timeout && (timeout <= Duration::from_secs(1) || left > VERY_LONG / 2));
        }
    }

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
