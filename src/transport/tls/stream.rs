//! The handshake, and the stream after it.
//!
//! Who calls: the handshake and `read` the reading thread, `write` and `try_write` whoever has the
//! write turn, the rest any thread. The session is locked only to encrypt and decrypt; the socket
//! is read and written with no lock held, and there is nothing between the two that waits.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use native_tls::HandshakeError;

use super::super::read_wait::ReadWait;
use super::super::stream::{Stream, is_wait};
use super::explain::{handshake_failed, session_failed};
use super::session::{Decrypted, Pipe, Session};
use super::settings::PreparedTls;
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Mutex, Rank, assert_unlocked};

/// The most that is encrypted at once: four full records. What is encrypted and not sent is lost
/// with the connection, and the session is locked for so long.
const ENCRYPT_MOST: usize = 64 * 1024;

/// Makes TLS of a stream, as the client, before the deadline. The server's certificate must be for
/// `name`. Whoever shuts `inner` down cuts it off.
pub(crate) fn secure(
    prepared: &PreparedTls,
    inner: Arc<dyn Stream>,
    name: &str,
    deadline: Instant,
) -> Result<Arc<dyn Stream>> {
    assert_unlocked("a TLS handshake");
    let mut step = prepared.connector().connect(name, Pipe::default());
    loop {
        let mut waiting = match step {
            Ok(tls) => {
                let stream = TlsStream::new(inner, Session::new(tls), name);
                stream.send_all(deadline)?;
                return Ok(Arc::new(stream));
            }
            Err(HandshakeError::Failure(error)) => return Err(handshake_failed(error, name)),
            Err(HandshakeError::WouldBlock(waiting)) => waiting,
        };
        send(&*inner, &waiting.get_mut().take_outgoing(), deadline)?;
        receive(&*inner, waiting.get_mut(), name, deadline)?;
        step = waiting.handshake();
    }
}

/// Sends a message of the handshake.
fn send(inner: &dyn Stream, mut bytes: &[u8], deadline: Instant) -> Result<()> {
    while !bytes.is_empty() {
        match inner.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(broken_off(&error)),
        }
        if !bytes.is_empty() && clock::now() >= deadline {
            return Err(too_slow());
        }
    }
    Ok(())
}

/// Waits for the next part of a message of the handshake.
fn receive(inner: &dyn Stream, pipe: &mut Pipe, name: &str, deadline: Instant) -> Result<()> {
    let mut space = pipe.take_space();
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(too_slow());
        }
        match inner.read(space.free(), Some(left)) {
            Ok(0) => {
                let text = format!("the server closed the connection during TLS with '{name}'");
                return Err(Error::new(ErrorKind::Tls, text));
            }
            Ok(count) => {
                pipe.arrived(space, count);
                return Ok(());
            }
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(broken_off(&error)),
        }
    }
}

fn broken_off(error: &io::Error) -> Error {
    let text = format!("the connection broke during the TLS handshake: {error}");
    Error::new(ErrorKind::Tls, text)
}

fn too_slow() -> Error {
    let text = "the TLS handshake took longer than the connect time-out";
    Error::new(ErrorKind::Timeout, text)
}

/// A TLS session over another stream.
struct TlsStream {
    inner: Arc<dyn Stream>,
    session: Mutex<Session>,
    /// The name that the server's certificate is for.
    name: String,
    /// There is ciphertext that was not sent. Changed with the session locked only.
    held: AtomicBool,
    /// Reading has produced some of it.
    asks: AtomicBool,
    /// Bytes have arrived in the present read, or in the last one.
    heard: AtomicBool,
}

impl TlsStream {
    fn new(inner: Arc<dyn Stream>, session: Session, name: &str) -> Self {
        Self {
            inner,
            session: Mutex::new(Rank::Session, session),
            name: name.to_owned(),
            held: AtomicBool::new(true),
            asks: AtomicBool::new(false),
            heard: AtomicBool::new(false),
        }
    }

    /// Sends everything that is held back; while the handshake ends, when no one else writes.
    fn send_all(&self, deadline: Instant) -> Result<()> {
        while self.holds_back() {
            match self.send(|inner, bytes| inner.write(bytes)) {
                Ok(()) => {}
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(broken_off(&error)),
            }
            if self.holds_back() && clock::now() >= deadline {
                return Err(too_slow());
            }
        }
        Ok(())
    }

    /// Encrypts a first part of the bytes, if nothing is held back, and sends what there is by
    /// `operation`. What was encrypted counts as taken even if it could not be sent: a part of it
    /// may be with the server, and it can be sent on this session only.
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
        let part = bytes.get(..ENCRYPT_MOST).unwrap_or(bytes);
        {
            let mut session = self.session.lock();
            let outcome = session.encrypt(part);
            self.held.store(session.holds_back(), Ordering::Release);
            outcome.map_err(|error| session_failed(error, &self.name))?;
        }
        // A failure shows itself again when the next write goes on with what is held back.
        let _ = self.send(&operation);
        Ok(part.len())
    }

    /// Sends what is held back, by one operation.
    fn send(&self, operation: impl Fn(&dyn Stream, &[u8]) -> io::Result<usize>) -> io::Result<()> {
        let unsent = {
            let mut session = self.session.lock();
            let unsent = session.take_unsent();
            self.held.store(session.holds_back(), Ordering::Release);
            unsent
        };
        let Some(mut unsent) = unsent else { return Ok(()) };
        let outcome = operation(&*self.inner, unsent.rest());
        if let Ok(count) = outcome {
            unsent.sent(count);
        }
        let mut session = self.session.lock();
        session.give_back(unsent);
        self.held.store(session.holds_back(), Ordering::Release);
        outcome.map(|_| ())
    }
}

impl Stream for TlsStream {
    fn read(&self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize> {
        let wait = ReadWait::new(wait);
        self.heard.store(false, Ordering::Relaxed);
        loop {
            let mut space = {
                let mut session = self.session.lock();
                let outcome = session.decrypt(buffer);
                let (decrypted, produced) =
                    outcome.map_err(|error| session_failed(error, &self.name))?;
                if produced {
                    self.held.store(true, Ordering::Release);
                    self.asks.store(true, Ordering::Release);
                }
                match decrypted {
                    Decrypted::Bytes(count) => return Ok(count),
                    Decrypted::End => return Ok(0),
                    Decrypted::Needs => session.pipe().take_space(),
                }
            };
            let outcome = wait.left().and_then(|left| self.inner.read(space.free(), left));
            let count = *outcome.as_ref().unwrap_or(&0);
            self.session.lock().pipe().arrived(space, count);
            // An end without a farewell is an end too: the protocol above has whole frames.
            if outcome? == 0 {
                return Ok(0);
            }
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.pass(bytes, |inner, bytes| inner.write(bytes))
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.pass(bytes, |inner, bytes| inner.try_write(bytes))
    }

    fn holds_back(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    fn asks_for_write(&self) -> bool {
        self.asks.load(Ordering::Relaxed) && self.asks.swap(false, Ordering::AcqRel)
    }

    fn finish(&self) {
        {
            let mut session = self.session.lock();
            session.say_goodbye();
            self.held.store(true, Ordering::Release);
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

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("inner", &self.inner).finish_non_exhaustive()
    }
}
