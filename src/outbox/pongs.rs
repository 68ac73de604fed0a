//! The line of expected PONGs.
//!
//! The server answers PINGs in order, so the line is in the order in which PINGs leave: those of
//! flushes with the batch that holds them, keep-alive PINGs whenever they overtake. A PONG that
//! nobody waits for is ignored.
//!
//! Guarded by the outbox's lock; a [`Pong`] is completed with that lock released.

use std::collections::VecDeque;

use crate::error::Result;
use crate::outcome::Outcome;
use crate::sync::Arc;

/// Whoever waits for one PONG.
pub(crate) type Pong = Arc<Outcome<Result<()>>>;

/// PINGs that wait to leave, and PINGs that have left.
#[derive(Debug)]
pub(super) struct PongLine {
    /// Flush PINGs in the buffer, in order.
    queued: VecDeque<Waiting>,
    /// Keep-alive PINGs in the urgent lane.
    urgent: usize,
    /// What has left: a flush, or nobody.
    expected: VecDeque<Option<Waiting>>,
    sent: u64,
    /// So many messages are ahead of the last PING that was answered.
    confirmed: u64,
}

/// A PONG that somebody waits for, and how many messages are ahead of its PING.
#[derive(Debug)]
struct Waiting {
    pong: Pong,
    messages: u64,
}

impl PongLine {
    pub(super) fn new() -> Self {
        Self {
            queued: VecDeque::new(),
            urgent: 0,
            expected: VecDeque::new(),
            sent: 0,
            confirmed: 0,
        }
    }

    /// A flush PING is in the buffer, behind so many messages of this and earlier connections.
    pub(super) fn queue(&mut self, pong: Pong, messages: u64) {
        self.queued.push_back(Waiting { pong, messages });
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
        let Waiting { pong, messages } = self.expected.pop_front().flatten()?;
        self.confirmed = messages;
        Some(pong)
    }

    /// How many messages a server is known to have seen, all in all.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The connection is lost: no PONG will come.
    pub(super) fn clear(&mut self) -> Vec<Pong> {
        self.urgent = 0;
        let lost = self.expected.drain(..).flatten().chain(self.queued.drain(..));
        lost.map(|waiting| waiting.pong).collect()
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
        let (first, second) = (Pong::new(Outcome::new()), Pong::new(Outcome::new()));
        line.queue(first.clone(), 1);
        line.queue(second.clone(), 2);
        line.queue_urgent();
        line.leave(1);
        line.leave_urgent();
        line.leave(1);
        let arrived = line.arrived().expect("the first flush");
        arrived.complete(Ok(()));
        assert!(first.get().is_some());
        assert!(line.arrived().is_none(), "the keep-alive ping");
        assert_eq!(line.confirmed(), 1);
        assert_eq!(line.clear().len(), 1);
        assert!(line.arrived().is_none(), "a surplus PONG");
        assert_eq!(line.sent(), 3);
        assert!(second.get().is_none());
    }
}
