//! A [`Stream`] of a program's [`Transport`], which may do anything: panic, wait for ever, or give
//! more bytes than there is room for.
//!
//! Who calls: as for every stream. No thread of the program comes through here: what would not wait
//! has no room, so that everything is written by the flusher. The two endings run on a thread of
//! their own, for they are asked for by whoever closes the connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::connector::{Connector, ServerAddress, Transport};
use super::stream::Stream;
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, caught, guarded, spawn};

/// How long a write may wait for room.
const WRITE_SLICE: Duration = Duration::from_millis(250);

/// How long a transport that does not wait, though it should, is left alone.
const PAUSE: Duration = Duration::from_millis(1);

/// The connector of a program.
#[derive(Clone)]
pub(crate) struct OwnConnector(Arc<dyn Connector>);

impl OwnConnector {
    pub(crate) fn new(connector: impl Connector + 'static) -> Self {
        Self(Arc::new(connector))
    }

    /// Asks it, on a thread that may be left behind. What nobody comes for is shut down.
    pub(crate) fn connect(
        &self,
        server: &ServerAddress,
        deadline: Instant,
    ) -> Result<Arc<dyn Stream>> {
        match self.0.connect(server, deadline) {
            Ok(transport) => Ok(Arc::new(ForeignStream::new(transport))),
            Err(error) => {
                let late = error.kind() == io::ErrorKind::TimedOut;
                let kind = if late { ErrorKind::Timeout } else { ErrorKind::Io };
                let text = format!("the connector could not connect to {server}: {error}");
                Err(Error::with_source(kind, text, error))
            }
        }
    }
}

/// What is in it is told by nobody else.
impl fmt::Debug for OwnConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnConnector")
    }
}

/// It is only called through `caught`.
impl UnwindSafe for OwnConnector {}
impl RefUnwindSafe for OwnConnector {}

/// Drops the transport, which may panic in it.
struct Kept(Option<Box<dyn Transport>>);

impl Drop for Kept {
    fn drop(&mut self) {
        let transport = self.0.take();
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(transport)));
        // The payload could panic when it is dropped.
        std::mem::forget(outcome);
    }
}

/// A transport of the program.
struct ForeignStream {
    transport: Arc<Kept>,
    /// Asked once: the program's code must not run where somebody only looks.
    addresses: (Option<SocketAddr>, Option<SocketAddr>),
    finished: AtomicBool,
    ended: AtomicBool,
    /// Why a write failed. A part of the bytes may be with the peer, so that was the last one: what
    /// stands above must not send them again.
    failed: OnceLock<Error>,
}

impl ForeignStream {
    fn new(transport: Box<dyn Transport>) -> Self {
        let addresses = (transport.local_addr(), transport.peer_addr());
        Self {
            addresses,
            transport: Arc::new(Kept(Some(transport))),
            finished: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            failed: OnceLock::new(),
        }
    }

    /// A write failed, and with it every later one. The first failure is told.
    fn write_failed(&self, error: io::Error) -> io::Error {
        let own = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
        let text = error.to_string();
        let failed = own.unwrap_or_else(|| Error::with_source(ErrorKind::Io, text, error));
        io::Error::other(self.failed.get_or_init(|| failed).clone())
    }

    /// One call of the transport; a panic is an error.
    fn call<T>(
        &self,
        doing: &str,
        call: impl FnOnce(&dyn Transport) -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(transport) = self.transport.0.as_deref() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        caught(|| call(transport)).unwrap_or_else(|| {
            let text = format!("the transport of the program panicked while {doing}");
            Err(io::Error::other(Error::new(ErrorKind::UserPanic, text)))
        })
    }

    /// Ends it from a thread of its own: whoever wants it to end does not wait for it. False if
    /// there is no thread.
    fn end(&self, how: fn(&dyn Transport)) -> bool {
        let transport = Arc::clone(&self.transport);
        let call = move || {
            if let Some(transport) = transport.0.as_deref() {
                // After a panic there is nothing more to be done.
                guarded(|| how(transport));
            }
        };
        // Without a thread more, the transport ends at the next try, or when it is dropped.
        spawn("nats-shutdown".to_owned(), 0, call).is_ok()
    }
}

/// Whether a transport says that it has waited long enough.
fn is_over(error: &io::Error, deadline: Option<Instant>) -> bool {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => true,
        // Before the deadline it is the system that has given the connection up.
        io::ErrorKind::TimedOut => deadline.is_some_and(|deadline| clock::now() >= deadline),
        _ => false,
    }
}

/// A wait that ended; one that never began does not make the caller turn on the spot.
fn waited(deadline: Option<Instant>) -> io::Error {
    if deadline.is_none_or(|deadline| clock::now() < deadline) {
        // Paces: a transport that gives up before its deadline would be asked without a pause.
        std::thread::sleep(PAUSE);
    }
    io::ErrorKind::WouldBlock.into()
}

/// A number of bytes that a transport claims, which may be none at all.
fn plausible(count: usize, most: usize, doing: &str) -> io::Result<usize> {
    if count <= most {
        return Ok(count);
    }
    let text = format!("the transport of the program claims {count} bytes, {doing} {most}");
    Err(io::Error::other(text))
}

impl Stream for ForeignStream {
    fn read(&self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize> {
        let deadline = wait.map(clock::after);
        let most = buffer.len();
        match self.call("reading", |transport| transport.read(buffer, deadline)) {
            Ok(count) => plausible(count, most, "reading at most"),
            Err(error) if is_over(&error, deadline) => Err(waited(deadline)),
            Err(error) => Err(error),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(failed) = self.failed.get() {
            return Err(io::Error::other(failed.clone()));
        }
        let deadline = clock::after(WRITE_SLICE);
        let outcome = match self.call("writing", |transport| transport.write(bytes, deadline)) {
            Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => plausible(count, bytes.len(), "writing"),
            Err(error) if is_over(&error, Some(deadline)) => return Err(waited(Some(deadline))),
            Err(error) => Err(error),
        };
        outcome.map_err(|error| self.write_failed(error))
    }

    fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn finish(&self) {
        if !self.finished.swap(true, Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
            self.end(|transport| transport.finish());
        }
    }

    fn shutdown(&self) {
        if !self.ended.swap(true, Ordering::SeqCst) && !self.end(|transport| transport.shutdown()) {
            self.ended.store(false, Ordering::SeqCst);
        }
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses.0
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        self.addresses.1
    }
}

impl Drop for ForeignStream {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for ForeignStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignStream").finish_non_exhaustive()
    }
}
