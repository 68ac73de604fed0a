//! Waiting with a deadline, in two ways.
//!
//! [`poll`] looks again and again at something outside this process that cannot wake us: a child,
//! a file, `/proc`. It is the only place of the tests that sleeps. [`Signal`] and [`Gate`] are for
//! everything inside this process: whoever changes the state wakes those who wait for it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Looks until `look` gives a value, at most until `limit` has passed; looks at least once.
pub(crate) fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        // The time is read first: the last look happens after the deadline.
        let late = Instant::now() >= deadline;
        if let Some(value) = look() {
            return Some(value);
        }
        if late {
            return None;
        }
        // Paces: the looks at a state of the system that cannot wake us; the loop has the deadline.
        thread::sleep(Duration::from_millis(2));
    }
}

/// A value behind a lock whose changes wake those who wait. A panic elsewhere does not matter.
#[derive(Default)]
pub(crate) struct Signal<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Signal<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    /// Looks at the value.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the value and wakes everyone who waits.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` gives something, at most until `limit` has passed.
    pub(crate) fn wait<R>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now() + limit;
        let mut value = self.lock();
        loop {
            if let Some(result) = look(&mut value) {
                return Some(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(value, left);
            value = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closed at first; a test opens it once, and whoever waits at it, now or later, goes on.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Signal<bool>>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        self.0.change(|open| *open = true);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.read(|open| *open)
    }

    /// Waits until the gate is open; returns whether it is.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        self.0.wait(limit, |open| open.then_some(())).is_some()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open() { "Gate(open)" } else { "Gate(closed)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_ends_with_the_value_or_at_the_deadline() {
        let mut looks = 0;
        let third = poll(Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some("third")
        });
        assert_eq!(third, Some("third"));

        let started = Instant::now();
        assert_eq!(poll(Duration::from_millis(20), || None::<()>), None);
        assert!(started.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn an_opened_gate_lets_everyone_pass() {
        let gate = Gate::new();
        assert!(!gate.wait(Duration::from_millis(1)));
        let waiting = {
            let gate = gate.clone();
            thread::Builder::new()
                .name("at-the-gate".to_owned())
                .spawn(move || gate.wait(Duration::from_secs(10)))
                .unwrap()
        };
        gate.open();
        assert!(waiting.join().unwrap());
        assert!(gate.wait(Duration::ZERO));
    }
}
