//! A proxy for tests: HTTP CONNECT and SOCKS5 on one port, with a user or without.
//!
//! One connection after the other, each until both sides have closed.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::tls_peer::TlsPeer;

/// The proxy; ends when it is dropped.
pub(crate) struct Tunnel {
    peer: TlsPeer,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// With a user, only that one comes through.
    pub(crate) fn start(user: Option<(&'static str, &'static str)>) -> Self {
        let targets = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&targets);
        let peer = TlsPeer::start(move |_, mut stream| {
            // Whoever was refused, or went away, has closed.
            if let Ok(Some(target)) = negotiate(&mut stream, user) {
                let Ok(server) = TcpStream::connect(&target) else { return };
                seen.lock().unwrap().push(target);
                carry(stream, server);
            }
        });
        Self { peer, targets }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        self.peer.address()
    }

    /// Where connections went, `HOST:PORT` each.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

fn carry(client: TcpStream, server: TcpStream) {
    server.set_nodelay(true).unwrap();
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let body = move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    };
    let back = thread::Builder::new().name("tunnel".to_owned()).spawn(body).unwrap();
    let (mut from, mut to) = (client, server);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    back.join().unwrap();
}

/// Where the client wants to go, if it may.
fn negotiate(stream: &mut TcpStream, user: Option<(&str, &str)>) -> io::Result<Option<String>> {
    let [first] = take(stream)?;
    if first == 5 { socks(stream, user) } else { http(stream, first, user) }
}

fn take<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(stream: &mut TcpStream) -> io::Result<String> {
    let [length] = take(stream)?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap())
}

fn socks(stream: &mut TcpStream, user: Option<(&str, &str)>) -> io::Result<Option<String>> {
    let [1, way] = take(stream)? else { panic!("one way to authorize was expected") };
    assert_eq!(way == 2, user.is_some());
    stream.write_all(&[5, way])?;
    if let Some(known) = user {
        assert_eq!(take(stream)?, [1]);
        let (user, password) = (text(stream)?, text(stream)?);
        let good = (user.as_str(), password.as_str()) == known;
        stream.write_all(&[1, u8::from(!good)])?;
        if !good {
            return Ok(None);
        }
    }
    assert_eq!(take(stream)?, [5, 1, 0, 3]);
    let host = text(stream)?;
    let port = u16::from_be_bytes(take(stream)?);
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
    Ok(Some(format!("{host}:{port}")))
}

fn http(
    stream: &mut TcpStream,
    first: u8,
    user: Option<(&str, &str)>,
) -> io::Result<Option<String>> {
    let mut head = vec![first];
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(take::<1>(stream)?);
    }
    let head = String::from_utf8(head).unwrap();
    let shown = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    // `anna:hunter2`, the one user that a test shows.
    let wanted = user.map(|user| match user {
        ("anna", "hunter2") => "Basic YW5uYTpodW50ZXIy",
        _ => "another",
    });
    if shown != wanted {
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")?;
        return Ok(None);
    }
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")?;
    Ok(target.map(str::to_owned))
}
