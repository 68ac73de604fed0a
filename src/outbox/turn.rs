//! The write turn: who writes, and how it is given back.
//!
//! The flusher loops over `next_batch`, a blocking write and `give_back`. A caller that was handed
//! a batch writes it with `write_inline`, without waiting: one send saves the wake-up of a thread.

use std::io;
use std::time::Duration;

use super::state::{BATCH_MOST, Batch, Outbox, Phase, State, Urgency};
use crate::clock;

/// A publish that follows the last write sooner than this belongs to a burst: it waits for its
/// neighbours, until the flusher or, of a full batch, its publisher writes them. One that comes
/// later is written by its caller at once. Measured: 5 µs keeps a tight loop at the throughput of
/// never writing inline, 50 µs does not.
const BURST: Duration = Duration::from_micros(5);

/// A publisher that finds so many bytes waiting, and nobody writing, writes them itself: they are
/// still in the cache of its core, and a queue that grows leaves every cache.
const FULL: usize = BATCH_MOST;

/// How often an urgent writer goes on while others append: it must get back to its own work.
const INLINE_ROUNDS: u32 = 4;

/// A write failed.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) epoch: u64,
    pub(crate) error: io::Error,
}

impl State {
    /// Nobody is about to write. Whoever waits for the answer does not wait for the flusher too, if
    /// that was woken and has not begun.
    #[inline]
    fn is_free(&self, urgency: Urgency) -> bool {
        self.flusher_sleeps || (self.flusher_woken && urgency == Urgency::Now)
    }

    /// Whether somebody writes or is about to, or nobody may, so that a caller has only to append.
    /// The clock is read only behind this.
    #[inline]
    pub(super) fn is_attended(&self, urgency: Urgency) -> bool {
        let awake = !self.is_free(urgency) && !self.is_full();
        awake || self.writing || self.phase != Phase::Up
    }

    /// So much waits that a publisher writes it, where a stream takes it without waiting: what it
    /// did not take at once is the flusher's, which can wait.
    #[inline]
    fn is_full(&self) -> bool {
        self.bytes >= FULL && !self.balked
    }
}

impl Outbox {
    /// Gives the turn to the caller if it should write by itself, or sees to it that the flusher
    /// does. The caller must hand the batch to [`Outbox::write_inline`], with no lock held.
    pub(super) fn turn(&self, state: &mut State, urgency: Urgency) -> Option<Batch> {
        if state.is_attended(urgency) {
            return None;
        }
        let quiet = state.is_free(urgency) && state.urgent.is_empty() && state.taken.is_empty();
        let inline = !state.broken
            && (state.is_full()
                || quiet
                    && match urgency {
                        Urgency::Now => true,
                        Urgency::Soon => false,
                        Urgency::Idle => {
                            state.last_write.is_none_or(|last| clock::since(last) >= BURST)
                        }
                    });
        let batch = if inline { state.take_batch() } else { None };
        if batch.is_none() {
            self.wake_flusher(state);
        }
        batch
    }

    /// Begins the write of what was appended, unless somebody is about to write it.
    pub(crate) fn kick(&self, urgency: Urgency) -> Option<Batch> {
        let mut state = self.state.lock();
        if state.is_empty() { None } else { self.turn(&mut state, urgency) }
    }

    /// Has the flusher write what waits, or what the stream holds back by itself.
    pub(crate) fn leave_to_flusher(&self) {
        let mut state = self.state.lock();
        self.wake_flusher(&mut state);
    }

    pub(super) fn wake_flusher(&self, state: &mut State) {
        if state.flusher_sleeps {
            state.flusher_sleeps = false;
            state.flusher_woken = true;
            self.work.notify_one();
        }
    }

    /// Writes without waiting, on a calling thread that got the turn; what does not fit goes to the
    /// flusher.
    pub(crate) fn write_inline(&self, mut batch: Batch, urgency: Urgency) -> Result<(), Broken> {
        let mut round = 1;
        loop {
            let mut failure = None;
            while !batch.is_done() {
                match batch.stream.try_write(batch.bytes()) {
                    Ok(0) => break,
                    Ok(count) => batch.wrote(count),
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            let epoch = batch.epoch;
            batch.settle();
            let done = batch.is_done();
            let go_on = done && round < INLINE_ROUNDS;
            let mut state = self.state.lock();
            self.put_back(&mut state, batch, failure.is_some());
            if epoch == state.epoch {
                state.balked = !done;
            }
            if let Some(error) = failure {
                return Err(Broken { epoch, error });
            }
            let wanted = urgency == Urgency::Now || state.bytes >= FULL;
            match if go_on && wanted { state.take_batch() } else { None } {
                Some(next) => batch = next,
                None => {
                    if !state.is_empty() {
                        self.wake_flusher(&mut state);
                    }
                    return Ok(());
                }
            }
            round += 1;
        }
    }

    /// The next batch for the flusher, which waits for it; `None` when the outbox is closed.
    pub(crate) fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            if state.phase == Phase::Closed {
                return None;
            }
            if let Some(batch) = state.take_batch() {
                return Some(batch);
            }
            state.flusher_sleeps = true;
            self.work.wait_until(&mut state, None);
            state.flusher_sleeps = false;
            state.flusher_woken = false;
        }
    }

    /// The next batch if there is one, for tests that have no flusher.
    #[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
    pub(crate) fn try_next_batch(&self) -> Option<Batch> {
        self.state.lock().take_batch()
    }

    /// The flusher gives the turn back, with what it did not write.
    pub(crate) fn give_back(&self, mut batch: Batch, broken: bool) {
        batch.settle();
        let mut state = self.state.lock();
        self.put_back(&mut state, batch, broken);
        state.balked = state.balked && !state.is_empty();
    }

    fn put_back(&self, state: &mut State, mut batch: Batch, broken: bool) {
        // A batch of a connection that has been given up changes nothing any more.
        if batch.epoch != state.epoch {
            return;
        }
        let (bytes, messages) = batch.frames.take_written();
        state.writing = false;
        state.broken |= broken;
        state.last_write = Some(clock::now());
        state.bytes = state.bytes.saturating_sub(bytes);
        state.messages = state.messages.saturating_sub(messages);
        state.taken = batch.frames;
        if !batch.urgent.is_empty() {
            batch.urgent.append(&mut state.urgent);
            state.urgent = batch.urgent;
        }
        state.written += bytes as u64;
        if state.bytes <= self.config.high_water / 2 {
            state.overrun = None;
        }
        // Of large messages too: to copy one while another is written was measured, and is slower.
        if bytes > 0 && state.room_came(self.config.limit) {
            self.room.notify_all();
        }
        // Only whoever ends or closes the connection waits here.
        if state.phase != Phase::Up {
            self.turn_back.notify_all();
        }
    }
}
