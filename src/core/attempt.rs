//! One attempt to connect: resolve, connect, TLS and WebSocket where the URL says so, INFO, TLS
//! where the server says so, CONNECT and PING, PONG, under one deadline.
//!
//! Runs on the reader thread. Whatever the server says with `-ERR` on the way is the cause of the
//! failure, even if the socket broke before it was read: what has arrived is read to the end.

use std::time::Instant;

use super::shared::Core;
use super::threads::Runs;
use crate::auth::{Challenge, Login};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{
    ConnectFields, Handshake, PING, PONG, Parser, ServerInfo, ServerOp, Step, TlsOffer, TlsStep,
    TlsWish, encode_connect, said_in_clear, tls_policy,
};
use crate::server_url::ServerUrl;
use crate::sync::{Arc, assert_unlocked};
use crate::trace::{Trace, TraceStepKind};
use crate::transport::{PreparedTls, ServerAddress, Stream, TlsSettings, is_wait, secure, upgrade};

/// A completed login; the parser holds what came behind it.
pub(super) struct LoggedIn {
    pub(super) url: ServerUrl,
    pub(super) stream: Arc<dyn Stream>,
    /// The stream is over TLS.
    pub(super) tls: bool,
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
    let wish = tls_wish(core, url);
    if let TlsStep::Refuse(reason) = tls_policy(wish, None) {
        return Err(Error::new(ErrorKind::Tls, reason));
    }
    let deadline = attempt_deadline(core, until);
    // A certificate that cannot be read fails the attempt before the server hears of it.
    let prepared = if wish.wanted() { Some(prepare_tls(core, deadline)?) } else { None };
    let stream = dial(core, url, deadline, trace)?;
    core.cancel.watch(Some(Arc::clone(&stream)));
    let socket = Arc::clone(&stream);
    let attempt = Attempt { core, url, trace, wish, deadline, prepared, stream, tls: false };
    // After a success `close` can still cut the announcing of subscriptions off.
    attempt.log_in().inspect_err(|_| {
        core.cancel.watch(None);
        socket.shutdown();
    })
}

/// When an attempt that begins now must be over.
pub(super) fn attempt_deadline(core: &Core, until: Option<Instant>) -> Instant {
    let deadline = clock::after(core.config.connect_timeout);
    until.map_or(deadline, |until| until.min(deadline))
}

/// Reads what the options say about TLS: files on a thread that may be left behind, for a file
/// system may have gone away.
fn prepare_tls(core: &Core, deadline: Instant) -> Result<PreparedTls> {
    if !core.config.tls.has_files() {
        return core.config.tls.prepare();
    }
    let settings = core.config.tls.clone();
    let name = core.thread_name("tls");
    let start = |body| core.threads.start(name, core.id, Runs::Program, body);
    core.preparing.ask(deadline, &core.cancel, start, move || settings.prepare())
}

/// A stream to the server, or to whatever the program's connector puts in its place.
fn dial(
    core: &Core,
    url: &ServerUrl,
    deadline: Instant,
    trace: &Trace<'_>,
) -> Result<Arc<dyn Stream>> {
    let Some(connector) = core.config.connector.clone() else {
        return core.dial.connect(url, deadline, &core.cancel, trace);
    };
    let address = ServerAddress::of(url);
    let name = core.thread_name("connect");
    let start = |body| core.threads.start(name, core.id, Runs::Program, body);
    let call = move || connector.connect(&address, deadline);
    let stream = core.connecting.ask(deadline, &core.cancel, start, call)?;
    let (local, peer) = (stream.local_addr(), stream.peer_addr());
    trace.step(|| TraceStepKind::Connected { local, peer });
    Ok(stream)
}

fn tls_wish(core: &Core, url: &ServerUrl) -> TlsWish {
    TlsWish {
        option: core.config.tls.wanted(),
        first: core.config.tls.first(),
        url: url.is_tls(),
        websocket: url.is_websocket(),
        configured: core.life().pool.wants_tls(),
        built: TlsSettings::BUILT,
    }
}

/// An attempt whose socket is connected.
struct Attempt<'a> {
    core: &'a Core,
    url: &'a ServerUrl,
    trace: &'a Trace<'a>,
    wish: TlsWish,
    deadline: Instant,
    prepared: Option<PreparedTls>,
    stream: Arc<dyn Stream>,
    /// The stream is over TLS.
    tls: bool,
}

