//! The handle of the test server: its builder, its listener, its threads, and the faults.
//!
//! Not here: what is said to clients (`broker.rs`).
//!
//! One thread accepts; each client has a reader and a writer. The handle may be used from any
//! thread. Starting, stopping and refusing take turns by a flag, not by a lock, because they use
//! sockets and wait for threads; no lock is held meanwhile. Whatever waits has a deadline: a thread
//! that does not end in time is left alone.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock;
use crate::sync::{self, Arc, Condvar, Mutex, Rank, assert_unlocked};
use crate::testing::broker::{Broker, Flow, Required, Settings, Turn};
use crate::testing::client_op::{ClientOpParser, DEFAULT_MAX_CONTROL_LINE, DEFAULT_MAX_PAYLOAD};
use crate::testing::interest::Permissions;
use crate::testing::session::Session;
use std::sync::atomic::{AtomicBool, Ordering};

/// A NATS server in this process, on a loopback port of its own.
///
/// Dropping it cuts all clients and ends its threads, within four seconds at worst. The methods may
/// be called from any thread; unless they say so, they do not block.
pub struct Server {
    broker: Arc<Broker>,
    threads: Arc<Threads>,
    door: Mutex<Door>,
    door_free: Condvar,
    port: u16,
    /// Bound but not listening: the port stays ours while the server is stopped.
    _reservation: Option<Socket>,
}

/// What a [`Server`] is told before it starts.
///
/// ```
/// use nats_blocking::testing::{Permissions, Server, ServerBuilder};
///
/// let builder: ServerBuilder = Server::builder()
///     .user("joe", "secret")
///     .publish_permissions(Permissions::new().deny("admin.>"));
/// let server = builder.start()?;
/// let options = nats_blocking::Options::builder().server(server.url());
/// let connection = options.user_and_password("joe", "secret").connect()?;
/// assert!(server.wait_for_clients(1, std::time::Duration::from_secs(10)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it starts a server"]
pub struct ServerBuilder {
    port: u16,
    settings: Settings,
}

struct Door {
    /// Somebody opens or closes.
    busy: bool,
    acceptor: Option<Acceptor>,
}

/// A running accept thread.
struct Acceptor {
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts a server that lets everybody in, on a free port.
    ///
    /// # Errors
    ///
    /// The port cannot be had, or a thread not be started.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Begins a server with settings of its own.
    pub fn builder() -> ServerBuilder {
        let settings = Settings {
            server_name: None,
            required: Required::Nothing,
            publish: Permissions::new(),
            subscribe: Permissions::new(),
            max_payload: DEFAULT_MAX_PAYLOAD,
            max_control_line: DEFAULT_MAX_CONTROL_LINE,
            headers: true,
            announced: Vec::new(),
        };
        ServerBuilder { port: 0, settings }
    }

    /// The URL for clients, without user or token.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1; it stays the same for the life of this value.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many clients are logged in now: their CONNECT was accepted.
    pub fn client_count(&self) -> usize {
        self.broker.client_count()
    }

    /// How many subscriptions all clients have now.
    pub fn subscription_count(&self) -> usize {
        self.broker.subscription_count()
    }

