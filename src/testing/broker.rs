//! What the operations of the clients do: the state that all clients of one test server share.
//!
//! Not here: sockets and threads. A reader thread calls [`Broker::join`] once,
//! [`Broker::serve`] for each operation, [`Turn::wake_receivers`] after each chunk and
//! [`Broker::leave`] at the end; the handle of the program calls the rest, from any thread.
//!
//! One lock guards settings, sessions and interest. It is held for a look-up or a change only: what
//! is to be sent is collected under it and appended to the sessions afterwards, each under its own
//! lock, so that no two locks are ever held. An INFO made under the lock carries a version, because
//! two of them may be appended in the wrong order.

use std::collections::HashMap;
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::sync::{Arc, Condvar, Mutex, Rank, Weak};
use crate::testing::client_op::{ClientOp, Publication};
use crate::testing::interest::{
    Interest, Permissions, Target, Wanted, is_literal, is_subscribable,
};
use crate::testing::session::{Gate, Session};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the server is told before and while it runs.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) server_name: Option<String>,
    pub(crate) required: Required,
    pub(crate) publish: Permissions,
    pub(crate) subscribe: Permissions,
    pub(crate) max_payload: usize,
    pub(crate) max_control_line: usize,
    pub(crate) headers: bool,
    pub(crate) announced: Vec<String>,
}

/// Who may come in.
#[derive(Clone)]
pub(crate) enum Required {
    Nothing,
    User(String, String),
    Token(String),
}

/// The shared state of one server.
pub(crate) struct Broker {
    state: Mutex<State>,
    /// A client logged in or left.
    changed: Condvar,
    gate: Arc<Gate>,
    port: u16,
    pongs_paused: AtomicBool,
    received: AtomicU64,
    connections: AtomicU64,
}

struct State {
    settings: Settings,
    server_id: String,
    sessions: HashMap<u64, Member>,
    /// Sessions that are out of the table and may still be writing their last bytes.
    ending: Vec<Weak<Session>>,
    interest: Interest<Arc<Session>>,
    /// Counts everything that an INFO can tell.
    info_version: u64,
}

struct Member {
    session: Arc<Session>,
    logged_in: bool,
}

/// What a reader thread keeps for itself between the operations of its client.
pub(crate) struct Turn {
    login: Login,
    targets: Vec<Target<Arc<Session>>>,
    /// Sessions whose buffer was empty before this thread appended to it.
    receivers: Vec<Arc<Session>>,
}

/// What the client said with CONNECT; before it, `nats-server` assumes these.
struct Login {
    accepted: bool,
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
    protocol: u64,
}

/// Whether the client stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    End,
}

impl Turn {
    pub(crate) fn new() -> Self {
        let login = Login {
            accepted: false,
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
        };
        Self { login, targets: Vec::new(), receivers: Vec::new() }
    }

    /// Wakes the writer of everybody who was sent something since the last call.
    pub(crate) fn wake_receivers(&mut self) {
        for session in self.receivers.drain(..) {
            session.wake();
        }
    }

    fn append(&mut self, session: &Arc<Session>, write: impl FnOnce(&mut Vec<u8>)) {
        if session.append(write) {
            self.receivers.push(session.clone());
        }
    }

    fn ok(&mut self, session: &Arc<Session>) {
        if self.login.verbose {
            self.append(session, |buffer| buffer.extend_from_slice(b"+OK\r\n"));
        }
    }

    fn error(&mut self, session: &Arc<Session>, text: &str) {
        self.append(session, |buffer| buffer.extend_from_slice(error_line(text).as_bytes()));
    }

    /// Says why and ends the session once that is written.
    pub(crate) fn refuse(&mut self, session: &Arc<Session>, text: &str) -> Flow {
        self.error(session, text);
        session.finish();
        Flow::End
    }
}

