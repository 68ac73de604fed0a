//! One attempt to connect: resolve, connect, INFO, CONNECT and PING, PONG, under one deadline.
//!
//! Runs on the reader thread. Whatever the server says with `-ERR` on the way is the cause of the
//! failure, even if the socket broke before it was read: what has arrived is read to the end.

use std::time::Instant;

use super::flusher::is_wait;
use super::shared::Core;
use super::threads::Runs;
use crate::auth::{Challenge, Login};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{
    ConnectFields, Handshake, PING, PONG, Parser, ServerInfo, ServerOp, Step, Tls, encode_connect,
    tls_policy,
};
use crate::server_url::ServerUrl;
use crate::sync::{Arc, assert_unlocked};
use crate::trace::{Trace, TraceStepKind};
use crate::transport::Stream;

/// A completed login; the parser holds what came behind it.
pub(super) struct LoggedIn {
    pub(super) url: ServerUrl,
    pub(super) stream: Arc<dyn Stream>,
    pub(super) parser: Parser,
    pub(super) info: ServerInfo,
}

/// Connects to the server and logs in.
///
/// It may take the connect time-out, and no longer than `until`.
pub(super) fn attempt(
    core: &Core,
    url: &ServerUrl,
    until: Option<Instant>,
    trace: &Trace<'_>,
) -> Result<LoggedIn> {
    assert_unlocked("connecting");
    if url.is_tls() {
        let text = format!("{url} asks for TLS, which this build does not have");
        return Err(Error::new(ErrorKind::Tls, text));
    }
    let deadline = attempt_deadline(core, until);
    let stream = core.connector.connect(url, deadline, &core.cancel, trace)?;
    core.cancel.watch(Some(Arc::clone(&stream)));
    match log_in(core, url, &stream, deadline, trace) {
        // `close` can still cut the announcing of subscriptions off.
        Ok((parser, info)) => Ok(LoggedIn { url: url.clone(), stream, parser, info }),
        Err(error) => {
            core.cancel.watch(None);
            stream.shutdown();
            Err(error)
        }
    }
}

/// When an attempt that begins now must be over.
pub(super) fn attempt_deadline(core: &Core, until: Option<Instant>) -> Instant {
    let deadline = clock::after(core.config.connect_timeout);
    until.map_or(deadline, |until| until.min(deadline))
}

fn log_in(
    core: &Core,
    url: &ServerUrl,
    stream: &Arc<dyn Stream>,
    deadline: Instant,
    trace: &Trace<'_>,
) -> Result<(Parser, ServerInfo)> {
    let mut parser = Parser::new(core.config.limits);
    let mut handshake = Handshake::new();
    let mut awaited = "INFO";
    // A broken write is told only if the server did not say why.
    let mut broken = None;
    loop {
        match handshake.advance(&mut parser, |op| core.operation_read(op))? {
            Step::Ready => {
                trace.step(|| TraceStepKind::PongReceived);
                return Ok((parser, handshake.info().clone()));
            }
            Step::Info => {
                trace.step(|| TraceStepKind::InfoReceived);
                let mut lines = Vec::with_capacity(512);
                connect_line(core, url, handshake.info(), deadline, &mut lines)?;
                lines.extend_from_slice(PING);
                broken = write_all(&**stream, &lines, deadline).err();
                handshake.connect_sent();
                if broken.is_none() {
                    trace.step(|| TraceStepKind::ConnectSent);
                }
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

fn connect_line(
    core: &Core,
    url: &ServerUrl,
    info: &ServerInfo,
    deadline: Instant,
    out: &mut Vec<u8>,
) -> Result<()> {
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
    let login = login(core, url, info, deadline)?;
    let sig = login.sig();
    let fields = ConnectFields {
        verbose: config.verbose,
        pedantic: config.pedantic,
        name: config.name.as_deref(),
        echo: config.echo,
        headers: config.headers && info.headers(),
        no_responders: config.no_responders && config.headers && info.headers(),
        user: login.user(),
        pass: login.password(),
        auth_token: login.auth_token(),
        nkey: login.public_nkey(),
        jwt: login.user_jwt(),
        sig: sig.as_deref(),
        ..ConnectFields::default()
    };
    encode_connect(out, &fields)
}

/// What to say about us: user information in the URL, else what the options say.
fn login(core: &Core, url: &ServerUrl, info: &ServerInfo, deadline: Instant) -> Result<Login> {
    if let Some(user_info) = url.user_info() {
        return Ok(Login::from_user_info(user_info));
    }
    let challenge = Challenge::new(url.to_string(), info.nonce(), info.auth_required());
    let ways = core.config.authorization.clone();
    let login = if ways.is_foreign() {
        let name = core.thread_name("creds");
        let start = |body| core.threads.start(name, core.id, Runs::Program, body);
        let asked = challenge.clone();
        core.asking.ask(deadline, &core.cancel, start, move || ways.ask(&asked))
    } else {
        ways.ask(&challenge)
    };
    if login.as_ref().is_err_and(|error| error.kind() == ErrorKind::UserPanic) {
        core.counters.panics.add(1);
    }
    let login = login?;
    login.check(&challenge)?;
    Ok(login)
}

/// Reads once, before the deadline.
fn read(stream: &dyn Stream, parser: &mut Parser, deadline: Instant, awaited: &str) -> Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
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
    core: &Core,
    stream: &dyn Stream,
    parser: &mut Parser,
    deadline: Instant,
) -> Option<Error> {
    loop {
        let op = parser.next().ok()?;
        if let Some(op) = &op {
            core.operation_read(op);
        }
        match op {
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
        if !bytes.is_empty() && Instant::now() >= deadline {
            let text = "the server did not take the login within the connect time-out";
            return Err(Error::new(ErrorKind::Timeout, text));
        }
    }
    Ok(())
}
