//! The outbox's data and what its lock guards.

use std::time::{Duration, Instant};

use super::frames::{Frames, GROUP_MOST, KEEP, Kind};
use super::pongs::{Pong, PongLine};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::announced_size;
use crate::sync::{Arc, Condvar, Mutex, Rank};
use crate::transport::Stream;

/// What a publisher does when the outbox is full, or fills, while the connection is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutboxPolicy {
    /// Wait so long for room, then fail with [`ErrorKind::OutboxFull`]. The default, with 2 s. Code
    /// that runs on a thread of the connection (a handler or listener) gets the error at once.
    ///
    /// Where 512 KiB wait, a publisher also lets the writer take what is there, but for 256 KiB:
    /// what is written then is still in the caches of the processor. It waits as long as the writer
    /// takes 512 KiB in 10 ms. A slower one is waited for 10 ms, and not again before it has caught
    /// up or a second has passed. A patience of less than 10 ms is for room alone.
    Block(Duration),
    /// Fail with [`ErrorKind::OutboxFull`] at once.
    Error,
    /// Drop the message, count it and tell `message_discarded`.
    DropNewest,
}

/// How much may wait while the connection is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReconnectBuffer {
    /// Nothing: a publish while the connection is down fails at once.
    Off,
    /// So many bytes of frames; more fails at once. The default is 8 MiB.
    Bytes(usize),
}

/// The limits of the outbox.
#[derive(Debug, Clone)]
pub(crate) struct OutboxConfig {
    pub(crate) limit: usize,
    /// From so many waiting bytes on a publisher that may wait lets the writer catch up.
    pub(crate) high_water: usize,
    pub(crate) policy: OutboxPolicy,
    pub(crate) reconnect_buffer: ReconnectBuffer,
    pub(crate) control_line: usize,
}

/// What the server in use accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// Zero is unknown.
    pub(crate) max_payload: usize,
    pub(crate) headers: bool,
}

/// When a frame should leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// At once if all is idle: somebody waits for the answer.
    Now,
    /// At once if all has been idle for a moment, otherwise with its neighbours: the flusher writes
    /// them, or whoever fills a batch.
    Idle,
    /// With its neighbours: more is about to follow. The flusher writes them, unless a batch is
    /// full before, or somebody comes who waits for an answer.
    Soon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Down,
    /// The subscriptions are being announced: control frames are kept, nothing is written.
    Opening,
    Up,
    /// What is there is still written; what is published waits for the next connection.
    Leaving,
    /// What is there is still written, nothing is added.
    Closing,
    Closed,
}

impl Phase {
    /// Whether batches are written.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Up | Self::Leaving | Self::Closing)
    }
}

/// What the outbox has counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxCounts {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) torn: u64,
    pub(crate) discarded: u64,
    pub(crate) pings: u64,
}

/// What is left of a connection that ended.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// The flushes that got no answer.
    pub(crate) pongs: Vec<Pong>,
}

/// The outbox of one connection. The rules are in the head of the folder.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(super) config: OutboxConfig,
    pub(super) state: Mutex<State>,
    /// Publishers wait here for room, and for the writer to catch up.
    pub(super) room: Condvar,
    /// The flusher waits here for work.
    pub(super) work: Condvar,
    /// Whoever ends or closes a connection waits here for the turn to come back.
    pub(super) turn_back: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) epoch: u64,
    pub(super) stream: Option<Arc<dyn Stream>>,
    pub(super) limits: ServerLimits,
    /// Publishing is refused: the connection drains.
    pub(super) draining: bool,
    pub(super) pending: Frames,
    /// What was published while leaving.
    pub(super) later: Frames,
    pub(super) taken: Frames,
    pub(super) urgent: Vec<u8>,
    pub(super) pongs: PongLine,
    /// Somebody has the turn.
    pub(super) writing: bool,
    pub(super) flusher_sleeps: bool,
    /// It was woken and does not run yet.
    pub(super) flusher_woken: bool,
    /// A write failed: no more turns until the next connection.
    pub(super) broken: bool,
    /// The stream did not take all that a caller wrote last, and the flusher, which can wait for
    /// it, has not written everything since.
    pub(super) balked: bool,
    /// The writer is slow, as a publisher has found that let it catch up: until then, or until it
    /// has caught up, the outbox is used up to its limit.
    pub(super) overrun: Option<Instant>,
    /// Bytes of all frames that have been written whole.
    pub(super) written: u64,
    /// How much `written` must be for a publisher that is behind to go on; see `room.rs`.
    pub(super) goal: Option<u64>,
    /// Publishers that wait for room.
    pub(super) short: usize,
    pub(super) last_write: Option<Instant>,
    /// Bytes and messages of all frames that are not written whole.
    pub(super) bytes: usize,
    pub(super) messages: u64,
    pub(super) out_messages: u64,
    pub(super) out_bytes: u64,
    pub(super) torn: u64,
    pub(super) discarded: u64,
}

