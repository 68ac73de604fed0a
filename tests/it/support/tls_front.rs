//! TLS in front of a server that has none, for every connection a thread.
//!
//! Before a first INFO, or behind it as a server that requires TLS: then that INFO goes on in
//! clear, and it says so. What comes from the client in TLS goes to the server in clear, and back.
//! However one side ends, so does the other; every wait has a limit.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use native_tls::{HandshakeError, TlsAcceptor, TlsStream};

use super::ports;

/// How long a side is waited for before the other one has its turn.
const TICK: Duration = Duration::from_millis(1);
/// For a handshake, and for what a server still says to a client that has ended.
const LIMIT: Duration = Duration::from_secs(2);

/// The front; dropping it ends all connections through it.
pub(crate) struct TlsFront {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// In front of the server at that port of this machine.
    pub(crate) fn start(acceptor: &Arc<TlsAcceptor>, port: u16, first: bool) -> Self {
        let listener: TcpListener = ports::listen();
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, acceptor) = (Arc::clone(&stopping), Arc::clone(acceptor));
        let body = move || {
            loop {
                let Ok((client, _)) = listener.accept() else { continue };
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (stop, acceptor) = (Arc::clone(&stop), Arc::clone(&acceptor));
                // Ends with its connection, or soon after the front.
                let serve = move || drop(serve(client, port, &acceptor, first, &stop));
                drop(thread::Builder::new().name("front".to_owned()).spawn(serve).unwrap());
            }
        };
        let accepting = thread::Builder::new().name("front-accept".to_owned()).spawn(body).unwrap();
        Self { address, stopping, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.address.port()));
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

fn serve(
    mut client: TcpStream,
    port: u16,
    acceptor: &TlsAcceptor,
    first: bool,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
    }
    if !first {
        client.write_all(&requiring_tls(&mut server)?)?;
    }
    client.set_read_timeout(Some(TICK))?;
    let tls = shake_hands(acceptor, client, stopping)?;
    tls.get_ref().set_write_timeout(Some(TICK))?;
    server.set_read_timeout(Some(TICK))?;
    server.set_write_timeout(Some(TICK))?;
    pass_on(tls, server, stopping)
}

/// The server's INFO, which now says that TLS is required.
fn requiring_tls(server: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        server.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    let mut edited = b"INFO {\"tls_required\":true,".to_vec();
    edited.extend_from_slice(line.strip_prefix(b"INFO {").ok_or(io::ErrorKind::InvalidData)?);
    Ok(edited)
}

fn shake_hands(
    acceptor: &TlsAcceptor,
    client: TcpStream,
    stopping: &AtomicBool,
) -> io::Result<TlsStream<TcpStream>> {
    let deadline = Instant::now() + LIMIT;
    let mut step = acceptor.accept(client);
    loop {
        let waiting = match step {
            Ok(tls) => return Ok(tls),
            Err(HandshakeError::Failure(error)) => return Err(io::Error::other(error)),
            Err(HandshakeError::WouldBlock(waiting)) => waiting,
        };
        if stopping.load(Ordering::SeqCst) || Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        step = waiting.handshake();
    }
}

/// One direction: what was read and has not gone on.
struct Part {
    bytes: Vec<u8>,
    ended: bool,
}

impl Part {
    fn new() -> Self {
        Self { bytes: Vec::new(), ended: false }
    }

    /// Reads if nothing waits, and writes what waits.
    fn pass(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        if self.bytes.is_empty() && !self.ended {
            let mut piece = [0; 16 * 1024];
            match from.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if !self.bytes.is_empty() {
            match to.write(&self.bytes) {
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.ended && self.bytes.is_empty()
    }
}

fn pass_on(
    mut tls: TlsStream<TcpStream>,
    mut server: TcpStream,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let (mut up, mut down) = (Part::new(), Part::new());
    let mut until = None;
    while !stopping.load(Ordering::SeqCst) && !down.is_over() {
        up.pass(&mut tls, &mut server)?;
        down.pass(&mut server, &mut tls)?;
        if up.is_over() && until.is_none() {
            server.shutdown(Shutdown::Write)?;
            until = Some(Instant::now() + LIMIT);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(());
        }
    }
    let _ = tls.shutdown();
    tls.get_ref().shutdown(Shutdown::Both)
}

fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
