//! What models put in the place of a socket: it keeps what was written, and answers PINGs if asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use nats_blocking::internals::Pipe;

#[derive(Debug, Default)]
struct State {
    written: Vec<u8>,
    unread: Vec<u8>,
    down: bool,
    /// A write is under way: there must never be two.
    busy: bool,
    /// Each PING is answered at once.
    answering: bool,
    /// What the next write takes at most, if it does not wait for room.
    room: Option<usize>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

impl Wire {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), changed: Condvar::new() })
    }

    /// The first write that does not wait takes so many bytes only.
    pub(crate) fn with_room(room: usize) -> Arc<Self> {
        let wire = Self::new();
        wire.state.lock().unwrap().room = Some(room);
        wire
    }

    /// A connection from which these bytes can be read.
    pub(crate) fn saying(bytes: &str) -> Arc<Self> {
        let wire = Self::new();
        wire.state.lock().unwrap().unread = bytes.as_bytes().to_vec();
        wire
    }

    /// A server that says `hello` and answers every PING.
    pub(crate) fn answering(hello: &str) -> Arc<Self> {
        let wire = Self::saying(hello);
        wire.state.lock().unwrap().answering = true;
        wire
    }

    pub(crate) fn pipe(self: &Arc<Self>) -> Arc<dyn Pipe> {
        Arc::clone(self) as Arc<dyn Pipe>
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.state.lock().unwrap().written.clone()).expect("text")
    }

    /// Waits until so many PINGs were written, or the wire is down; returns how many were.
    pub(crate) fn wait_pings(&self, count: usize) -> usize {
        let mut state = self.state.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&state.written);
            let pings = text.matches("PING\r\n").count();
            if pings >= count || state.down {
                return pings;
            }
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl Pipe for Wire {
    fn read(&self, buffer: &mut [u8], _: Option<Duration>) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        while state.unread.is_empty() && !state.down {
            state = self.changed.wait(state).unwrap();
        }
        let count = state.unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&state.unread[..count]);
        state.unread.drain(..count);
        Ok(count)
    }

    fn write(&self, bytes: &[u8], wait: bool) -> io::Result<usize> {
        {
            let mut state = self.state.lock().unwrap();
            assert!(!state.busy, "two threads write at once");
            if state.down {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            state.busy = true;
        }
        let mut state = self.state.lock().unwrap();
        state.busy = false;
        let room = if wait { None } else { state.room.take() };
        let count = room.unwrap_or(bytes.len()).min(bytes.len());
        state.written.extend_from_slice(&bytes[..count]);
        if state.answering {
            // No model splits a PING.
            let pings = bytes[..count].windows(6).filter(|part| part == b"PING\r\n").count();
            state.unread.extend_from_slice(&b"PONG\r\n".repeat(pings));
        }
        self.changed.notify_all();
        Ok(count)
    }

    fn shutdown(&self) {
        self.state.lock().unwrap().down = true;
        self.changed.notify_all();
    }
}
