//! The outbox in the life of the connection. Called by the reader thread, `close`, `wait_written`
//! and `mark_broken` by others too.

use std::time::{Duration, Instant};

use super::frames::Frames;
use super::state::{Outbox, Phase, Remains, ServerLimits};
use crate::sync::Arc;
use crate::transport::Stream;

impl Outbox {
    /// A server is about to be told the subscriptions: from now on changes of them are kept.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Down {
            state.phase = Phase::Opening;
        }
    }

    /// The connection is up. Messages that this server would refuse for their size are taken out;
    /// their number is returned.
    pub(crate) fn begin(&self, epoch: u64, stream: Arc<dyn Stream>, limits: ServerLimits) -> u64 {
        let mut state = self.state.lock();
        if state.phase != Phase::Opening {
            return 0;
        }
        state.phase = Phase::Up;
        state.epoch = epoch;
        state.stream = Some(stream);
        state.limits = limits;
        state.broken = false;
        let dropped = state.drop_oversized();
        self.wake_flusher(&mut state);
        dropped
    }

    /// The server changed what it accepts.
    pub(crate) fn set_limits(&self, limits: ServerLimits) {
        self.state.lock().limits = limits;
    }

    /// The connection is lost: from now on publishing is buffered, and nothing new is written.
    /// `end` follows.
    pub(crate) fn suspend(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Up | Phase::Opening) {
            state.phase = Phase::Down;
        }
        self.room.notify_all();
    }

    /// The connection is lost and its stream shut down: waits for the turn to come back, keeps the
    /// messages, drops the torn one and all control frames.
    ///
    /// The write under way ends at once, because the stream is shut down; should it not, after
    /// `patience` what the writer holds is given up.
    pub(crate) fn end(&self, patience: Duration) -> Remains {
        let deadline = Instant::now() + patience;
        self.suspend();
        let mut state = self.state.lock();
        self.turn_back.notify_all();
        while state.writing && Instant::now() < deadline {
            self.turn_back.wait_until(&mut state, Some(deadline));
        }
        state.collect_remains()
    }

    /// No more publishing; the flusher writes what is there.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.phase = match state.phase {
            Phase::Up => Phase::Closing,
            Phase::Closed => Phase::Closed,
            _ => Phase::Closing,
        };
        self.wake_flusher(&mut state);
        self.room.notify_all();
    }

    /// After `close`: waits until everything is written, the connection is lost, or the deadline.
    pub(crate) fn wait_written(&self, deadline: Instant) {
        let mut state = self.state.lock();
        while state.phase == Phase::Closing
            && state.stream.is_some()
            && !state.broken
            && (state.writing || !state.is_empty())
            && Instant::now() < deadline
        {
            self.turn_back.wait_until(&mut state, Some(deadline));
        }
    }

    /// The connection failed: no more turns, and whoever waits for the last write looks again.
    pub(crate) fn mark_broken(&self, epoch: u64) {
        let mut state = self.state.lock();
        if state.epoch == epoch {
            state.broken = true;
        }
        self.turn_back.notify_all();
    }

    /// The end: what was not written is given up and counted. The flusher ends.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Closed;
        state.discarded += state.messages;
        (state.messages, state.bytes) = (0, 0);
        state.pending = Frames::new();
        state.taken = Frames::new();
        state.flusher_sleeps = false;
        self.work.notify_all();
        self.room.notify_all();
        self.turn_back.notify_all();
    }

    /// Refuses publishing from now on: the connection drains.
    pub(crate) fn refuse_publishing(&self) {
        self.state.lock().draining = true;
    }
}
