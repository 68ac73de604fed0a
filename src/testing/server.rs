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

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{self, Arc, Condvar, Mutex, Rank, assert_unlocked};
use crate::testing::broker::{Broker, Flow, Required, Settings, Turn};
use crate::testing::client_op::{ClientOpParser, DEFAULT_MAX_CONTROL_LINE, DEFAULT_MAX_PAYLOAD};
use crate::testing::interest::Permissions;
use crate::testing::session::Session;

/// A NATS server in this process, on a loopback port of its own.
///
/// Dropping it cuts all clients and ends its threads, within two seconds at worst. The methods may
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
#[derive(Clone)]
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
    pub fn wait_for_clients(&self, count: usize, timeout: Duration) -> bool {
        self.broker.wait_for_clients(count, deadline_in(timeout))
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
    /// announced servers and counts stay. Blocks like [`stop`](Self::stop).
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
        let socket = bind(self.server.port)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
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
        let deadline = deadline_in(END_TIMEOUT);
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
        self.server.threads.join_all(deadline_in(END_TIMEOUT));
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

fn deadline_in(timeout: Duration) -> Instant {
    let now = Instant::now();
    // A time-out beyond the clock means "very long".
    now.checked_add(timeout).or_else(|| now.checked_add(VERY_LONG)).unwrap_or(now)
}

/// How many bytes one read takes: large enough that a busy client costs few system calls.
const CHUNK: usize = 64 * 1024;
/// Connections that wait to be accepted: a herd of reconnecting clients comes at once.
const BACKLOG: i32 = 1024;
/// For the end of threads that have nothing to wait for: generous, it is never used up.
const END_TIMEOUT: Duration = Duration::from_secs(2);
const WAKE_TIMEOUT: Duration = Duration::from_millis(100);
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const VERY_LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
