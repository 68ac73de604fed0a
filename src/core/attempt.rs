//! One attempt to connect: resolve, connect, INFO, CONNECT and PING, PONG, under one deadline.
//!
//! Runs on the reader thread. Whatever the server says with `-ERR` on the way is the cause of the
//! failure, even if the socket broke before it was read: what has arrived is read to the end.

use std::time::Instant;

use super::flusher::is_wait;
use super::shared::Core;
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{
    ConnectFields, Handshake, PING, PONG, Parser, ServerInfo, ServerOp, Step, Tls, encode_connect,
    tls_policy,
};
use crate::server_url::ServerUrl;
use crate::sync::{Arc, assert_unlocked};
use crate::transport::Stream;

/// A completed login; the parser holds what came behind it.
pub(super) struct LoggedIn {
    pub(super) url: ServerUrl,
    pub(super) stream: Arc<dyn Stream>,
    pub(super) parser: Parser,
    pub(super) info: ServerInfo,
}

/// Connects to the server and logs in.
pub(super) fn attempt(core: &Core, url: &ServerUrl) -> Result<LoggedIn> {
    assert_unlocked("connecting");
    if url.is_tls() {
        let text = format!("{url} asks for TLS, which this build does not have");
        return Err(Error::new(ErrorKind::Tls, text));
    }
    let deadline = clock::after(core.config.connect_timeout);
    let stream = core.connector.connect(url, deadline, &core.cancel)?;
    core.cancel.watch(Some(Arc::clone(&stream)));
    match log_in(core, url, &stream, deadline) {
        // `close` can still cut the announcing of subscriptions off.
        Ok((parser, info)) => Ok(LoggedIn { url: url.clone(), stream, parser, info }),
        Err(error) => {
            core.cancel.watch(None);
            stream.shutdown();
            Err(error)
        }
    }
}

fn log_in(
    core: &Core,
    url: &ServerUrl,
    stream: &Arc<dyn Stream>,
    deadline: Instant,
) -> Result<(Parser, ServerInfo)> {
    let mut parser = Parser::new(core.config.limits);
    let mut handshake = Handshake::new();
    let mut awaited = "INFO";
    // A broken write is told only if the server did not say why.
    let mut broken = None;
    loop {
        match handshake.advance(&mut parser)? {
            Step::Ready => return Ok((parser, handshake.info().clone())),
            Step::Info => {
                let mut lines = Vec::with_capacity(512);
                connect_line(core, url, handshake.info(), &mut lines)?;
                lines.extend_from_slice(PING);
                broken = write_all(&**stream, &lines, deadline).err();
                handshake.connect_sent();
                awaited = "PONG";
            }
            Step::Pong => {
                if let Err(error) = write_all(&**stream, PONG, deadline) {
                    broken.get_or_insert(error);
                }
            }
            Step::NeedBytes => {
                if let Err(error) = read(&**stream, &mut parser, deadline, awaited) {
                    return Err(broken.unwrap_or(error));
                }
            }
        }
    }
}

fn connect_line(core: &Core, url: &ServerUrl, info: &ServerInfo, out: &mut Vec<u8>) -> Result<()> {
    match tls_policy(url.is_tls(), info) {
        Tls::Plain => {}
        Tls::Upgrade => {
            let text = "the server requires TLS, which this build does not have";
            return Err(Error::new(ErrorKind::Tls, text));
        }
        Tls::Refuse(reason) => return Err(Error::new(ErrorKind::Tls, reason)),
    }
    let config = &core.config;
    if !config.echo && info.proto() < 1 {
        let text = "no_echo needs a server of protocol 1";
        return Err(Error::new(ErrorKind::Misuse, text));
    }
    let login = config.credentials.login(url);
    let fields = ConnectFields {
        verbose: config.verbose,
        pedantic: config.pedantic,
        name: config.name.as_deref(),
        echo: config.echo,
        headers: config.headers && info.headers(),
        no_responders: config.no_responders && config.headers && info.headers(),
        user: login.user,
        pass: login.password,
        auth_token: login.token,
        ..ConnectFields::default()
    };
    encode_connect(out, &fields)
}

/// Reads once, before the deadline.
fn read(stream: &dyn Stream, parser: &mut Parser, deadline: Instant, awaited: &str) -> Result<()> {
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            let text = format!("the server did not send {awaited} within the connect time-out");
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        match stream.read(parser.space(), Some(left)) {
            Ok(0) => {
                let text = format!("the server closed the connection before its {awaited}");
                return Err(Error::new(ErrorKind::Io, text));
            }
            Ok(count) => {
                parser.filled(count);
                return Ok(());
            }
            Err(error) if is_wait(&error) => {}
            Err(error) => {
                return Err(Error::io(&format!("waiting for the server's {awaited}"), error));
            }
        }
    }
}

/// What the server said before a write to it failed, if it said why it ends the connection.
pub(super) fn last_word(
    stream: &dyn Stream,
    parser: &mut Parser,
    deadline: Instant,
) -> Option<Error> {
    loop {
        match parser.next().ok()? {
            Some(ServerOp::Err(error)) if error.closes_connection() => return Some(error.into()),
            Some(_) => {}
            None => read(stream, parser, deadline, "last word").ok()?,
        }
    }
}

/// Writes everything before the deadline, on the reader thread, while no one else writes.
pub(super) fn write_all(stream: &dyn Stream, mut bytes: &[u8], deadline: Instant) -> Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(Error::io("writing to the server", error)),
        }
        if !bytes.is_empty() && clock::now() >= deadline {
            let text = "the server did not take the login within the connect time-out";
            return Err(Error::new(ErrorKind::Timeout, text));
        }
    }
    Ok(())
}