impl Broker {
    pub(crate) fn new(settings: Settings, port: u16) -> Self {
        let state = State {
            settings,
            server_id: new_server_id(),
            sessions: HashMap::new(),
            ending: Vec::new(),
            interest: Interest::new(),
            info_version: 1,
        };
        Self {
            state: Mutex::new(Rank::Outer, state),
            changed: Condvar::new(),
            gate: Arc::new(Gate::new()),
            port,
            pongs_paused: AtomicBool::new(false),
            received: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    /// Takes in a new socket and greets it.
    pub(crate) fn join(&self, socket: TcpStream, client_ip: String) -> Arc<Session> {
        let id = self.connections.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let session = Arc::new(Session::new(id, client_ip, socket, self.gate.clone()));
        let (version, info) = {
            let mut state = self.state.lock();
            let member = Member { session: session.clone(), logged_in: false };
            state.sessions.insert(id, member);
            (state.info_version, state.info(&session, self.port, &[]))
        };
        session.send_info(version, &info);
        session
    }

    /// Forgets a client, its subscriptions included.
    pub(crate) fn leave(&self, session: &Arc<Session>) {
        let mut state = self.state.lock();
        if state.sessions.remove(&session.id).is_some() {
            state.watch_end_of(session);
        }
        state.interest.forget(session.id);
        drop(state);
        self.changed.notify_all();
    }

    /// The limits for the parser: arguments of a line, headers with payload, in bytes.
    pub(crate) fn limits(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.settings.max_control_line, state.settings.max_payload)
    }

    /// Does what a client asks for.
    pub(crate) fn serve(&self, session: &Arc<Session>, turn: &mut Turn, op: ClientOp) -> Flow {
        if !turn.login.accepted && !matches!(op, ClientOp::Connect(_)) && self.has_lock_on_door() {
            return turn.refuse(session, AUTHORIZATION_VIOLATION);
        }
        match op {
            ClientOp::Connect(fields) => self.connect(session, turn, &fields),
            ClientOp::Ping => self.ping(session, turn),
            ClientOp::Pong => Flow::Continue,
            ClientOp::Publish(message) => self.publish(session, turn, &message),
            ClientOp::Subscribe { subject, queue, sid } => {
                let queue = queue.as_deref();
                self.subscribe(session, turn, &Wanted { subject: &subject, queue, sid: &sid })
            }
            ClientOp::Unsubscribe { sid, max } => {
                self.state.lock().interest.unsubscribe(session.id, &sid, max);
                turn.ok(session);
                Flow::Continue
            }
        }
    }

    fn has_lock_on_door(&self) -> bool {
        !matches!(self.state.lock().settings.required, Required::Nothing)
    }

    fn connect(
        &self,
        session: &Arc<Session>,
        turn: &mut Turn,
        fields: &Map<String, Value>,
    ) -> Flow {
        if let Err(text) = turn.login.read(fields) {
            return turn.refuse(session, text);
        }
        {
            let mut state = self.state.lock();
            // A later CONNECT that says nothing about the user changes nothing about it.
            let known = turn.login.accepted && !CREDENTIALS.iter().any(|f| fields.contains_key(*f));
            let accepted = known || state.settings.required.accepts(fields);
            let wants_headers = turn.login.headers;
            turn.login.headers = wants_headers && state.settings.headers;
            turn.login.accepted = accepted;
            session.set_takes_headers(turn.login.headers);
            if let Some(member) = state.sessions.get_mut(&session.id) {
                member.logged_in = accepted;
            }
        }
        if !turn.login.accepted {
            return turn.refuse(session, AUTHORIZATION_VIOLATION);
        }
        if turn.login.no_responders && !turn.login.headers {
            return turn.refuse(session, "no responders requires headers support");
        }
        self.changed.notify_all();
        turn.ok(session);
        Flow::Continue
    }

    fn ping(&self, session: &Arc<Session>, turn: &mut Turn) -> Flow {
        if self.pongs_paused.load(Ordering::Acquire) {
            return Flow::Continue;
        }
        turn.append(session, |buffer| buffer.extend_from_slice(b"PONG\r\n"));
        if turn.login.accepted && turn.login.protocol >= 1 && !session.takes_infos() {
            let news = {
                let state = self.state.lock();
                let first = session.set_takes_infos();
                let account = [("connect_info", json!(true)), ("remote_account", json!("$G"))];
                first.then(|| (state.info_version, state.info(session, self.port, &account)))
            };
            if let Some((version, info)) = news {
                session.send_info(version, &info);
            }
        }
        Flow::Continue
    }

    fn subscribe(&self, session: &Arc<Session>, turn: &mut Turn, wanted: &Wanted<'_>) -> Flow {
        if !is_subscribable(wanted.subject) {
            turn.error(session, "Invalid Subject");
            return Flow::Continue;
        }
        let allowed = {
            let mut state = self.state.lock();
            let State { settings, interest, sessions, .. } = &mut *state;
            let allowed = settings.subscribe.allows(wanted.subject);
            // A session that was dropped meanwhile must leave nothing behind.
            if allowed && sessions.contains_key(&session.id) {
                interest.subscribe(session.id, session.clone(), wanted, &settings.subscribe);
            }
            allowed
        };
        if allowed {
            turn.ok(session);
            return Flow::Continue;
        }
        let mut text = format!("Permissions Violation for Subscription to \"{}\"", wanted.subject);
        if let Some(queue) = wanted.queue {
            text.push_str(&format!(" using queue \"{queue}\""));
        }
        turn.error(session, &text);
        Flow::Continue
    }

    fn publish(&self, session: &Arc<Session>, turn: &mut Turn, message: &Publication) -> Flow {
        if message.headers.is_some() && !turn.login.headers {
            return turn.refuse(session, "message headers not supported");
        }
        if turn.login.pedantic && !is_literal(&message.subject) {
            turn.error(session, "Invalid Publish Subject");
        }
        let mut targets = std::mem::take(&mut turn.targets);
        let mut unanswered = None;
        let allowed = {
            let mut state = self.state.lock();
            let State { settings, interest, .. } = &mut *state;
            let allowed = settings.publish.allows(&message.subject);
            if allowed {
                interest.route(&message.subject, session.id, turn.login.echo, &mut targets);
            }
            if allowed && targets.is_empty() && turn.login.no_responders {
                let reply = message.reply.as_deref();
                unanswered = reply.and_then(|reply| interest.own_sid(session.id, reply));
            }
            allowed
        };
        if allowed {
            self.received.fetch_add(1, Ordering::Relaxed);
            turn.ok(session);
        } else {
            let text = format!("Permissions Violation for Publish to \"{}\"", message.subject);
            turn.error(session, &text);
        }
        for (target, sid) in targets.drain(..) {
            let headers = target.takes_headers();
            turn.append(&target, |buffer| write_message(buffer, message, &sid, headers));
        }
        turn.targets = targets;
        if let (Some(sid), Some(reply)) = (unanswered, &message.reply) {
            let status = format!("NATS/1.0 503\r\nNats-Subject: {}\r\n\r\n", message.subject);
            let length = status.len();
            let frame = format!("HMSG {reply} {sid} {length} {length}\r\n{status}\r\n");
            turn.append(session, |buffer| buffer.extend_from_slice(frame.as_bytes()));
        }
        Flow::Continue
    }

    /// Sends bytes to everybody who is connected.
    pub(crate) fn send_to_all(&self, bytes: &[u8]) {
        for session in self.everybody() {
            session.send(bytes);
        }
    }

    /// Says an `-ERR` to everybody, and perhaps ends their sessions.
    pub(crate) fn error_to_all(&self, text: &str, close: bool) {
        let line = error_line(text);
        let sessions = if close { self.expel() } else { self.everybody() };
        for session in sessions {
            session.send(line.as_bytes());
            if close {
                session.finish();
            }
        }
    }

    /// Cuts everybody; no client and no subscription is left when this returns.
    pub(crate) fn drop_all(&self) {
        let mut sessions = self.expel();
        let ending = std::mem::take(&mut self.state.lock().ending);
        sessions.extend(ending.iter().filter_map(Weak::upgrade));
        for session in sessions {
            session.cut();
        }
    }

    /// What a new process would begin with: the settings stay, faults and the identity do not.
    pub(crate) fn begin_again(&self) {
        self.gate.set_silent(false);
        self.pongs_paused.store(false, Ordering::Release);
        self.state.lock().server_id = new_server_id();
    }

    /// Changes settings; `tell` sends the new INFO to every client that takes one.
    pub(crate) fn change(&self, tell: bool, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state.lock().settings);
        if tell {
            self.tell_all(&[]);
        }
    }

