//! One client of the test server: its socket and what waits to be written to it.
//!
//! Not here: what an operation means (`broker.rs`) and who starts the threads (`server.rs`).
//!
//! Two threads belong to a session: a reader, which calls [`Session::read`], and a writer, which
//! runs [`Session::write_loop`]. Any thread may call the rest, holding no lock. [`Session::append`]
//! only fills a buffer and says whether the writer must be woken, so that a reader that handles
//! many messages at once wakes each receiver once.
//!
//! The lock guards the buffer and is never held while the socket is used. A session ends in one of
//! two ways: [`cut`](Session::cut) at once, [`finish`](Session::finish) after the buffer was
//! written. The [`Gate`], shared by all sessions, makes the server fall silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::sync::{Arc, Condvar, Mutex, Rank, assert_unlocked};
use std::sync::atomic::{AtomicBool, Ordering};

/// One client: its socket, its buffer, and the few facts that other threads need to know.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) client_ip: String,
    socket: TcpStream,
    gate: Arc<Gate>,
    outgoing: Mutex<Outgoing>,
    filled: Condvar,
    ended: AtomicBool,
    /// Whether the client understands HMSG.
    takes_headers: AtomicBool,
    /// Whether the client understands an INFO at any time and is past its handshake.
    takes_infos: AtomicBool,
}

#[derive(Debug)]
struct Outgoing {
    buffer: Vec<u8>,
    ending: Ending,
    /// The newest INFO in the buffer or written; an older one must not follow it.
    info: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    WhenWritten,
    Now,
}

impl Session {
    pub(crate) fn new(id: u64, client_ip: String, socket: TcpStream, gate: Arc<Gate>) -> Self {
        let outgoing = Outgoing { buffer: Vec::new(), ending: Ending::Open, info: 0 };
        Self {
            id,
            client_ip,
            socket,
            gate,
            outgoing: Mutex::new(Rank::Outer, outgoing),
            filled: Condvar::new(),
            ended: AtomicBool::new(false),
            takes_headers: AtomicBool::new(false),
            takes_infos: AtomicBool::new(false),
        }
    }

    /// Lets `write` append to the buffer. Returns whether it was empty: then somebody must call
    /// [`wake`](Self::wake). A client that lets too much wait is cut.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut outgoing = self.outgoing.lock();
        if outgoing.ending != Ending::Open {
            return false;
        }
        let idle = outgoing.buffer.is_empty();
        write(&mut outgoing.buffer);
        if outgoing.buffer.len() > MAX_PENDING {
            drop(outgoing);
            self.cut();
            return false;
        }
        idle
    }

    /// Makes the writer look at the buffer.
    pub(crate) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&self, bytes: &[u8]) {
        if self.append(|buffer| buffer.extend_from_slice(bytes)) {
            self.wake();
        }
    }

    /// Sends an INFO, unless a newer one went ahead of it.
    pub(crate) fn send_info(&self, version: u64, line: &str) {
        {
            let mut outgoing = self.outgoing.lock();
            if outgoing.ending != Ending::Open || version < outgoing.info {
                return;
            }
            outgoing.info = version;
            outgoing.buffer.extend_from_slice(line.as_bytes());
        }
        self.wake();
    }

    /// Ends the session once everything so far is written; what comes later is discarded.
    pub(crate) fn finish(&self) {
        {
            let mut outgoing = self.outgoing.lock();
            if outgoing.ending == Ending::Open {
                outgoing.ending = Ending::WhenWritten;
            }
        }
        self.wake();
    }

    /// Ends the session at once, whatever its threads are doing.
    pub(crate) fn cut(&self) {
        {
            let mut outgoing = self.outgoing.lock();
            outgoing.ending = Ending::Now;
            outgoing.buffer = Vec::new();
        }
        self.ended.store(true, Ordering::Release);
        self.wake();
        self.gate.wake();
        assert_unlocked("shutting down a socket");
        // An error means that the other side was faster.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Waits for bytes and for the gate. `None` is the end of the session.
    pub(crate) fn read(&self, chunk: &mut [u8]) -> Option<usize> {
        assert_unlocked("reading from a socket");
        let count = loop {
            match (&self.socket).read(chunk) {
                Ok(0) => return None,
                Ok(count) => break count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        };
        self.pass_gate().then_some(count)
    }

    /// The body of the writer thread: writes whatever is in the buffer, until the session ends.
    pub(crate) fn write_loop(&self) {
        let mut batch = Vec::new();
        while self.take(&mut batch) {
            if !self.pass_gate() {
                break;
            }
            assert_unlocked("writing to a socket");
            if (&self.socket).write_all(&batch).is_err() {
                break;
            }
            batch.clear();
            batch.shrink_to(KEPT_CAPACITY);
        }
        self.cut();
    }

    /// Whether the writer must still do something: waits for it and swaps it into `batch`.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let mut outgoing = self.outgoing.lock();
        loop {
            if outgoing.ending == Ending::Now {
                return false;
            }
            if !outgoing.buffer.is_empty() {
                std::mem::swap(&mut outgoing.buffer, batch);
                return true;
            }
            if outgoing.ending == Ending::WhenWritten {
                return false;
            }
            // No deadline: every end of a session wakes its writer.
            self.filled.wait_until(&mut outgoing, None);
        }
    }

    fn pass_gate(&self) -> bool {
        self.gate.pass(&self.ended);
        !self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn set_takes_headers(&self, takes: bool) {
        self.takes_headers.store(takes, Ordering::Relaxed);
    }

    pub(crate) fn takes_headers(&self) -> bool {
        self.takes_headers.load(Ordering::Relaxed)
    }

    /// Called with the broker's lock held, so that no INFO falls between handshake and broadcast.
    pub(crate) fn set_takes_infos(&self) -> bool {
        !self.takes_infos.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn takes_infos(&self) -> bool {
        self.takes_infos.load(Ordering::Relaxed)
    }
}

/// Holds up all readers and writers of a server while it is silent.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The same as the value under the lock, for a look without the lock.
    hint: AtomicBool,
    silent: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            hint: AtomicBool::new(false),
            silent: Mutex::new(Rank::Outer, false),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        *self.silent.lock() = silent;
        self.hint.store(silent, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits until the server is not silent or the flag is set.
    fn pass(&self, ended: &AtomicBool) {
        if !self.hint.load(Ordering::Acquire) {
            return;
        }
        let mut silent = self.silent.lock();
        while *silent && !ended.load(Ordering::Acquire) {
            // No deadline: the end of the silence and the end of any session wake all.
            self.changed.wait_until(&mut silent, None);
        }
    }

    /// Makes those who wait look at their flags again.
    fn wake(&self) {
        // The lock, so that nobody is between looking at the flag and waiting.
        drop(self.silent.lock());
        self.changed.notify_all();
    }
}

/// What may wait for a client, in bytes, before it is cut as a slow consumer: `nats-server`'s
/// default.
const MAX_PENDING: usize = 64 * 1024 * 1024;
/// The capacity that a buffer keeps after a peak.
const KEPT_CAPACITY: usize = 1024 * 1024;