/// What the holder of the turn writes.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) epoch: u64,
    pub(crate) stream: Arc<dyn Stream>,
    pub(super) frames: Frames,
    pub(super) urgent: Vec<u8>,
    pub(super) length: usize,
}

impl Batch {
    /// The bytes to write now; empty when the batch is done.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.urgent.is_empty() { self.frames.front(self.length) } else { &self.urgent }
    }

    /// Counts what was written whole. It may have to read the batch: no lock is held.
    pub(super) fn settle(&mut self) {
        self.frames.settle();
    }

    /// So many of `bytes` were taken by the stream.
    pub(crate) fn wrote(&mut self, count: usize) {
        if self.urgent.is_empty() {
            self.frames.advance(count);
            self.length = self.length.saturating_sub(count);
        } else {
            self.urgent.drain(..count.min(self.urgent.len()));
        }
    }

    /// Nothing is left to write, not even what the stream holds back.
    pub(crate) fn is_done(&self) -> bool {
        self.urgent.is_empty() && self.length == 0 && !self.stream.holds_back()
    }
}

/// A batch is at most so many bytes, or one message: what TLS loses with a connection, and how long
/// a PONG may have to wait.
pub(super) const BATCH_MOST: usize = GROUP_MOST;

/// Beyond this, what a publisher brings has left the caches before it is written. Measured with
/// messages of 1 and 8 KiB to a server on the same machine: a fifth more of them a second than with
/// 8 MiB waiting, for three quarters of the processor time. 256 KiB and 2 MiB are worse.
pub(crate) const HIGH_WATER: usize = 512 * 1024;

// Invariant: what waits at the high water, and a message that finds it, fit into a kept buffer.
const _: () = assert!(KEEP >= 2 * HIGH_WATER);

/// What a publisher gives a writer that is behind, again for each high water that it takes: one on
/// the same machine or network does. For a slower one a burst must not wait. A message of several
/// megabytes, which counts when it is written whole, may look like a slow writer.
pub(super) const BRIEFLY: Duration = Duration::from_millis(10);

impl Outbox {
    pub(crate) fn new(config: OutboxConfig) -> Self {
        let state = State {
            phase: Phase::Down,
            epoch: 0,
            stream: None,
            limits: ServerLimits { max_payload: 0, headers: true },
            draining: false,
            pending: Frames::new(),
            later: Frames::new(),
            taken: Frames::new(),
            urgent: Vec::new(),
            pongs: PongLine::new(),
            writing: false,
            flusher_sleeps: false,
            flusher_woken: false,
            broken: false,
            balked: false,
            overrun: None,
            written: 0,
            goal: None,
            short: 0,
            last_write: None,
            bytes: 0,
            messages: 0,
            out_messages: 0,
            out_bytes: 0,
            torn: 0,
            discarded: 0,
        };
        // Only who may wait, and has the patience, looks at what is below the limit.
        let high_water = match config.policy {
            OutboxPolicy::Block(patience) if patience >= BRIEFLY => {
                config.high_water.min(config.limit)
            }
            _ => config.limit,
        };
        Self {
            config: OutboxConfig { high_water, ..config },
            state: Mutex::new(Rank::Outbox, state),
            room: Condvar::new(),
            work: Condvar::new(),
            turn_back: Condvar::new(),
        }
    }

    /// Messages and bytes that wait to be written.
    pub(crate) fn pending(&self) -> (u64, usize) {
        let state = self.state.lock();
        (state.messages, state.bytes)
    }

    pub(crate) fn counts(&self) -> OutboxCounts {
        let state = self.state.lock();
        OutboxCounts {
            messages: state.out_messages,
            bytes: state.out_bytes,
            torn: state.torn,
            discarded: state.discarded,
            pings: state.pongs.sent(),
        }
    }
}

