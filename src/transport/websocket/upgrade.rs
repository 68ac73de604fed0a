//! The request that begins a WebSocket, and what the server may answer.
//!
//! Runs on the reader thread, under the attempt's deadline; whoever shuts the stream below down
//! cuts it off. The response is read to the end of its head before a line of it is looked at, and
//! its length is bounded.

use std::io;
use std::time::Instant;

use memchr::memmem;
use tungstenite::handshake::client::{Response, generate_key};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;

use super::super::stream::{Stream, is_wait};
use super::settings::WebSocketSettings;
use super::stream::WebSocketStream;
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::server_url::ServerUrl;
use crate::sync::{Arc, assert_unlocked};

/// The longest head of a response.
const HEAD_MOST: usize = 16 * 1024;

/// What every response begins with.
const HTTP: &[u8] = b"HTTP/";

/// Makes a WebSocket of a stream, as the client, before the deadline.
pub(crate) fn upgrade(
    settings: &WebSocketSettings,
    inner: Arc<dyn Stream>,
    url: &ServerUrl,
    deadline: Instant,
) -> Result<Arc<dyn Stream>> {
    assert_unlocked("a WebSocket upgrade");
    let key = generate_key();
    send(&*inner, request(settings, url, &key).as_bytes(), deadline)?;
    let (head, early) = receive(&*inner, deadline)?;
    check(&head, &key)?;
    Ok(Arc::new(WebSocketStream::new(inner, early)))
}

fn request(settings: &WebSocketSettings, url: &ServerUrl, key: &str) -> String {
    let path = if url.path().is_empty() { "/" } else { url.path() };
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
        url.authority()
    );
    settings.write(&mut request);
    request.push_str("\r\n");
    request
}

fn send(inner: &dyn Stream, mut bytes: &[u8], deadline: Instant) -> Result<()> {
    while !bytes.is_empty() || inner.holds_back() {
        match inner.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(broken_off(error)),
        }
        if (!bytes.is_empty() || inner.holds_back()) && clock::now() >= deadline {
            return Err(too_slow());
        }
    }
    Ok(())
}

/// The head of the response, and what came behind it.
fn receive(inner: &dyn Stream, deadline: Instant) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(too_slow());
        }
        let count = match inner.read(&mut chunk, Some(left)) {
            Ok(0) => {
                let text = "the server closed the connection in place of a WebSocket upgrade";
                return Err(Error::new(ErrorKind::Io, text));
            }
            Ok(count) => count,
            Err(error) if is_wait(&error) => continue,
            Err(error) => return Err(broken_off(error)),
        };
        // The end may begin in what came before.
        let seen = received.len().saturating_sub(3);
        received.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let first = received.get(..HTTP.len().min(received.len())).unwrap_or_default();
        if !HTTP.starts_with(first) {
            return Err(not_http(&received));
        }
        let behind = received.get(seen..).unwrap_or_default();
        if let Some(at) = memmem::find(behind, b"\r\n\r\n") {
            let early = received.split_off(seen + at + 4);
            if received.len() <= HEAD_MOST {
                return Ok((received, early));
            }
        }
        if received.len() > HEAD_MOST {
            return Err(refused("its headers are longer than 16 KiB"));
        }
    }
}

/// The response agrees to what was asked for, and to nothing else.
pub(crate) fn check(head: &[u8], key: &str) -> Result<()> {
    let Ok(Some((_, response))) = Response::try_parse(head) else {
        return Err(refused("it is not HTTP/1.1, or has more than 124 headers"));
    };
    if response.status() != 101 {
        return Err(refused(&format!("HTTP status {}", response.status())));
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let tokens = |name: &str, token: &str| {
        let mut all =
            response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        all.any(|line| line.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !tokens("upgrade", "websocket") || !tokens("connection", "upgrade") {
        return Err(refused("the headers Upgrade and Connection do not say that it is one"));
    }
    if header("sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
        return Err(refused("the header Sec-WebSocket-Accept does not answer the request"));
    }
    for name in ["sec-websocket-extensions", "sec-websocket-protocol"] {
        if response.headers().contains_key(name) {
            return Err(refused(&format!("the header {name} was not asked for")));
        }
    }
    Ok(())
}

fn not_http(received: &[u8]) -> Error {
    if received.starts_with(b"INFO") || b"INFO".starts_with(received) {
        return refused("it speaks NATS: this is not its WebSocket port");
    }
    refused("it is not HTTP")
}

fn refused(why: &str) -> Error {
    let text = format!("the answer to the WebSocket upgrade is none: {why}");
    Error::new(ErrorKind::Protocol, text)
}

fn broken_off(error: io::Error) -> Error {
    Error::io("during the WebSocket upgrade", error)
}

fn too_slow() -> Error {
    let text = "the WebSocket upgrade took longer than the connect time-out";
    Error::new(ErrorKind::Timeout, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and its answer that RFC 6455 shows (1.3).
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn good() -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        )
    }

    #[test]
    fn an_upgrade_in_any_case_and_among_others_is_one() {
        check(good().as_bytes(), KEY).expect("an upgrade");
        let odd = good()
            .replace("Connection: Upgrade", "CONNECTION: keep-alive, upgrade\r\nX: y")
            .replace("Upgrade: websocket", "upgrade: WebSocket");
        check(odd.as_bytes(), KEY).expect("an upgrade");
    }

    #[test]
    fn anything_else_is_refused_and_says_why() {
        let good = good();
        for (part, other, why) in [
            ("101 Switching Protocols", "200 OK", "200 OK"),
            ("101 Switching Protocols", "302 Found", "302"),
            ("101 Switching Protocols", "401 Unauthorized", "401 Unauthorized"),
            ("HTTP/1.1", "HTTP/1.0", "not HTTP/1.1"),
            ("HTTP/1.1 101", "HTTP/1.1 abc", "not HTTP/1.1"),
            ("Upgrade: websocket", "Upgrade: h2c", "Upgrade"),
            ("Connection: Upgrade", "Connection: close", "Connection"),
            (ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=", "Sec-WebSocket-Accept"),
            (ACCEPT, "", "Sec-WebSocket-Accept"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", "protocol"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "extensions"),
        ] {
            let error = check(good.replace(part, other).as_bytes(), KEY).expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn a_request_has_the_path_the_host_and_the_headers_of_the_program() {
        let mut settings = WebSocketSettings::default();
        settings.add("X-Key", "secret");
        for (url, first, host) in [
            ("ws://Host", "GET / HTTP/1.1", "Host: host"),
            ("ws://host:80/", "GET / HTTP/1.1", "Host: host"),
            ("wss://host:80/a/b?c=d%20e", "GET /a/b?c=d%20e HTTP/1.1", "Host: host:80"),
            ("wss://user:pass@[::1]:8443?q", "GET /?q HTTP/1.1", "Host: [::1]:8443"),
        ] {
            let url = ServerUrl::parse(url).expect("url");
            let text = request(&settings, &url, KEY);
            let lines: Vec<&str> = text.split("\r\n").collect();
            assert_eq!((lines[0], lines[1]), (first, host));
            assert_eq!(lines[6..], ["X-Key: secret", "", ""]);
            assert!(!text.contains("pass"));
        }
    }
}