    /// Waits until exactly `count` clients are logged in, or until the time-out. Returns whether
    /// they are.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    pub fn wait_for_clients(&self, count: usize, timeout: Duration) -> bool {
        self.broker.wait_for_clients(count, clock::after(timeout))
    }

    /// How many connections the server has accepted since it was made, restarts included.
    pub fn connections(&self) -> u64 {
        self.broker.connections()
    }

    /// How many messages the clients have published since it was made, refused ones not counted.
    pub fn received(&self) -> u64 {
        self.broker.received()
    }

    /// Cuts the sockets of all clients. They, and their subscriptions, are gone when this returns;
    /// new connections are accepted.
    pub fn drop_clients(&self) {
        self.broker.drop_all();
    }

    /// Refuses new connections, or accepts them again. The listening socket is closed, so that a
    /// client sees "connection refused"; clients that are connected stay. Blocks until the
    /// listener is closed or open, two seconds at most.
    ///
    /// # Errors
    ///
    /// The port or a thread cannot be had again.
    pub fn refuse_connections(&self, refuse: bool) -> io::Result<()> {
        let mut turn = self.take_turn();
        if refuse { turn.close() } else { turn.open() }
    }

    /// Falls silent, or goes on. While silent the server reads nothing (what a thread was already
    /// waiting for excepted) and writes nothing; all sockets stay open and new connections are
    /// accepted without a word, as with a stopped process. What came meanwhile is handled after
    /// the silence.
    pub fn go_silent(&self, silent: bool) {
        self.broker.set_silent(silent);
    }

    /// Leaves every PING unanswered, or answers again those that come from now on. Everything else
    /// goes on.
    pub fn pause_pongs(&self, paused: bool) {
        self.broker.pause_pongs(paused);
    }

    /// Closes the listener and cuts all clients; [`restart`](Self::restart) begins again. Blocks
    /// until all threads have ended, four seconds at most.
    pub fn stop(&self) {
        self.take_turn().stop();
    }

    /// Stops, if running, and starts again on the same port: clients and subscriptions are gone,
    /// silence, unanswered pings and refusal are over, the server has a new identity. Settings,
    /// announced servers and counts stay. Blocks for six seconds at most.
    ///
    /// # Errors
    ///
    /// The port or a thread cannot be had again; the server is stopped then.
    pub fn restart(&self) -> io::Result<()> {
        let mut turn = self.take_turn();
        turn.stop();
        self.broker.begin_again();
        turn.open()
    }

    /// Announces the servers of a cluster, each as `host:port`: in an INFO to every client now, and
    /// in the INFO of later ones. An empty list takes the announcement back.
    pub fn announce_servers(&self, servers: &[&str]) {
        let announced = servers.iter().map(|server| (*server).to_owned()).collect();
        self.broker.change(true, |settings| settings.announced = announced);
    }

    /// Tells all clients that the server is about to shut down. It serves on, and accepts new
    /// clients, until it is told otherwise.
    pub fn lame_duck(&self) {
        self.broker.tell_all(&[("ldm", json!(true))]);
    }

    /// Sends `-ERR 'text'` to all clients; they stay connected, whatever the text says.
    pub fn send_error(&self, text: &str) {
        self.broker.error_to_all(text, false);
    }

    /// Sends `-ERR 'text'` to all clients and closes their connections once it is written.
    pub fn send_error_and_close(&self, text: &str) {
        self.broker.error_to_all(text, true);
    }

    /// Sends bytes to all clients as they are, which may well be nonsense.
    pub fn send_raw(&self, bytes: impl AsRef<[u8]>) {
        self.broker.send_to_all(bytes.as_ref());
    }

    /// Sends PING to all clients; their answers are not checked.
    pub fn ping_clients(&self) {
        self.broker.send_to_all(b"PING\r\n");
    }

    /// Lets in only this user from now on; clients that are connected stay.
    pub fn require_user(&self, user: impl Into<String>, password: impl Into<String>) {
        let required = Required::User(user.into(), password.into());
        self.broker.change(false, |settings| settings.required = required);
    }

    /// Lets in only who knows this token from now on; clients that are connected stay.
    pub fn require_token(&self, token: impl Into<String>) {
        let required = Required::Token(token.into());
        self.broker.change(false, |settings| settings.required = required);
    }

    /// Lets everybody in from now on.
    pub fn require_nothing(&self) {
        self.broker.change(false, |settings| settings.required = Required::Nothing);
    }

    /// Changes what clients may publish, connected ones included.
    pub fn set_publish_permissions(&self, permissions: Permissions) {
        self.broker.change(false, |settings| settings.publish = permissions);
    }

    /// Changes what clients may subscribe to; existing subscriptions stay.
    pub fn set_subscribe_permissions(&self, permissions: Permissions) {
        self.broker.change(false, |settings| settings.subscribe = permissions);
    }

    /// Changes the largest message, in bytes of headers and payload, and sends an INFO with it to
    /// every client.
    pub fn set_max_payload(&self, bytes: usize) {
        self.broker.change(true, |settings| settings.max_payload = bytes);
    }

    fn take_turn(&self) -> DoorTurn<'_> {
        let mut door = self.door.lock();
        while door.busy {
            // No deadline: whoever is at the door has deadlines for all that it does.
            self.door_free.wait_until(&mut door, None);
        }
        door.busy = true;
        DoorTurn { server: self, acceptor: door.acceptor.take() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("port", &self.port)
            .field("clients", &self.client_count())
            .finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// The port on 127.0.0.1; 0, the default, is any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Lets in only this user.
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.required = Required::User(user.into(), password.into());
        self
    }

    /// Lets in only who knows this token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.settings.required = Required::Token(token.into());
        self
    }

    /// What clients may publish; everything by default.
    pub fn publish_permissions(mut self, permissions: Permissions) -> Self {
        self.settings.publish = permissions;
        self
    }

    /// What clients may subscribe to; everything by default.
    pub fn subscribe_permissions(mut self, permissions: Permissions) -> Self {
        self.settings.subscribe = permissions;
        self
    }

    /// The largest message in bytes of headers and payload; 1 MiB by default.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.settings.max_payload = bytes;
        self
    }

    /// The longest protocol line in bytes, without the name of the operation; 4,096 by default.
    pub fn max_control_line(mut self, bytes: usize) -> Self {
        self.settings.max_control_line = bytes;
        self
    }

    /// The name in INFO; by default the server's random identity.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.settings.server_name = Some(name.into());
        self
    }

    /// Whether the server knows headers, and with them "no responders"; it does by default.
    pub fn headers(mut self, headers: bool) -> Self {
        self.settings.headers = headers;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    ///
    /// The port cannot be had, or a thread not be started.
    pub fn start(self) -> io::Result<Server> {
        let reservation = bind(self.port)?;
        let address = reservation.local_addr()?.as_socket();
        let port = address.map_or(self.port, |address| address.port());
        // Elsewhere a second socket on the same port is refused, or shares the connections.
        let reservation = cfg!(target_os = "linux").then_some(reservation);
        let server = Server {
            broker: Arc::new(Broker::new(self.settings, port)),
            threads: Arc::new(Threads::new()),
            door: Mutex::new(Rank::Outer, Door { busy: false, acceptor: None }),
            door_free: Condvar::new(),
            port,
            _reservation: reservation,
        };
        server.take_turn().open()?;
        Ok(server)
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").field("port", &self.port).finish_non_exhaustive()
    }
}

