//! The two traits that the rest of the crate knows of a transport, and the way to cut off what
//! waits.
//!
//! A [`Stream`] is shared: one thread reads, another writes, any thread may call `shutdown`, which
//! frees both at once. Whoever reads or writes holds an `Arc` of it, so that no descriptor can be
//! reused under a call. `holds_back` takes no lock: it is asked with that of the outbox held.
//!
//! Not here: which server, when, and what the bytes mean.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Result;
use crate::server_url::ServerUrl;
use crate::sync::{Arc, Condvar, Mutex, Rank, assert_unlocked};
use crate::trace::Trace;

/// A connected byte stream.
pub(crate) trait Stream: Send + Sync + fmt::Debug {
    /// Reads what is there, waiting up to `wait` (`None`: until the stream ends) for the first
    /// byte. `Ok(0)` is the end. A wait that ran out is `WouldBlock` or `TimedOut`, a signal
    /// `Interrupted`: the caller knows its own deadline and calls again. Only one thread reads.
    fn read(&self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize>;

    /// Takes a first part of `bytes`, waiting up to a fraction of a second for room. The caller
    /// loops and keeps the deadline: a wait that ran out is `WouldBlock` or `TimedOut`. Only one
    /// thread writes.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Takes what fits without waiting; `Ok(0)` is "no room", also where the platform cannot do
    /// it.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether the stream has taken bytes, or has some of its own, that the kernel does not have
    /// yet. Each write goes on with them first, also one of nothing.
    fn holds_back(&self) -> bool {
        false
    }

    /// Whether reading has produced something to write since this was last asked: the reading
    /// thread, which never writes, then has it written.
    fn asks_for_write(&self) -> bool {
        false
    }

    /// Whether bytes have arrived in the last read, though it gave none: a part of a record, or a
    /// frame that is not for the caller. Such a record may take longer than a server may be silent.
    fn has_heard(&self) -> bool {
        false
    }

    /// Ends writing: the other side reads what was written, then the end. It then closes, which
    /// ends reading; `shutdown` at once could make the kernel throw away what it still holds.
    fn finish(&self);

    /// Ends both directions; a blocked read or write returns at once. May be called many times.
    fn shutdown(&self);

    /// Our end.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// The other end.
    fn peer_addr(&self) -> Option<SocketAddr>;
}

/// Makes streams.
pub(crate) trait Dial: Send + Sync + fmt::Debug {
    /// Connects to the server before the deadline, or until cancelled. Called on the reader thread.
    fn connect(
        &self,
        url: &ServerUrl,
        deadline: Instant,
        cancel: &Arc<Cancel>,
        trace: &Trace<'_>,
    ) -> Result<Arc<dyn Stream>>;
}

/// Cuts off an attempt to connect: wakes whoever waits in it and shuts its stream down.
///
/// `cancel` is called by the thread that closes the connection, everything else by the reader
/// thread; `nudge` also by the thread that resolves a name.
#[derive(Debug)]
pub(crate) struct Cancel {
    state: Mutex<CancelState>,
    changed: Condvar,
}

#[derive(Debug)]
struct CancelState {
    cancelled: bool,
    stream: Option<Arc<dyn Stream>>,
}

/// The wait was cut off.
#[derive(Debug)]
pub(crate) struct Cancelled;

impl Cancel {
    pub(crate) fn new() -> Self {
        let state = CancelState { cancelled: false, stream: None };
        Self { state: Mutex::new(Rank::Leaf, state), changed: Condvar::new() }
    }

    pub(crate) fn cancel(&self) {
        let stream = {
            let mut state = self.state.lock();
            state.cancelled = true;
            state.stream.take()
        };
        self.changed.notify_all();
        if let Some(stream) = stream {
            assert_unlocked("shutting a socket down");
            stream.shutdown();
        }
    }

    /// Registers the stream that `cancel` shuts down from now on, or unregisters it.
    pub(crate) fn watch(&self, stream: Option<Arc<dyn Stream>>) {
        let late = {
            let mut state = self.state.lock();
            if state.cancelled {
                stream
            } else {
                state.stream = stream;
                None
            }
        };
        if let Some(stream) = late {
            stream.shutdown();
        }
    }

    /// Asks whoever waits to look again.
    pub(crate) fn nudge(&self) {
        drop(self.state.lock());
        self.changed.notify_all();
    }

    /// Waits until `done` gives a value (asked at the start, at each nudge and each `poll`), until
    /// the deadline (`Ok(None)`) or the cancellation.
    pub(crate) fn wait_for<T>(
        &self,
        deadline: Instant,
        mut poll: Option<Duration>,
        mut done: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, Cancelled> {
        loop {
            if let Some(value) = done() {
                return Ok(Some(value));
            }
            let mut state = self.state.lock();
            if state.cancelled {
                return Err(Cancelled);
            }
            let now = clock::now();
            if now >= deadline {
                return Ok(None);
            }
            let until = poll.map_or(deadline, |poll| deadline.min(now + poll));
            self.changed.wait_until(&mut state, Some(until));
            // Polling begins fast, for peers on the same machine, and backs off.
            poll = poll.map(|poll| (poll * 2).min(Duration::from_millis(10)));
        }
    }
}

/// Whether a read or write only ran out of its time slice, or met a signal. On Unix `TimedOut` is
/// the kernel giving the connection up, elsewhere it is the time slice.
pub(crate) fn is_wait(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => true,
        io::ErrorKind::TimedOut => cfg!(not(unix)),
        _ => false,
    }
}
