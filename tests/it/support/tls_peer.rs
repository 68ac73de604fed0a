//! A server that says something in clear, then speaks TLS: for what a healthy one never does.
//!
//! Each accepted connection is handed to the test's own code, which has it until it returns; so it
//! may say what it likes in clear, shake hands, and go on inside. Every read has a deadline.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use native_tls::{Identity, Protocol, TlsAcceptor, TlsStream};

use super::certificates::{Authority, Certificate};
use super::ports;

const LIMIT: Duration = Duration::from_secs(20);

/// The server; dropping it waits for the connection under way.
pub(crate) struct TlsPeer {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl TlsPeer {
    /// Hands each connection, with its number from 0, to `serve`, one after the other.
    pub(crate) fn start(mut serve: impl FnMut(usize, TcpStream) + Send + 'static) -> Self {
        let listener: TcpListener = ports::listen();
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let body = move || {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept() else { return };
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                stream.set_write_timeout(Some(LIMIT)).unwrap();
                stream.set_nodelay(true).unwrap();
                serve(number, stream);
            }
        };
        let accepting = thread::Builder::new().name("tls-peer".to_owned()).spawn(body).unwrap();
        Self { address, stopping, accepting: Some(accepting) }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for TlsPeer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.address.port()));
        let ended = self.accepting.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().expect("the peer's code does not panic");
        }
    }
}

/// Shakes hands as the server with this certificate; `most` is the newest version.
pub(crate) fn acceptor(
    authority: &Authority,
    certificate: &Certificate,
    most: Option<Protocol>,
) -> TlsAcceptor {
    let archive = std::fs::read(authority.archive(certificate, "p")).unwrap();
    let identity = Identity::from_pkcs12(&archive, "p").unwrap();
    TlsAcceptor::builder(identity).max_protocol_version(most).build().unwrap()
}

/// Reads until a PING has come, and answers it; returns everything that came. None at the end.
pub(crate) fn log_in<S: Read + Write>(stream: &mut S) -> Option<String> {
    let mut got = Vec::new();
    let mut chunk = [0; 4_096];
    while !got.ends_with(b"PING\r\n") {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => got.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
    stream.write_all(b"PONG\r\n").ok()?;
    Some(String::from_utf8(got).unwrap())
}

/// Reads what comes until the other side closes.
pub(crate) fn read_to_end<S: Read>(stream: &mut S) -> Vec<u8> {
    let mut got = Vec::new();
    let mut chunk = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        got.extend_from_slice(&chunk[..count]);
    }
    got
}

/// Says this in clear, shakes hands, and logs the client in.
pub(crate) fn welcome(
    acceptor: &TlsAcceptor,
    mut stream: TcpStream,
    in_clear: &str,
) -> Option<(TlsStream<TcpStream>, String)> {
    stream.write_all(in_clear.as_bytes()).ok()?;
    let mut tls = acceptor.accept(stream).ok()?;
    let said = log_in(&mut tls)?;
    Some((tls, said))
}