    /// Sends an INFO, with more fields, to every client that takes one.
    pub(crate) fn tell_all(&self, more: &[(&str, Value)]) {
        let (version, news) = {
            let mut state = self.state.lock();
            state.info_version = state.info_version.saturating_add(1);
            let members = state.sessions.values().filter(|member| member.session.takes_infos());
            let news: Vec<_> = members
                .map(|member| {
                    (member.session.clone(), state.info(&member.session, self.port, more))
                })
                .collect();
            (state.info_version, news)
        };
        for (session, info) in news {
            session.send_info(version, &info);
        }
    }

    /// Waits until exactly `count` clients are logged in.
    pub(crate) fn wait_for_clients(&self, count: usize, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while state.client_count() != count {
            if self.changed.wait_until(&mut state, Some(deadline)) {
                return state.client_count() == count;
            }
        }
        true
    }

    pub(crate) fn client_count(&self) -> usize {
        self.state.lock().client_count()
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.state.lock().interest.count()
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.gate.set_silent(silent);
    }

    pub(crate) fn pause_pongs(&self, paused: bool) {
        self.pongs_paused.store(paused, Ordering::Release);
    }

    fn everybody(&self) -> Vec<Arc<Session>> {
        self.state.lock().sessions.values().map(|member| member.session.clone()).collect()
    }

    fn expel(&self) -> Vec<Arc<Session>> {
        let sessions = {
            let mut state = self.state.lock();
            state.interest = Interest::new();
            let sessions: Vec<_> =
                state.sessions.drain().map(|(_, member)| member.session).collect();
            for session in &sessions {
                state.watch_end_of(session);
            }
            sessions
        };
        self.changed.notify_all();
        sessions
    }
}