impl State {
    /// Nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
            && self.taken.is_empty()
            && self.urgent.is_empty()
            && !self.holds_back()
    }

    /// The stream has taken bytes, or has some of its own, that the kernel does not have yet.
    pub(super) fn holds_back(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.holds_back())
    }

    /// Takes the turn with the next batch, if nobody has it and there is something to write.
    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        if self.writing || self.broken || !self.phase.writes() {
            return None;
        }
        let stream = self.stream.clone()?;
        let mut batch = Batch {
            epoch: self.epoch,
            stream,
            frames: Frames::new(),
            urgent: Vec::new(),
            length: 0,
        };
        // The urgent lane goes between two batches: the PINGs of a batch are expected in its place.
        if !self.urgent.is_empty() && !self.taken.has_cut() {
            self.pongs.leave_urgent();
            batch.urgent = std::mem::take(&mut self.urgent);
        } else {
            if self.taken.is_empty() {
                std::mem::swap(&mut self.taken, &mut self.pending);
            }
            // Without a frame it is a batch of nothing: the write goes on with what is held back.
            if self.taken.is_empty() && !batch.stream.holds_back() {
                return None;
            }
            let (length, pings) = self.taken.cut(BATCH_MOST);
            self.pongs.leave(pings);
            batch.length = length;
        }
        batch.frames = std::mem::take(&mut self.taken);
        self.writing = true;
        Some(batch)
    }

    /// Whether a message may be published while the connection is up; `size` is that of payload and
    /// headers.
    #[inline(always)]
    pub(super) fn accepts(&self, with_headers: bool, size: usize) -> bool {
        let most = self.limits.max_payload;
        !self.draining && (self.limits.headers || !with_headers) && (most == 0 || size <= most)
    }

    /// Whether a message may be published at all.
    pub(super) fn admits(&self, with_headers: bool, size: usize) -> Result<()> {
        let open = !matches!(self.phase, Phase::Closing | Phase::Closed);
        if open && self.accepts(with_headers, size) {
            return Ok(());
        }
        Err(self.refusal(with_headers, size))
    }

    /// Why a message may not be published.
    fn refusal(&self, with_headers: bool, size: usize) -> Error {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return Error::new(ErrorKind::Closed, "the connection is closed");
        }
        if self.draining {
            return Error::new(ErrorKind::Draining, "the connection is draining");
        }
        if with_headers && !self.limits.headers {
            let text = "headers are switched off, here or at the server";
            return Error::new(ErrorKind::HeadersUnsupported, text);
        }
        let most = self.limits.max_payload;
        let text = format!("payload and headers take {size} bytes, the server accepts {most}");
        Error::new(ErrorKind::MaxPayload, text)
    }

    /// Keeps the messages of a lost connection, drops the rest.
    pub(super) fn collect_remains(&mut self) -> Remains {
        let mut kept = Frames::new();
        let is_message = |kind, _: &[u8]| kind == Kind::Data;
        let torn = u64::from(self.taken.drain(&mut kept, is_message));
        self.torn += torn;
        self.pending.drain(&mut kept, is_message);
        self.later.drain(&mut kept, is_message);
        let before = self.messages;
        (self.bytes, self.messages) = kept.totals();
        // What a writer still holds is given up: nobody will say what became of it.
        self.discarded += before.saturating_sub(self.messages + torn);
        self.pending = kept;
        self.urgent.clear();
        self.stream = None;
        // A writer that is still out belongs to no connection any more.
        self.epoch = 0;
        self.writing = false;
        self.balked = false;
        // What is known of one server says nothing of the next.
        self.overrun = None;
        Remains { pongs: self.pongs.clear() }
    }

    /// Takes out messages that this server would close the connection for: larger than it accepts,
    /// or with headers that it does not know. Returns their number.
    pub(super) fn drop_refused(&mut self) -> u64 {
        let ServerLimits { max_payload: most, headers } = self.limits;
        let before = self.messages;
        let mut kept = Frames::new();
        self.pending.drain(&mut kept, |kind, frame| {
            let fits = most == 0 || announced_size(frame).is_none_or(|size| size <= most as u64);
            kind != Kind::Data || (fits && (headers || !frame.starts_with(b"HPUB")))
        });
        (self.bytes, self.messages) = kept.totals();
        self.pending = kept;
        let dropped = before.saturating_sub(self.messages);
        self.discarded += dropped;
        dropped
    }
}
