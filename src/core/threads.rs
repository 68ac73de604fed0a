//! The threads of one connection: who runs, and waiting until they have ended.
//!
//! `reader` and `flusher` do not run code of the program (but for the callbacks that the reader
//! asks in an outage, read listeners and traces, and a transport of the program); `callback`, the
//! dispatchers and the short-lived `creds` and `connect` do, so the first two end soon after they
//! are told to, the others when the program's code returns. The short-lived `tls` reads files, and
//! counts as one of those. Only threads of our own are joined, once they have counted themselves
//! out: the others are there to run the program's code, and may have thread-locals of it, whose
//! ends nobody knows.

use std::time::Instant;

use crate::clock;
use crate::error::Result;
use crate::sync::{self, Arc, Condvar, JoinHandle, Mutex, Rank, assert_unlocked};

/// Whether a thread runs code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    Own,
    Program,
}

/// The running threads of a connection.
#[derive(Debug)]
pub(crate) struct Threads {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    own: usize,
    program: usize,
    handles: Vec<JoinHandle<()>>,
}

/// Counts the thread out when it ends, however it ends.
struct Running {
    threads: Arc<Threads>,
    runs: Runs,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.threads.state.lock();
        match self.runs {
            Runs::Own => state.own -= 1,
            Runs::Program => state.program -= 1,
        }
        // Whoever waits, waits for all of them, or for all of our own.
        let last = state.own == 0;
        drop(state);
        if last {
            self.threads.ended.notify_all();
        }
    }
}

impl Threads {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(Rank::Leaf, State::default()), ended: Condvar::new() })
    }

    /// Starts a thread of connection `owner`.
    pub(crate) fn start(
        self: &Arc<Self>,
        name: String,
        owner: u64,
        runs: Runs,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        {
            let mut state = self.state.lock();
            match runs {
                Runs::Own => state.own += 1,
                Runs::Program => state.program += 1,
            }
        }
        let running = Running { threads: Arc::clone(self), runs };
        // If the thread cannot be started the closure is dropped, and `running` counts it out.
        let handle = sync::spawn(name, owner, move || {
            if runs == Runs::Own {
                sync::mark_essential();
            }
            let _running = running;
            body();
        })?;
        if runs == Runs::Own {
            self.state.lock().handles.push(handle);
        }
        Ok(())
    }

    /// Waits until the threads that run only our code have ended, or the deadline.
    pub(crate) fn wait_own(&self, deadline: Instant) {
        let mut state = self.state.lock();
        while state.own > 0 && clock::now() < deadline {
            self.ended.wait_until(&mut state, Some(deadline));
        }
    }

    /// Waits until all threads have ended, or the deadline, and joins those that have.
    pub(crate) fn wait_all(&self, deadline: Instant) {
        let mut state = self.state.lock();
        while state.own + state.program > 0 && clock::now() < deadline {
            self.ended.wait_until(&mut state, Some(deadline));
        }
        let all_counted_out = state.own + state.program == 0;
        let handles = if all_counted_out { std::mem::take(&mut state.handles) } else { Vec::new() };
        drop(state);
        assert_unlocked("joining threads");
        // A thread that has counted itself out has nothing left to do but to end.
        for handle in handles {
            let _ = handle.join();
        }
        self.join_ended();
    }

    fn join_ended(&self) {
        let ended: Vec<_> = {
            let mut state = self.state.lock();
            let (ended, running) =
                std::mem::take(&mut state.handles).into_iter().partition(JoinHandle::is_finished);
            state.handles = running;
            ended
        };
        for handle in ended {
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ended_threads_are_joined_and_a_stuck_one_is_left_alone() {
        let threads = Threads::new();
        let gate = Arc::new(parking_lot::Mutex::new(()));
        let closed = gate.lock();
        threads.start("a".to_owned(), 1, Runs::Own, || ()).expect("a thread");
        let stuck = Arc::clone(&gate);
        let body = move || drop(stuck.lock());
        threads.start("b".to_owned(), 1, Runs::Program, body).expect("a thread");
        threads.wait_own(Instant::now() + Duration::from_secs(10));
        threads.wait_all(Instant::now() + Duration::from_millis(20));
        assert_eq!(threads.state.lock().program, 1);
        drop(closed);
        threads.wait_all(Instant::now() + Duration::from_secs(10));
        let state = threads.state.lock();
        assert_eq!((state.own, state.program, state.handles.len()), (0, 0, 0));
    }
}