/// The right to open and close the listener; dropping it lets the next one in.
struct DoorTurn<'a> {
    server: &'a Server,
    acceptor: Option<Acceptor>,
}

impl DoorTurn<'_> {
    fn open(&mut self) -> io::Result<()> {
        if self.acceptor.is_some() {
            return Ok(());
        }
        let listener = TcpListener::from(listen(self.server.port, clock::after(END_TIMEOUT))?);
        let closing = Arc::new(AtomicBool::new(false));
        let (broker, threads) = (self.server.broker.clone(), self.server.threads.clone());
        let seen = closing.clone();
        let body = move || accept_loop(&listener, &seen, &broker, &threads);
        let thread = sync::spawn("nats-testing".to_owned(), 0, body)?;
        self.acceptor = Some(Acceptor { closing, thread });
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(acceptor) = self.acceptor.take() else {
            return Ok(());
        };
        acceptor.closing.store(true, Ordering::Release);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.server.port));
        let deadline = clock::after(END_TIMEOUT);
        // The thread is inside accept: a connection brings it out. The loop is for a machine
        // that is short of descriptors at the first attempt.
        while !acceptor.thread.is_finished() {
            if Instant::now() >= deadline {
                let text = "the listener could not be closed in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            assert_unlocked("connecting");
            let wake = TcpStream::connect_timeout(&address, WAKE_TIMEOUT);
            if wake.is_ok() || is_refused(&wake) {
                break;
            }
        }
        let _ = acceptor.thread.join();
        Ok(())
    }

    fn stop(&mut self) {
        // A listener that cannot be closed accepts nobody: its thread knows that it is to end.
        let _ = self.close();
        self.server.broker.drop_all();
        self.server.threads.join_all(clock::after(END_TIMEOUT));
    }
}

impl Drop for DoorTurn<'_> {
    fn drop(&mut self) {
        let mut door = self.server.door.lock();
        door.acceptor = self.acceptor.take();
        door.busy = false;
        drop(door);
        self.server.door_free.notify_one();
    }
}