impl Attempt<'_> {
    fn log_in(mut self) -> Result<LoggedIn> {
        if tls_policy(self.wish, None) == TlsStep::Upgrade {
            self.begin_tls()?;
        }
        if self.url.is_websocket() {
            let settings = &self.core.config.websocket;
            self.stream = upgrade(settings, self.stream, self.url, self.deadline)?;
            self.trace.step(|| TraceStepKind::WebSocketUpgraded);
        }
        // What has come over TLS was said after the client's certificate had been looked at.
        let mut heard = self.tls && self.url.is_websocket();
        let mut parser = Parser::new(self.core.config.limits);
        let mut handshake = Handshake::new();
        let mut awaited = "INFO";
        // A broken write is told only if the server did not say why.
        let mut broken = None;
        loop {
            let advanced = handshake.advance(&mut parser, |op| self.core.operation_read(op));
            match advanced.map_err(|error| self.believed(error))? {
                Step::Ready => break,
                Step::Info => {
                    self.trace.step(|| TraceStepKind::InfoReceived);
                    self.follow_policy(&mut handshake, &mut parser)?;
                    let mut lines = Vec::with_capacity(512);
                    self.connect_line(handshake.info(), &mut lines)?;
                    lines.extend_from_slice(PING);
                    broken = write_all(&*self.stream, &lines, self.deadline).err();
                    handshake.connect_sent();
                    if broken.is_none() {
                        self.trace.step(|| TraceStepKind::ConnectSent);
                    }
                    awaited = "PONG";
                }
                Step::Pong => {
                    if let Err(error) = write_all(&*self.stream, PONG, self.deadline) {
                        broken.get_or_insert(error);
                    }
                }
                Step::NeedBytes => match read(&*self.stream, &mut parser, self.deadline, awaited) {
                    Ok(()) => heard = self.tls,
                    Err(error) => return Err(self.cause(error, broken, heard)),
                },
            }
        }
        self.trace.step(|| TraceStepKind::PongReceived);
        let (url, stream, tls) = (self.url.clone(), self.stream, self.tls);
        Ok(LoggedIn { url, stream, tls, parser, info: handshake.info().clone() })
    }

    /// Goes on behind INFO as the policy says.
    fn follow_policy(&mut self, handshake: &mut Handshake, parser: &mut Parser) -> Result<()> {
        match tls_policy(self.wish, Some(TlsOffer::of(handshake.info()))) {
            TlsStep::Proceed => Ok(()),
            TlsStep::Upgrade => {
                handshake.upgrade(parser)?;
                self.begin_tls()
            }
            TlsStep::Refuse(reason) => Err(Error::new(ErrorKind::Tls, reason)),
        }
    }

    /// From here on everything goes over TLS.
    fn begin_tls(&mut self) -> Result<()> {
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            // The server requires it, and nobody here had asked for it: so there are no files.
            None => self.core.config.tls.prepare()?,
        };
        let socket = Arc::clone(&self.stream);
        self.stream = secure(&prepared, socket, self.url.tls_name(), self.deadline)?;
        self.tls = true;
        let name = || self.url.tls_name().to_owned();
        self.trace.step(|| TraceStepKind::TlsEstablished { name: name() });
        Ok(())
    }

    /// What the server said, unless it was said in clear where TLS is wanted.
    fn believed(&self, error: Error) -> Error {
        let unproven = self.wish.wanted() && !self.tls && error.server_error().is_some();
        if unproven { said_in_clear(&error) } else { error }
    }

    /// Why the login failed: with TLS 1.3 a server refuses a client's certificate after the
    /// handshake, and may do so by closing the connection.
    fn cause(&self, error: Error, broken: Option<Error>, heard: bool) -> Error {
        if error.kind() == ErrorKind::Tls {
            return error;
        }
        let cause = broken.unwrap_or(error);
        if !self.tls || heard || cause.kind() != ErrorKind::Io {
            return cause;
        }
        let text = format!(
            "the server ended the connection right behind the TLS handshake, as one does that \
             refuses the client's certificate: {cause}"
        );
        Error::caused_by(ErrorKind::Tls, text, cause)
    }

    fn connect_line(&self, info: &ServerInfo, out: &mut Vec<u8>) -> Result<()> {
        let config = &self.core.config;
        if !config.echo && info.proto() < 1 {
            let text = "no_echo needs a server of protocol 1";
            return Err(Error::new(ErrorKind::Misuse, text));
        }
        let login = self.login(info)?;
        let sig = login.sig();
        let fields = ConnectFields {
            verbose: config.verbose,
            pedantic: config.pedantic,
            tls_required: self.tls,
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
        };
        encode_connect(out, &fields)
    }

    /// What to say about us: user information in the URL, else what the options say.
    fn login(&self, info: &ServerInfo) -> Result<Login> {
        if let Some(user_info) = self.url.user_info() {
            return Ok(Login::from_user_info(user_info));
        }
        let core = self.core;
        let challenge = Challenge::new(self.url.to_string(), info.nonce(), info.auth_required());
        let ways = core.config.authorization.clone();
        let login = if ways.is_foreign() {
            let name = core.thread_name("creds");
            let start = |body| core.threads.start(name, core.id, Runs::Program, body);
            let asked = challenge.clone();
            core.asking.ask(self.deadline, &core.cancel, start, move || ways.ask(&asked))
        } else {
            ways.ask(&challenge)
        };
        let login = login?;
        login.check(&challenge)?;
        Ok(login)
    }
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
    while !bytes.is_empty() || stream.holds_back() {
        match stream.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(Error::io("writing to the server", error)),
        }
        let rest = !bytes.is_empty() || stream.holds_back();
        if rest && clock::now() >= deadline {
            let text = "the server did not take the login within the connect time-out";
            return Err(Error::new(ErrorKind::Timeout, text));
        }
    }
    Ok(())
}
