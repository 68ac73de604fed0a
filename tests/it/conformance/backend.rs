//! One face for both servers, and clients whose order of events is checked in the end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nats_blocking::testing::{Permissions, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind, ConnectionStatus, ErrorKind, Message, Options, OptionsBuilder,
    Result, Subscription,
};
use serde_json::Value;

use crate::support::certificates::Authority;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::wait::poll;
use crate::support::watchdog::within;

/// For things that take milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// For a whole scenario.
const SCENARIO_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Real,
    Embedded,
    /// The real server, which takes raw connections of a test in clear too.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    RealOverTls,
    /// The real server on its WebSocket port.
    #[cfg_attr(not(feature = "websocket"), allow(dead_code))]
    RealOverWebSocket,
}

/// How a server is to be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) max_payload: Option<usize>,
    /// A pattern that nobody may publish to.
    pub(crate) unpublishable: Option<&'static str>,
    /// A pattern that nobody may subscribe to.
    pub(crate) unsubscribable: Option<&'static str>,
}

/// A running server of either kind.
pub(crate) struct Backend(Running);

enum Running {
    Real {
        server: Mutex<NatsServer>,
        port: u16,
        monitor: u16,
        /// Its WebSocket port, if clients go there.
        websocket: Option<u16>,
        #[cfg_attr(not(feature = "tls"), allow(dead_code))]
        authority: Option<Authority>,
    },
    Embedded(Server),
}

/// Runs a scenario against a server of its own.
pub(crate) fn run(kind: Kind, setup: Setup, name: &str, scenario: fn(&Backend)) {
    within(SCENARIO_LIMIT, name, move || scenario(&Backend::start(kind, setup)));
}

impl Backend {
    fn start(kind: Kind, setup: Setup) -> Self {
        Self(match kind {
            Kind::Real => start_real(setup, None, None),
            Kind::RealOverTls => start_real(setup, Some(Authority::new()), None),
            Kind::RealOverWebSocket => start_real(setup, None, Some(ports::free())),
            Kind::Embedded => start_embedded(setup),
        })
    }