fn is_refused(attempt: &io::Result<TcpStream>) -> bool {
    matches!(attempt, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The threads of all clients.
struct Threads {
    handles: Mutex<Vec<JoinHandle<()>>>,
    running: Mutex<usize>,
    ended: Condvar,
}

/// Counts one thread for as long as it runs, a panic included.
struct Running(Arc<Threads>);

impl Threads {
    fn new() -> Self {
        Self {
            handles: Mutex::new(Rank::Outer, Vec::new()),
            running: Mutex::new(Rank::Outer, 0),
            ended: Condvar::new(),
        }
    }

    fn spawn(self: &Arc<Self>, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        {
            let mut running = self.running.lock();
            *running = running.saturating_add(1);
        }
        let running = Running(self.clone());
        let thread = sync::spawn(name.to_owned(), 0, move || {
            let _running = running;
            body();
        })?;
        let mut handles = self.handles.lock();
        handles.retain(|thread| !thread.is_finished());
        handles.push(thread);
        Ok(())
    }

    /// Joins all threads, or leaves them alone if they are not at their end by the deadline.
    fn join_all(&self, deadline: Instant) {
        {
            let mut running = self.running.lock();
            while *running > 0 {
                if self.ended.wait_until(&mut running, Some(deadline)) {
                    break;
                }
            }
            if *running > 0 {
                return;
            }
        }
        let handles = std::mem::take(&mut *self.handles.lock());
        assert_unlocked("joining threads");
        for thread in handles {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.0.running.lock();
        *running = running.saturating_sub(1);
        drop(running);
        self.0.ended.notify_all();
    }
}

fn accept_loop(
    listener: &TcpListener,
    closing: &AtomicBool,
    broker: &Arc<Broker>,
    threads: &Arc<Threads>,
) {
    loop {
        let accepted = listener.accept();
        if closing.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((socket, peer)) => admit(socket, peer, broker, threads),
            // Out of descriptors, most likely: trying again at once would only burn the processor.
            Err(_) => std::thread::park_timeout(ACCEPT_PAUSE),
        }
    }
}

fn admit(socket: TcpStream, peer: SocketAddr, broker: &Arc<Broker>, threads: &Arc<Threads>) {
    // Without it the server is slower, nothing else.
    let _ = socket.set_nodelay(true);
    let session = broker.join(socket, peer.ip().to_string());
    let (writing, reading, serving) = (session.clone(), session.clone(), broker.clone());
    let started = threads
        .spawn("nats-testing-w", move || writing.write_loop())
        .and_then(|()| threads.spawn("nats-testing-r", move || read_loop(&reading, &serving)));
    if started.is_err() {
        broker.leave(&session);
        session.cut();
    }
}

/// The body of a reader thread: reads, parses and serves until the client goes or is refused.
fn read_loop(session: &Arc<Session>, broker: &Broker) {
    let mut turn = Turn::new();
    let (max_control_line, max_payload) = broker.limits();
    let mut parser = ClientOpParser::with_limits(max_control_line, max_payload);
    let mut chunk = vec![0; CHUNK];
    let mut flow = Flow::Continue;
    while flow == Flow::Continue {
        let Some(bytes) = session.read(&mut chunk).and_then(|count| chunk.get(..count)) else {
            session.cut();
            break;
        };
        parser.set_max_payload(broker.limits().1);
        parser.push(bytes);
        while flow == Flow::Continue {
            flow = match parser.next() {
                Ok(Some(op)) => broker.serve(session, &mut turn, op),
                Ok(None) => break,
                Err(text) => turn.refuse(session, &text),
            };
        }
        turn.wake_receivers();
    }
    broker.leave(session);
}

fn bind(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // On Windows the same name means that two programs may listen on one port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

/// Listens again where we listened before. A process that is just being started by another thread
/// holds copies of our descriptors until its program begins, our old listener among them.
fn listen(port: u16, deadline: Instant) -> io::Result<Socket> {
    loop {
        match bind(port).and_then(|socket| socket.listen(BACKLOG).map(|()| socket)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::park_timeout(ACCEPT_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// How many bytes one read takes: large enough that a busy client costs few system calls.
const CHUNK: usize = 64 * 1024;
/// Connections that wait to be accepted: a herd of reconnecting clients comes at once.
const BACKLOG: i32 = 1024;
/// For the end of threads that have nothing to wait for: generous, it is never used up.
const END_TIMEOUT: Duration = Duration::from_secs(2);
const WAKE_TIMEOUT: Duration = Duration::from_millis(100);
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};

    use serde_json::Value;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const LOGIN: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\
        \"headers\":true,\"no_responders\":true}\r\n";

    /// A raw client; whatever it waits for has a deadline.
    struct Client {
        stream: BufReader<TcpStream>,
        info: Value,
    }

    impl Client {
        /// Connects and reads the INFO.
        fn greeted(server: &Server) -> Self {
            let mut client = Self::silent(server);
            client.info = client.info_line();
            client
        }

        /// Connects and reads nothing.
        fn silent(server: &Server) -> Self {
            let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
            stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
            stream.set_write_timeout(Some(LIMIT)).expect("a time-out");
            Self { stream: BufReader::new(stream), info: Value::Null }
        }

        /// Connects, logs in and is past the handshake.
        fn ready(server: &Server) -> Self {
            Self::login(server, LOGIN)
        }

        fn login(server: &Server, connect: &str) -> Self {
            let mut client = Self::greeted(server);
            client.write(connect);
            client.write("PING\r\n");
            assert_eq!(client.line(), "PONG");
            if connect.contains("protocol") {
                assert_eq!(client.info_line()["connect_info"], true);
            }
            client
        }

        fn write(&mut self, text: &str) {
            self.stream.get_mut().write_all(text.as_bytes()).expect("written in time");
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a line in time");
            line.strip_suffix("\r\n").expect("a whole line").to_owned()
        }

        fn info_line(&mut self) -> Value {
            let line = self.line();
            let json = line.strip_prefix("INFO ").expect("an INFO");
            serde_json::from_str(json).expect("JSON")
        }

        fn bytes(&mut self, expected: &str) {
            let mut bytes = vec![0; expected.len()];
            self.stream.read_exact(&mut bytes).expect("bytes in time");
            assert_eq!(String::from_utf8_lossy(&bytes), expected);
        }

        /// Asserts that everything up to the answer to a PING is `expected`.
        fn answers(&mut self, sent: &str, expected: &str) {
            self.write(sent);
            self.write("PING\r\n");
            self.bytes(expected);
            assert_eq!(self.line(), "PONG");
        }

        fn ends(&mut self) {
            let mut rest = Vec::new();
            match self.stream.read_to_end(&mut rest) {
                Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), ""),
                // Bytes that the server had not read when it closed.
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            }
        }

        /// Asserts that the server says this and closes.
        fn is_refused(&mut self, sent: &str, expected: &str) {
            self.write(sent);
            assert_eq!(self.line(), expected);
            self.ends();
        }

        fn hears_nothing(&mut self) {
            let moment = Some(Duration::from_millis(100));
            self.stream.get_ref().set_read_timeout(moment).expect("a time-out");
            let error = self.stream.fill_buf().expect_err("silence");
            assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
            self.stream.get_ref().set_read_timeout(Some(LIMIT)).expect("a time-out");
        }
    }

    fn server() -> Server {
        Server::start().expect("a server")
    }

    #[test]
    fn info_has_the_fields_of_the_real_server() {
        let server = Server::builder().server_name("here").max_payload(77).start().expect("start");
        let client = Client::greeted(&server);
        let info = &client.info;
        assert_eq!(info["server_name"], "here");
        assert_eq!(info["server_id"].as_str().map(str::len), Some(56));
        assert_eq!((&info["host"], &info["port"]), (&json!("127.0.0.1"), &json!(server.port())));
        assert_eq!((&info["max_payload"], &info["headers"]), (&json!(77), &json!(true)));
        assert_eq!((&info["client_id"], &info["client_ip"]), (&json!(1), &json!("127.0.0.1")));
        assert_eq!((&info["proto"], &info["version"]), (&json!(1), &json!("2.15.1")));
        assert!(info.get("auth_required").is_none() && info.get("connect_urls").is_none());
        assert_eq!(server.url(), format!("nats://127.0.0.1:{}", server.port()));
    }

    #[test]
    fn messages_go_to_whom_they_should() {
        let server = server();
        let (mut one, mut two) = (Client::ready(&server), Client::ready(&server));
        one.answers("SUB a.* 1\r\nSUB > 2\r\n", "");
        two.answers("SUB a.b 9\r\n", "");
        assert_eq!((server.client_count(), server.subscription_count()), (2, 3));
        two.answers("PUB a.b r 2\r\nhi\r\n", "MSG a.b 9 r 2\r\nhi\r\n");
        one.answers("", "MSG a.b 1 r 2\r\nhi\r\nMSG a.b 2 r 2\r\nhi\r\n");
        two.answers("PUB c 0\r\n\r\nUNSUB 9\r\nUNSUB 8\r\nPUB a.b 1\r\nx\r\n", "");
        one.answers("", "MSG c 2 0\r\n\r\nMSG a.b 1 1\r\nx\r\nMSG a.b 2 1\r\nx\r\n");
        assert_eq!(server.received(), 3);
    }

    #[test]
    fn a_queue_group_gets_a_message_once() {
        let server = server();
        let (mut one, mut two) = (Client::ready(&server), Client::ready(&server));
        one.answers("SUB work q 1\r\n", "");
        two.answers("SUB work q 1\r\n", "");
        let mut publisher = Client::ready(&server);
        publisher.answers(&"PUB work 1\r\nx\r\n".repeat(100), "");
        let mut shares = [0, 0];
        for (client, share) in [&mut one, &mut two].into_iter().zip(&mut shares) {
            client.write("PING\r\n");
            while client.line() != "PONG" {
                assert_eq!(client.line(), "x");
                *share += 1;
            }
        }
        assert_eq!(shares.iter().sum::<i32>(), 100);
        assert!(shares.iter().all(|share| *share > 20), "{shares:?}");
    }

    #[test]
    fn a_subscription_ends_after_its_maximum() {
        let server = server();
        let mut client = Client::ready(&server);
        client.answers(
            "SUB a 1\r\nUNSUB 1 2\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\n",
            "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n",
        );
        assert_eq!(server.subscription_count(), 0);
    }

    #[test]
    fn headers_are_carried_and_stripped_for_those_who_do_not_know_them() {
        let server = server();
        let mut old = Client::login(&server, "CONNECT {\"verbose\":false}\r\n");
        old.answers("SUB a 5\r\n", "");
        let mut new = Client::ready(&server);
        let block = "NATS/1.0\r\nA: b\r\n\r\n";
        new.answers(
            &format!("SUB a 1\r\nHPUB a r 18 20\r\n{block}hi\r\n"),
            &format!("HMSG a 1 r 18 20\r\n{block}hi\r\n"),
        );
        old.answers("", "MSG a 5 r 2\r\nhi\r\n");
        old.is_refused("HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", NO_HEADERS);

        let server = Server::builder().headers(false).start().expect("a server");
        let connect = LOGIN.replace("\"no_responders\":true", "\"no_responders\":false");
        let mut client = Client::login(&server, &connect);
        assert_eq!(client.info["headers"], false);
        client.is_refused("HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", NO_HEADERS);
        let mut client = Client::greeted(&server);
        client.is_refused(LOGIN, "-ERR 'no responders requires headers support'");
    }

    const NO_HEADERS: &str = "-ERR 'message headers not supported'";

    #[test]
    fn a_request_that_nobody_hears_is_answered_by_the_server() {
        let server = server();
        let mut client = Client::ready(&server);
        client.answers("SUB inbox.* 4\r\nUNSUB 4 2\r\n", "");
        let status = "NATS/1.0 503\r\nNats-Subject: none\r\n\r\n";
        let expected = format!("HMSG inbox.x 4 36 36\r\n{status}\r\n");
        client.answers("PUB none inbox.x 1\r\nx\r\n", &expected);
        client.answers("PUB none other 1\r\nx\r\nPUB none 1\r\nx\r\n", "");
        let mut plain = Client::login(&server, "CONNECT {\"verbose\":false}\r\n");
        plain.answers("SUB inbox.* 4\r\nPUB none inbox.x 1\r\nx\r\n", "");
    }

    #[test]
    fn no_echo_spares_the_publisher() {
        let server = server();
        let connect = "CONNECT {\"verbose\":false,\"echo\":false}\r\n";
        let mut client = Client::login(&server, connect);
        let mut other = Client::ready(&server);
        other.answers("SUB a 1\r\n", "");
        client.answers("SUB a 1\r\nPUB a 1\r\nx\r\n", "");
        other.answers("PUB a 1\r\ny\r\n", "MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n");
        client.answers("", "MSG a 1 1\r\ny\r\n");
    }

    #[test]
    fn verbose_and_pedantic_are_on_until_the_client_says_otherwise() {
        let server = server();
        let mut client = Client::greeted(&server);
        client.answers(
            "SUB a 1\r\nPUB a 1\r\nx\r\nUNSUB 1\r\nPUB a..b 1\r\nx\r\nCONNECT {}\r\nSUB a..b 1\r\n",
            "+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\n\
             +OK\r\n-ERR 'Invalid Subject'\r\n",
        );
        client.answers("CONNECT {\"verbose\":false}\r\nSUB a 1\r\n", "");
    }

    #[test]
    fn what_breaks_a_limit_or_the_protocol_is_refused() {
        let server = Server::builder().max_payload(5).max_control_line(200).start().expect("start");
        let mut client = Client::ready(&server);
        client.answers("SUB a 1\r\nPUB a 5\r\nhello\r\n", "MSG a 1 5\r\nhello\r\n");
        client.is_refused("PUB a 6\r\n", "-ERR 'Maximum Payload Violation'");
        let long = format!("SUB {} 1\r\n", "a".repeat(199));
        Client::ready(&server).is_refused(&long, "-ERR 'maximum control line exceeded'");
        let wrong = Client::ready;
        wrong(&server).is_refused("FOO\r\n", "-ERR 'Unknown Protocol Operation'");
        wrong(&server).is_refused("PING\n", "-ERR 'Parser Error: a line does not end with CRLF'");
        wrong(&server).is_refused("CONNECT {\"protocol\":2}\r\n", "-ERR 'invalid client protocol'");
        assert!(server.wait_for_clients(0, LIMIT));
        assert_eq!(server.subscription_count(), 0);
    }

    #[test]
    fn only_the_right_user_comes_in() {
        let server = Server::builder().user("joe", "s3cret").start().expect("a server");
        let violation = "-ERR 'Authorization Violation'";
        let mut client = Client::greeted(&server);
        assert_eq!(client.info["auth_required"], true);
        client.is_refused("PING\r\n", violation);
        Client::greeted(&server).is_refused(LOGIN, violation);
        let wrong = LOGIN.replace('{', "{\"user\":\"joe\",\"pass\":\"x\",");
        Client::greeted(&server).is_refused(&wrong, violation);
        let mut joe =
            Client::login(&server, &LOGIN.replace('{', "{\"user\":\"joe\",\"pass\":\"s3cret\","));
        assert_eq!(server.client_count(), 1);

        server.require_token("t0ken");
        Client::login(&server, &LOGIN.replace('{', "{\"auth_token\":\"t0ken\","));
        Client::greeted(&server).is_refused(LOGIN, violation);
        server.require_user("ann", "x");
        Client::login(&server, &LOGIN.replace('{', "{\"user\":\"ann\",\"pass\":\"x\","));
        server.require_nothing();
        Client::ready(&server);
        joe.answers("", "");
        server.require_user("ann", "y");
        joe.answers("CONNECT {\"echo\":true}\r\n", "");
        joe.is_refused("CONNECT {\"user\":\"joe\"}\r\n", violation);
        assert!(!format!("{server:?}").contains("s3cret"));
    }

    #[test]
    fn permissions_are_enforced_in_the_words_of_the_real_server() {
        let server = Server::builder()
            .publish_permissions(Permissions::new().allow("ok.>").deny("ok.no"))
            .subscribe_permissions(Permissions::new().allow("ok.*").deny("ok.secret"))
            .start()
            .expect("a server");
        let mut client = Client::ready(&server);
        client.answers(
            "PUB bad 1\r\nx\r\nPUB ok.no 1\r\nx\r\nSUB bad 1\r\nSUB bad q 2\r\nSUB ok.secret 3\r\n",
            "-ERR 'Permissions Violation for Publish to \"bad\"'\r\n\
             -ERR 'Permissions Violation for Publish to \"ok.no\"'\r\n\
             -ERR 'Permissions Violation for Subscription to \"bad\"'\r\n\
             -ERR 'Permissions Violation for Subscription to \"bad\" using queue \"q\"'\r\n\
             -ERR 'Permissions Violation for Subscription to \"ok.secret\"'\r\n",
        );
        client.answers(
            "SUB ok.* 4\r\nPUB ok.secret 1\r\nx\r\nPUB ok.a 1\r\ny\r\n",
            "MSG ok.a 4 1\r\ny\r\n",
        );
        assert_eq!((server.subscription_count(), server.received()), (1, 2));
        server.set_publish_permissions(Permissions::new().deny("ok.a"));
        server.set_subscribe_permissions(Permissions::new());
        client.answers(
            "PUB ok.a 1\r\ny\r\nSUB bad 5\r\nPUB bad 0\r\n\r\n",
            "-ERR 'Permissions Violation for Publish to \"ok.a\"'\r\nMSG bad 5 0\r\n\r\n",
        );
    }

    #[test]
    fn dropped_clients_are_gone_at_once_and_may_come_back() {
        let server = server();
        let (mut one, mut two) = (Client::ready(&server), Client::ready(&server));
        one.answers("SUB a 1\r\n", "");
        server.drop_clients();
        assert_eq!((server.client_count(), server.subscription_count()), (0, 0));
        one.ends();
        two.ends();
        let _three = Client::ready(&server);
        assert!(server.wait_for_clients(1, LIMIT));
        assert!(!server.wait_for_clients(2, Duration::from_millis(20)));
        assert_eq!(server.connections(), 3);
    }

    #[test]
    fn refusing_leaves_those_who_are_in() {
        let server = server();
        let mut client = Client::ready(&server);
        for _ in 0..20 {
            server.refuse_connections(true).expect("closed");
            server.refuse_connections(true).expect("still closed");
            let refused = TcpStream::connect(("127.0.0.1", server.port()));
            assert_eq!(refused.expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
            client.answers("", "");
            server.refuse_connections(false).expect("open again");
            Client::ready(&server);
        }
    }

    #[test]
    fn a_silent_server_goes_on_where_it_was() {
        let server = server();
        let mut client = Client::ready(&server);
        client.answers("SUB a 1\r\n", "");
        server.go_silent(true);
        client.write("PUB a 1\r\nx\r\nPING\r\n");
        let mut late = Client::silent(&server);
        client.hears_nothing();
        late.hears_nothing();
        assert_eq!(server.received(), 0);
        server.go_silent(false);
        client.bytes("MSG a 1 1\r\nx\r\nPONG\r\n");
        assert_eq!(late.info_line()["client_id"], 2);

        server.go_silent(true);
        client.write("PING\r\n");
        client.hears_nothing();
        server.drop_clients();
        client.ends();
    }

    #[test]
    fn a_stopped_server_is_gone_and_restarts_on_its_port() {
        let server = server();
        let url = server.url();
        let mut client = Client::ready(&server);
        client.answers("SUB a 1\r\n", "");
        let identity = client.info["server_id"].clone();
        server.stop();
        server.stop();
        client.ends();
        assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
        for _ in 0..50 {
            server.go_silent(true);
            server.pause_pongs(true);
            server.restart().expect("restarted");
            assert_eq!((server.client_count(), server.subscription_count()), (0, 0));
            client = Client::ready(&server);
            assert_ne!(client.info["server_id"], identity);
        }
        client.answers("PUB a 1\r\nx\r\n", "");
        assert_eq!((server.url(), server.connections()), (url, 51));
    }

    #[test]
    fn news_of_the_cluster_reach_those_who_asked_for_them() {
        let server = server();
        let mut client = Client::ready(&server);
        let mut old = Client::login(&server, "CONNECT {\"verbose\":false}\r\n");
        let mut fresh = Client::greeted(&server);
        server.announce_servers(&["10.0.0.1:4222", "10.0.0.2:4222"]);
        let urls = json!(["10.0.0.1:4222", "10.0.0.2:4222"]);
        assert_eq!(client.info_line()["connect_urls"], urls);
        old.answers("", "");
        fresh.write(LOGIN);
        fresh.write("PING\r\n");
        assert_eq!(fresh.line(), "PONG");
        assert_eq!(fresh.info_line()["connect_urls"], urls);
        assert_eq!(Client::greeted(&server).info["connect_urls"], urls);

        server.lame_duck();
        let info = client.info_line();
        assert_eq!((&info["ldm"], &info["connect_urls"]), (&json!(true), &urls));
        assert!(Client::greeted(&server).info.get("ldm").is_none());

        server.announce_servers(&[]);
        assert!(client.info_line().get("connect_urls").is_none());
        server.set_max_payload(3);
        assert_eq!(client.info_line()["max_payload"], 3);
        client.answers("SUB a 1\r\nPUB a 3\r\nabc\r\n", "MSG a 1 3\r\nabc\r\n");
        client.is_refused("PUB a 4\r\n", "-ERR 'Maximum Payload Violation'");
    }

    #[test]
    fn any_word_can_be_put_into_its_mouth() {
        let server = server();
        let mut client = Client::ready(&server);
        server.send_error("Slow Consumer");
        assert_eq!(client.line(), "-ERR 'Slow Consumer'");
        server.send_raw("NONSENSE");
        server.send_raw(b"\r\n");
        assert_eq!(client.line(), "NONSENSE");
        server.ping_clients();
        assert_eq!(client.line(), "PING");
        client.answers("PONG\r\n", "");
        server.send_error_and_close("Stale Connection");
        assert_eq!(server.client_count(), 0);
        assert_eq!(client.line(), "-ERR 'Stale Connection'");
        client.ends();
    }

    #[test]
    fn unanswered_pings_stay_unanswered() {
        let server = server();
        let mut client = Client::ready(&server);
        server.pause_pongs(true);
        client.write("SUB a 1\r\nPING\r\nPUB a 1\r\nx\r\n");
        client.bytes("MSG a 1 1\r\nx\r\n");
        server.pause_pongs(false);
        client.answers("PUB a 1\r\ny\r\n", "MSG a 1 1\r\ny\r\n");
    }

    #[test]
    fn who_reads_nothing_is_cut() {
        let server = Server::builder().max_payload(1024 * 1024).start().expect("a server");
        let mut deaf = Client::ready(&server);
        deaf.answers("SUB a 1\r\n", "");
        let mut publisher = Client::ready(&server);
        let frame = format!("PUB a {}\r\n{}\r\n", 1024 * 1024, "x".repeat(1024 * 1024));
        for _ in 0..100 {
            publisher.answers(&frame, "");
        }
        assert!(server.wait_for_clients(1, LIMIT));
        assert_eq!(server.subscription_count(), 0);
        publisher.answers("", "");
    }

    #[test]
    fn a_client_that_never_reads_its_refusal_does_not_hold_up_the_end() {
        let server = server();
        let mut deaf = Client::ready(&server);
        let frame = format!("PUB a {}\r\n{}\r\n", 1_000_000, "x".repeat(1_000_000));
        deaf.write("SUB a 1\r\n");
        for _ in 0..12 {
            deaf.write(&frame);
        }
        deaf.write("FOO\r\n");
        assert!(server.wait_for_clients(0, LIMIT));
        let begun = Instant::now();
        drop(server);
        assert!(begun.elapsed() < END_TIMEOUT);
    }

    #[test]
    fn many_threads_may_use_the_handle() {
        let server = server();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        server.restart().expect("restarted");
                        server.announce_servers(&["a:1"]);
                    }
                });
            }
        });
        Client::ready(&server);
    }

    /// Threads are counted over the whole process, so the counting runs in a process of its own.
    #[cfg(target_os = "linux")]
    #[test]
    fn all_threads_are_gone_when_the_server_is_dropped() {
        const NAME: &str =
            "testing::server::tests::all_threads_are_gone_when_the_server_is_dropped";
        const MARK: &str = "NATS_TESTING_COUNTS_THREADS";
        if std::env::var_os(MARK).is_none() {
            let program = std::env::current_exe().expect("this program");
            let mut child = std::process::Command::new(program);
            let output = child.args(["--exact", NAME]).env(MARK, "1").output().expect("a run");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let server = server();
        let clients: Vec<_> = (0..5).map(|_| Client::ready(&server)).collect();
        assert_eq!(thread_count(), 11);
        let sockets = descriptor_count();
        server.go_silent(true);
        drop(server);
        // The kernel takes an ended thread off its list a moment after the join.
        let deadline = clock::after(LIMIT);
        while thread_count() > 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(thread_count(), 0);
        assert_eq!(descriptor_count(), sockets - 7, "a listener, a reservation, five clients");
        drop(clients);
    }

    #[cfg(target_os = "linux")]
    fn thread_count() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").expect("the list of threads");
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.starts_with("nats-testing"))
            .count()
    }

    #[cfg(target_os = "linux")]
    fn descriptor_count() -> usize {
        std::fs::read_dir("/proc/self/fd").expect("the list of descriptors").count()
    }
}
