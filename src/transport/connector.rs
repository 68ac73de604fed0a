//! The two traits by which a program brings its own transport, and what stands between them.
//!
//! Whatever stands behind them is code of the program: nothing here calls it. `foreign.rs` does.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::clock;
use crate::server_url::ServerUrl;

/// Makes transports in place of a TCP connection: through a proxy or a tunnel, over a Unix socket,
/// or to a peer in memory. TLS and WebSocket run on top of what it makes, as the server's URL and
/// the options say.
///
/// It is given to [`OptionsBuilder::connector`](crate::OptionsBuilder::connector), and asked once
/// in each attempt to connect, on a thread of its own, `nats-N-connect`. It should give up at the
/// deadline. One that does not is left behind: the attempt fails, `close` does not wait for it
/// beyond its time-out, no second call is made while it runs, and what it makes later is closed. A
/// panic fails the attempt.
///
/// The name of the server is not resolved for it, for a proxy may know more names. Options of the
/// socket do not reach it.
///
/// This trait and [`Transport`] are new, and may grow in a later version.
///
/// ```
/// use std::io::{self, Read, Write};
/// use std::net::{TcpStream, ToSocketAddrs};
/// use std::time::Instant;
///
/// use nats_blocking::{Connector, Options, ServerAddress, Transport};
///
/// /// Through a proxy that takes HTTP CONNECT.
/// struct Proxy(String);
///
/// impl Connector for Proxy {
///     fn connect(
///         &self,
///         server: &ServerAddress,
///         deadline: Instant,
///     ) -> io::Result<Box<dyn Transport>> {
///         let left = || deadline.saturating_duration_since(Instant::now());
///         let proxy = self.0.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
///         let mut stream = TcpStream::connect_timeout(&proxy, left())?;
///         stream.set_nodelay(true)?;
///         stream.set_read_timeout(Some(left()))?;
///         write!(stream, "CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n")?;
///         let mut head = Vec::new();
///         while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
///             let mut byte = [0];
///             stream.read_exact(&mut byte)?;
///             head.extend_from_slice(&byte);
///         }
///         if !head.starts_with(b"HTTP/1.1 200") {
///             return Err(io::Error::other("the proxy refused"));
///         }
///         Ok(Box::new(stream))
///     }
/// }
///
/// let options = Options::builder()
///     .server("nats://nats.example.com")
///     .connector(Proxy("proxy.example.com:3128".to_owned()))
///     .build()?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
pub trait Connector: Send + Sync {
    /// Connects to the server before the deadline.
    ///
    /// # Errors
    ///
    /// Why not: the attempt fails with it as the cause. Its text is shown, and should hold no
    /// secret.
    fn connect(&self, server: &ServerAddress, deadline: Instant) -> io::Result<Box<dyn Transport>>;
}

/// A connected stream of bytes that a program brings; see [`Connector`].
///
/// One thread reads, another writes, at the same time, and any thread may end it; so every method
/// takes `&self`. [`TcpStream`] is one (set `nodelay` on it). Nothing is lost if a method does not
/// keep to what it should: an error, a panic, or more bytes than there is room for ends the
/// connection, which is then made again. A read or write that never returns, though the transport
/// was shut down, keeps its thread: behind a read no other server is connected to, behind a write
/// nothing is written to the next one. `close` and other connections do not wait for it. Dropping
/// it must not wait.
pub trait Transport: Send + Sync {
    /// Reads what is there, and waits for the first byte until the deadline; without one until
    /// there is a byte or the stream ends. `Ok(0)` is the end. A deadline that passes is
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) or [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// Called on the reader thread only.
    ///
    /// # Errors
    ///
    /// Any other error ends the connection.
    fn read(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize>;

    /// Takes a first part of the bytes, and waits for room until the deadline, a fraction of a
    /// second away; it is called again with the rest. What was taken should leave without another
    /// call.
    ///
    /// Called on the flusher thread, during an attempt on the reader thread, and never on two at
    /// once.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); `Ok(0)` is one too.
    fn write(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize>;

    /// Ends writing: the other side reads what was written, then the end. By default it is
    /// [`shutdown`](Self::shutdown), which is right where nothing that was written can be lost by
    /// it.
    ///
    /// Called at most once, on a thread of its own; `shutdown` may come beside it, and even before.
    fn finish(&self) {
        self.shutdown();
    }

    /// Ends both directions: a read and a write under way return at once, with the end or an error.
    ///
    /// Called once, on a thread of its own.
    fn shutdown(&self);

    /// Our end, where it has an address. By default none.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// The other end, where it has an address. By default none.
    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// The server that a [`Connector`] connects to.
///
/// [`Display`](fmt::Display) gives `host:port`, with an IPv6 address in brackets.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
    url: String,
}

impl ServerAddress {
    pub(crate) fn of(url: &ServerUrl) -> Self {
        Self { host: url.host().to_owned(), port: url.port(), url: url.to_string() }
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL, without user information and path.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerAddress({})", self.url)
    }
}

/// The rest of the time until a deadline as a socket takes it, which knows no zero.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock::now());
    if left.is_zero() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(left) }
}

impl Transport for TcpStream {
    fn read(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        self.set_read_timeout(deadline.map(left).transpose()?)?;
        Read::read(&mut &*self, buffer)
    }

    fn write(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        self.set_write_timeout(Some(left(deadline)?))?;
        Write::write(&mut &*self, bytes)
    }

    fn finish(&self) {
        let _ = Self::shutdown(self, Shutdown::Write);
    }

    fn shutdown(&self) {
        // It fails only when the other side is gone already.
        let _ = Self::shutdown(self, Shutdown::Both);
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Self::local_addr(self).ok()
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        Self::peer_addr(self).ok()
    }
}