    pub(crate) fn url(&self) -> String {
        match &self.0 {
            Running::Real { websocket: Some(port), .. } => format!("ws://127.0.0.1:{port}"),
            _ => format!("nats://127.0.0.1:{}", self.port()),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match &self.0 {
            Running::Real { port, .. } => *port,
            Running::Embedded(server) => server.port(),
        }
    }

    /// Options for this server, with short waits before attempts to reconnect.
    pub(crate) fn options(&self) -> OptionsBuilder {
        let options = Options::builder()
            .server(self.url())
            .connect_timeout(LIMIT)
            .reconnect_wait(Duration::from_millis(20))
            .reconnect_jitter(Duration::from_millis(10))
            .reconnect_jitter_tls(Duration::from_millis(10));
        match &self.0 {
            #[cfg(feature = "tls")]
            Running::Real { authority: Some(authority), .. } => {
                options.root_certificates_file(&authority.file)
            }
            _ => options,
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(|options| options)
    }

    pub(crate) fn client_with(&self, set: impl FnOnce(OptionsBuilder) -> OptionsBuilder) -> Client {
        let recorder = Recorder::new();
        let options = set(self.options());
        let options =
            options.connection_listener(recorder.clone()).error_listener(recorder.clone());
        Client { connection: options.connect().expect("a connection"), recorder }
    }

    /// The server ends, as by a crash; its port stays its own.
    pub(crate) fn go_down(&self) {
        match &self.0 {
            Running::Real { server, .. } => lock(server).kill(),
            Running::Embedded(server) => server.stop(),
        }
    }

    /// The server begins again where it was, knowing nothing.
    pub(crate) fn come_up(&self) {
        match &self.0 {
            Running::Real { server, .. } => lock(server).restart(),
            Running::Embedded(server) => server.restart().expect("a restart"),
        }
    }

    /// The server stands still with its sockets open, or goes on.
    pub(crate) fn go_silent(&self, silent: bool) {
        match &self.0 {
            Running::Real { server, .. } if silent => stand_still(&lock(server)),
            Running::Real { server, .. } => lock(server).cont(),
            Running::Embedded(server) => server.go_silent(silent),
        }
    }

    /// How many subscriptions the server knows, those of all clients together.
    pub(crate) fn subscription_count(&self) -> u64 {
        match &self.0 {
            Running::Real { monitor, .. } => connections(*monitor)
                .iter()
                .map(|connection| connection["subscriptions"].as_u64().unwrap_or(0))
                .sum(),
            Running::Embedded(server) => server.subscription_count() as u64,
        }
    }

    /// The clients as the monitoring of the real server shows them.
    pub(crate) fn monitored(&self) -> Option<Vec<Value>> {
        match &self.0 {
            Running::Real { monitor, .. } => Some(connections(*monitor)),
            Running::Embedded(_) => None,
        }
    }

    /// Waits until the server has so many clients.
    pub(crate) fn wait_clients(&self, count: usize) {
        let reached = match &self.0 {
            Running::Real { monitor, .. } => {
                poll(LIMIT, || (connections(*monitor).len() == count).then_some(())).is_some()
            }
            Running::Embedded(server) => server.wait_for_clients(count, LIMIT),
        };
        assert!(reached, "the server never had {count} clients");
    }

    /// Says these bytes to the server on a connection of its own, and waits until it has taken
    /// them.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let connect = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n";
        stream.write_all(&[&connect[..], bytes, b"PING\r\n"].concat()).unwrap();
        let mut heard = Vec::new();
        let mut chunk = [0; 4_096];
        while !heard.windows(6).any(|part| part == b"PONG\r\n") {
            let count = stream.read(&mut chunk).unwrap();
            heard.extend_from_slice(&chunk[..count]);
            assert!(count > 0, "the server left: {}", String::from_utf8_lossy(&heard));
        }
    }
}

fn lock(server: &Mutex<NatsServer>) -> MutexGuard<'_, NatsServer> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stops a process, and waits until each of its threads has noticed.
fn stand_still(server: &NatsServer) {
    server.stop();
    let folder = format!("/proc/{}/task", server.pid());
    let stopped = poll(LIMIT, || {
        let mut all = std::fs::read_dir(&folder).ok()?.filter_map(std::result::Result::ok);
        let stopped = all.all(|thread| {
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            status.contains("State:\tT")
        });
        stopped.then_some(())
    });
    assert!(stopped.is_some() || !cfg!(target_os = "linux"), "the server did not stop");
}

fn start_real(setup: Setup, authority: Option<Authority>, websocket: Option<u16>) -> Running {
    let monitor = ports::free();
    let mut config = Config::new().extra(&format!("http: \"127.0.0.1:{monitor}\""));
    if let Some(bytes) = setup.max_payload {
        config = config.max_payload(bytes);
    }
    let mut permissions = String::new();
    for (operation, denied) in
        [("publish", setup.unpublishable), ("subscribe", setup.unsubscribable)]
    {
        if let Some(denied) = denied {
            permissions.push_str(&format!("{operation}: {{ deny: \"{denied}\" }} "));
        }
    }
    if !permissions.is_empty() {
        config = config.user_with_permissions("guest", "guest", &permissions).no_auth_user("guest");
    }
    if let Some(authority) = &authority {
        config = config.extra(&authority.server().tls_block("")).extra("allow_non_tls: true");
    }
    if let Some(port) = websocket {
        config = config.websocket(port, "no_tls: true");
    }
    let server = NatsServer::start(&config);
    Running::Real { port: server.port(), server: Mutex::new(server), monitor, websocket, authority }
}

fn start_embedded(setup: Setup) -> Running {
    let mut builder = Server::builder();
    if let Some(bytes) = setup.max_payload {
        builder = builder.max_payload(bytes);
    }
    if let Some(denied) = setup.unpublishable {
        builder = builder.publish_permissions(Permissions::new().deny(denied));
    }
    if let Some(denied) = setup.unsubscribable {
        builder = builder.subscribe_permissions(Permissions::new().deny(denied));
    }
    Running::Embedded(builder.start().expect("a server"))
}

/// The clients of a real server, as its monitoring shows them.
fn connections(monitor: u16) -> Vec<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, monitor)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /connz HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    body["connections"].as_array().cloned().unwrap_or_default()
}

/// A connection with a recorder. Dropping it closes the connection and checks its order of events.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) recorder: Recorder,
}

impl Client {
    /// Waits until the server is known to be lost.
    pub(crate) fn wait_lost(&self) {
        self.connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).unwrap();
    }

    /// Waits until nothing waits to be written. The answer to a flush may come before the thread
    /// that wrote it has said so.
    pub(crate) fn wait_written(&self) {
        let written = poll(LIMIT, || (self.connection.pending_out() == (0, 0)).then_some(()));
        assert!(written.is_some(), "{:?} wait to be written", self.connection.pending_out());
    }

    /// Waits until the subscriptions have been announced to so many servers after the first.
    pub(crate) fn wait_resubscribed(&self, times: usize) {
        let wanted =
            |kind: &ConnectionEventKind| matches!(kind, ConnectionEventKind::Resubscribed { .. });
        self.recorder
            .wait_for_count(LIMIT, times, |happening| happening.event_kind().is_some_and(wanted))
            .unwrap();
    }
}

impl Deref for Client {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.close();
        let ended = self.connection.wait_closed(LIMIT);
        if !thread::panicking() {
            ended.expect("the end of the connection");
            self.recorder.check().unwrap();
        }
    }
}

/// The next message's payload as text.
pub(crate) fn text(subscription: &Subscription) -> String {
    text_of(&subscription.next_timeout(LIMIT).expect("a message"))
}

pub(crate) fn text_of(message: &Message) -> String {
    message.text().expect("text").to_owned()
}

/// The payloads of the next so many messages.
pub(crate) fn texts(subscription: &Subscription, count: usize) -> Vec<String> {
    (0..count).map(|_| text(subscription)).collect()
}

/// The numbers from 0 on, as payloads.
pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// The kind of the error that a call must have ended with.
pub(crate) fn kind<T>(outcome: Result<T>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("the call succeeded"),
        Err(error) => error.kind(),
    }
}
