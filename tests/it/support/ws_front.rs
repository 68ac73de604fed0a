//! The other side of a WebSocket, and one in front of a server that speaks NATS alone.
//!
//! What comes in frames from the client goes to the server as it is, and back in frames. No
//! library writes them: one would log what these tests look for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;

use tungstenite::handshake::derive_accept_key;

use super::tls_peer::TlsPeer;

/// Reads a request to its end.
pub(crate) fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// The good answer to it.
pub(crate) fn agree(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// A frame as a server sends it.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, length][..], payload].concat()
}

/// A frame of the client: its first byte and its payload. None at the end.
pub(crate) fn client_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    assert!(head[1] & 0x80 != 0, "a client masks");
    let length = match head[1] & 0x7F {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            usize::from(u16::from_be_bytes(length))
        }
        127 => panic!("none so long is expected"),
        length => usize::from(length),
    };
    let (mut mask, mut payload) = ([0; 4], vec![0; length]);
    stream.read_exact(&mut mask).ok()?;
    stream.read_exact(&mut payload).ok()?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Some((head[0], payload))
}

/// In front of the server at that port of this machine; one connection after the other.
pub(crate) fn start(port: u16) -> TlsPeer {
    TlsPeer::start(move |_, mut client| {
        let asked = request(&mut client);
        if asked.is_empty() || client.write_all(agree(&asked).as_bytes()).is_err() {
            return;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
        thread::scope(|scope| {
            scope.spawn(|| down(&server, &client));
            up(&client, &server);
        });
    })
}

fn up(client: &TcpStream, mut server: &TcpStream) {
    let mut from = client.try_clone().unwrap();
    while let Some((first, payload)) = client_frame(&mut from) {
        if first == 0x88 || server.write_all(&payload).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}

fn down(mut server: &TcpStream, mut client: &TcpStream) {
    let mut piece = [0; 120];
    while let Ok(count @ 1..) = server.read(&mut piece) {
        if client.write_all(&frame(0x82, &piece[..count])).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