impl State {
    /// Keeps a session within reach of [`Broker::drop_all`]: one that is to end when its last bytes
    /// are written waits for a client that may never read them.
    fn watch_end_of(&mut self, session: &Arc<Session>) {
        self.ending.retain(|session| session.strong_count() > 0);
        self.ending.push(Arc::downgrade(session));
    }

    fn client_count(&self) -> usize {
        self.sessions.values().filter(|member| member.logged_in).count()
    }

    fn info(&self, session: &Session, port: u16, more: &[(&str, Value)]) -> String {
        let settings = &self.settings;
        let mut info = json!({
            "server_id": self.server_id,
            "server_name": settings.server_name.as_ref().unwrap_or(&self.server_id),
            "version": VERSION,
            "proto": 1,
            "go": "none",
            "host": "127.0.0.1",
            "port": port,
            "headers": settings.headers,
            "max_payload": settings.max_payload,
            "client_id": session.id,
            "client_ip": session.client_ip,
            "api_lvl": 5,
        });
        if let Some(fields) = info.as_object_mut() {
            if !matches!(settings.required, Required::Nothing) {
                fields.insert("auth_required".to_owned(), json!(true));
            }
            if !settings.announced.is_empty() {
                fields.insert("connect_urls".to_owned(), json!(settings.announced));
            }
            for (name, value) in more {
                fields.insert((*name).to_owned(), value.clone());
            }
        }
        format!("INFO {info} \r\n")
    }
}

impl Required {
    fn accepts(&self, fields: &Map<String, Value>) -> bool {
        let says =
            |name, expected: &str| fields.get(name).and_then(Value::as_str) == Some(expected);
        match self {
            Self::Nothing => true,
            Self::User(user, password) => says("user", user) && says("pass", password),
            Self::Token(token) => says("auth_token", token),
        }
    }
}

impl Login {
    /// Takes over the fields that are there; the others keep their values.
    fn read(&mut self, fields: &Map<String, Value>) -> Result<(), &'static str> {
        let flags = [
            ("verbose", &mut self.verbose),
            ("pedantic", &mut self.pedantic),
            ("echo", &mut self.echo),
            ("headers", &mut self.headers),
            ("no_responders", &mut self.no_responders),
        ];
        for (name, flag) in flags {
            match fields.get(name) {
                None => {}
                Some(Value::Bool(value)) => *flag = *value,
                Some(_) => return Err("Parser Error: a field of CONNECT is not a boolean"),
            }
        }
        if let Some(protocol) = fields.get("protocol") {
            match protocol.as_u64() {
                Some(protocol @ 0..=1) => self.protocol = protocol,
                _ => return Err("invalid client protocol"),
            }
        }
        Ok(())
    }
}

fn write_message(buffer: &mut Vec<u8>, message: &Publication, sid: &str, headers: bool) {
    let headers = message.headers.as_ref().filter(|_| headers);
    let mut number = itoa::Buffer::new();
    buffer.extend_from_slice(if headers.is_some() { b"HMSG " } else { b"MSG " });
    buffer.extend_from_slice(message.subject.as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(sid.as_bytes());
    buffer.push(b' ');
    if let Some(reply) = &message.reply {
        buffer.extend_from_slice(reply.as_bytes());
        buffer.push(b' ');
    }
    let mut total = message.payload.len();
    if let Some(headers) = headers {
        buffer.extend_from_slice(number.format(headers.len()).as_bytes());
        buffer.push(b' ');
        total = total.saturating_add(headers.len());
    }
    buffer.extend_from_slice(number.format(total).as_bytes());
    buffer.extend_from_slice(b"\r\n");
    buffer.extend_from_slice(headers.map_or(b"", |headers| headers));
    buffer.extend_from_slice(&message.payload);
    buffer.extend_from_slice(b"\r\n");
}

fn error_line(text: &str) -> String {
    format!("-ERR '{text}'\r\n")
}

/// Looks like the identity of a `nats-server`: N and 55 letters or digits of base 32.
fn new_server_id() -> String {
    let mut random = [0_u8; 55];
    // Without randomness the identities are all alike, which no client of a test minds.
    let _ = getrandom::fill(&mut random);
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |byte: &u8| letters.get(usize::from(byte % 32)).copied().unwrap_or(b'A');
    std::iter::once('N').chain(random.iter().map(|byte| char::from(letter(byte)))).collect()
}

/// The fields of CONNECT that say who the client is.
const CREDENTIALS: [&str; 3] = ["user", "pass", "auth_token"];
const AUTHORIZATION_VIOLATION: &str = "Authorization Violation";
/// The version of `nats-server` whose behaviour this server follows.
const VERSION: &str = "2.15.1";
