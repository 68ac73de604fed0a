//! The line of expected PONGs.
//!
//! The server answers PINGs in order, so the line is in the order in which PINGs leave: those of
//! flushes with the batch that holds them, keep-alive PINGs whenever they overtake. A PONG that
//! nobody waits for is ignored.
//!
//! Guarded by the outbox's lock; a [`Pong`] is completed with that lock released.

use std::collections::VecDeque;
use std::time::Instant;

use crate::error::Result;
use crate::sync::{Arc, Condvar, Mutex, Rank};

/// Whoever waits for one PONG.
#[derive(Debug, Clone)]
pub(crate) struct Pong(Arc<Wait>);

#[derive(Debug)]
struct Wait {
    outcome: Mutex<Option<Result<()>>>,
    done: Condvar,
}

impl Pong {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Wait { outcome: Mutex::new(Rank::Slot, None), done: Condvar::new() }))
    }

    /// Ends the wait; the first outcome holds.
    pub(crate) fn complete(&self, outcome: Result<()>) {
        self.0.outcome.lock().get_or_insert(outcome);
        self.0.done.notify_all();
    }

    /// The outcome, if there is one by the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> Option<Result<()>> {
        let mut outcome = self.0.outcome.lock();
        while outcome.is_none() {
            if Instant::now() >= deadline {
                return None;
            }
            self.0.done.wait_until(&mut outcome, Some(deadline));
        }
        outcome.clone()
    }
}

/// PINGs that wait to leave, and PINGs that have left.
#[derive(Debug)]
pub(super) struct PongLine {
    /// Flush PINGs in the buffer, in order.
    queued: VecDeque<Pong>,
    /// Keep-alive PINGs in the urgent lane.
    urgent: usize,
    /// What has left: a flush, or nobody.
    expected: VecDeque<Option<Pong>>,
    sent: u64,
}

impl PongLine {
    pub(super) fn new() -> Self {
        Self { queued: VecDeque::new(), urgent: 0, expected: VecDeque::new(), sent: 0 }
    }

    pub(super) fn queue(&mut self, pong: Pong) {
        self.queued.push_back(pong);
    }

    pub(super) fn queue_urgent(&mut self) {
        self.urgent += 1;
    }

    /// So many flush PINGs are in the batch that leaves now.
    pub(super) fn leave(&mut self, count: usize) {
        let leaving = self.queued.drain(..count.min(self.queued.len()));
        self.expected.extend(leaving.map(Some));
        self.sent += count as u64;
    }

    /// The urgent lane leaves now.
    pub(super) fn leave_urgent(&mut self) {
        self.sent += self.urgent as u64;
        self.expected.extend((0..self.urgent).map(|_| None));
        self.urgent = 0;
    }

    /// A PONG arrived.
    pub(super) fn arrived(&mut self) -> Option<Pong> {
        self.expected.pop_front().flatten()
    }

    /// The connection is lost: no PONG will come.
    pub(super) fn clear(&mut self) -> Vec<Pong> {
        self.urgent = 0;
        self.expected.drain(..).flatten().chain(self.queued.drain(..)).collect()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pongs_complete_in_the_order_in_which_the_pings_left() {
        let mut line = PongLine::new();
        let (first, second) = (Pong::new(), Pong::new());
        line.queue(first.clone());
        line.queue(second.clone());
        line.queue_urgent();
        line.leave(1);
        line.leave_urgent();
        line.leave(1);
        let arrived = line.arrived().expect("the first flush");
        arrived.complete(Ok(()));
        assert!(first.wait(Instant::now()).is_some());
        assert!(line.arrived().is_none(), "the keep-alive ping");
        assert_eq!(line.clear().len(), 1);
        assert!(line.arrived().is_none(), "a surplus PONG");
        assert_eq!(line.sent(), 3);
        assert!(second.wait(Instant::now()).is_none());
    }
}
