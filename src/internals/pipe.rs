//! What a test puts in the place of a socket.
//!
//! Called like a [`Stream`] and a [`transport::Dial`]: one thread reads, the holder of the write
//! turn writes, any thread shuts down, no lock of the library held.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::server_url::ServerUrl;
use crate::sync::Arc;
use crate::trace::Trace;
use crate::transport::{self, Cancel, Stream};

/// A connected byte stream.
pub trait Pipe: fmt::Debug + Send + Sync + 'static {
    /// Like [`io::Read::read`]; a wait that ran out is `WouldBlock`.
    fn read(&self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize>;

    /// Takes a first part of the bytes; zero, where the caller does not `wait`, is no room.
    fn write(&self, bytes: &[u8], wait: bool) -> io::Result<usize>;

    /// Ends both directions; every later write fails.
    fn shutdown(&self);

    /// Ends the writing direction.
    fn finish(&self) {}
}

/// Makes pipes.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Connects to `host:port`.
    fn dial(&self, address: &str) -> io::Result<Arc<dyn Pipe>>;
}

#[derive(Debug)]
pub(super) struct PipeStream(pub(super) Arc<dyn Pipe>);

impl Stream for PipeStream {
    fn read(&self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize> {
        self.0.read(buffer, wait)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes, true)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes, false)
    }

    fn finish(&self) {
        self.0.finish();
    }

    fn shutdown(&self) {
        self.0.shutdown();
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

#[derive(Debug)]
pub(super) struct DialConnector(pub(super) Box<dyn Dial>);

impl transport::Dial for DialConnector {
    fn connect(
        &self,
        url: &ServerUrl,
        _: Instant,
        _: &Arc<Cancel>,
        _: &Trace<'_>,
    ) -> Result<Arc<dyn Stream>> {
        let address = format!("{}:{}", url.host(), url.port());
        let pipe = self.0.dial(&address).map_err(|error| Error::io("connecting", error))?;
        Ok(Arc::new(PipeStream(pipe)))
    }
}
