//! The stream of frames over another stream.
//!
//! Who calls: `read` the reading thread, `write` and `try_write` whoever has the write turn, the
//! rest any thread. One lock guards what comes in and one what goes out; neither is held while the
//! stream below is read or written, nor one while the other is.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::held_back::HeldBack;
use super::super::read_wait::ReadWait;
use super::super::stream::Stream;
use super::frames::{Decoder, encode_close, encode_control, encode_data};
use crate::sync::{Arc, Mutex, Rank};

/// The most that goes into one frame: with its head it fits into one step of the TLS below. What
/// is made and not sent is lost with the connection.
const FRAME: usize = 64 * 1024 - 14;

/// A WebSocket over another stream.
pub(super) struct WebSocketStream {
    inner: Arc<dyn Stream>,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
    /// There are frames that were not sent. Changed with `outgoing` locked only.
    held: AtomicBool,
    /// Reading has produced some of them.
    asks: AtomicBool,
    /// Bytes have arrived in the present read, or in the last one.
    heard: AtomicBool,
}

struct Incoming {
    /// What came right behind the response.
    early: Vec<u8>,
    decoder: Decoder,
}

#[derive(Default)]
struct Outgoing {
    made: Vec<u8>,
    unsent: HeldBack,
    /// An answer to the server, which overtakes nothing that was made before.
    answer: Option<Vec<u8>>,
}

impl Outgoing {
    fn holds_back(&self) -> bool {
        !self.unsent.is_empty() || !self.made.is_empty() || self.answer.is_some()
    }
}

impl WebSocketStream {
    /// After the upgrade, behind whose response these bytes came.
    pub(super) fn new(inner: Arc<dyn Stream>, early: Vec<u8>) -> Self {
        let incoming = Incoming { early, decoder: Decoder::new() };
        Self {
            inner,
            incoming: Mutex::new(Rank::Session, incoming),
            outgoing: Mutex::new(Rank::Session, Outgoing::default()),
            held: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            heard: AtomicBool::new(false),
        }
    }

    /// Moves what came with the response into the buffer; returns how much.
    fn early(&self, buffer: &mut [u8]) -> usize {
        let mut incoming = self.incoming.lock();
        let count = incoming.early.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(incoming.early.drain(..count)) {
            *to = from;
        }
        count
    }

    /// How much of these bytes is data, and whether the server is to be answered.
    fn decode(&self, buffer: &mut [u8], count: usize) -> io::Result<(usize, bool)> {
        let (data, answer) = {
            let mut incoming = self.incoming.lock();
            let data = incoming.decoder.decode(buffer, count);
            (data, incoming.decoder.take_answer())
        };
        let Some((kind, payload)) = answer else { return Ok((data, false)) };
        let mut frame = Vec::new();
        encode_control(kind, &payload, &mut frame)?;
        let mut outgoing = self.outgoing.lock();
        outgoing.answer = Some(frame);
        self.held.store(true, Ordering::Release);
        self.asks.store(true, Ordering::Release);
        Ok((data, true))
    }

    /// Makes a frame of a first part of the bytes, if nothing is held back, and sends what there is
    /// by `operation`. What is in a frame counts as taken even if it could not be sent: a part of
    /// it may be with the server, and nothing else may stand in its place.
    fn pass(
        &self,
        bytes: &[u8],
        operation: impl Fn(&dyn Stream, &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.holds_back() {
            self.send(&operation)?;
            if self.holds_back() {
                return Ok(0);
            }
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let part = bytes.get(..FRAME).unwrap_or(bytes);
        {
            let mut outgoing = self.outgoing.lock();
            encode_data(part, &mut outgoing.made)?;
            self.held.store(true, Ordering::Release);
        }
        // A failure shows itself again when the next write goes on with what is held back.
        let _ = self.send(&operation);
        Ok(part.len())
    }

    /// Sends what is held back, here or below, by one operation.
    fn send(&self, operation: impl Fn(&dyn Stream, &[u8]) -> io::Result<usize>) -> io::Result<()> {
        let unsent = {
            let mut outgoing = self.outgoing.lock();
            let Outgoing { made, unsent, answer } = &mut *outgoing;
            if let Some(answer) = answer.take() {
                made.extend_from_slice(&answer);
            }
            let unsent = unsent.take(made);
            self.held.store(outgoing.holds_back(), Ordering::Release);
            unsent
        };
        let Some(mut unsent) = unsent else {
            return if self.inner.holds_back() {
                operation(&*self.inner, &[]).map(|_| ())
            } else {
                Ok(())
            };
        };
        let outcome = operation(&*self.inner, unsent.rest());
        if let Ok(count) = outcome {
            unsent.sent(count);
        }
        let mut outgoing = self.outgoing.lock();
        outgoing.unsent.give_back(unsent);
        self.held.store(outgoing.holds_back(), Ordering::Release);
        outcome.map(|_| ())
    }
}

impl Stream for WebSocketStream {
    fn read(&self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize> {
        let wait = ReadWait::new(wait);
        self.heard.store(false, Ordering::Relaxed);
        loop {
            let end = self.incoming.lock().decoder.end();
            if let Some(end) = end {
                return end;
            }
            let mut count = self.early(buffer);
            if count == 0 {
                count = self.inner.read(buffer, wait.left()?)?;
            }
            // An end without a farewell is an end too: the protocol above has whole frames.
            if count == 0 {
                return Ok(0);
            }
            self.heard.store(true, Ordering::Relaxed);
            match self.decode(buffer, count)? {
                // The caller has the answer written.
                (0, true) => return Err(io::ErrorKind::WouldBlock.into()),
                (0, false) => {}
                (data, _) => return Ok(data),
            }
        }
    }

    fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed) || self.inner.has_heard()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.pass(bytes, |inner, bytes| inner.write(bytes))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.pass(bytes, |inner, bytes| inner.try_write(bytes))
    }

    fn holds_back(&self) -> bool {
        self.held.load(Ordering::Acquire) || self.inner.holds_back()
    }

    fn asks_for_write(&self) -> bool {
        let own = self.asks.load(Ordering::Relaxed) && self.asks.swap(false, Ordering::AcqRel);
        self.inner.asks_for_write() || own
    }

    fn finish(&self) {
        {
            let mut outgoing = self.outgoing.lock();
            let mut frame = Vec::new();
            // Without a farewell the end of the stream says the same.
            if encode_close(&mut frame).is_ok() {
                outgoing.answer = Some(frame);
                self.held.store(true, Ordering::Release);
            }
        }
        // As far as it goes without waiting: whoever still writes has what comes before it.
        let _ = self.send(|inner, bytes| inner.try_write(bytes));
        self.inner.finish();
    }

    fn shutdown(&self) {
        self.inner.shutdown();
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.inner.peer_addr()
    }
}

impl fmt::Debug for WebSocketStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketStream").field("inner", &self.inner).finish_non_exhaustive()
    }
}
