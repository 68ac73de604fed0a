//! Transports that a program brings: in memory, with TLS and WebSocket on top, and such as do what
//! they should not.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{Connector, ErrorKind, Options, OptionsBuilder, ServerAddress, Transport};

#[cfg(all(feature = "tls", feature = "websocket"))]
use crate::support::certificates::Authority;
#[cfg(all(feature = "tls", feature = "websocket"))]
use crate::support::nats_server::Config;
use crate::support::nats_server::NatsServer;
#[cfg(all(feature = "tls", feature = "websocket"))]
use crate::support::ports;
use crate::support::wait::{Gate, poll};
use crate::support::watchdog::within;

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(120);

/// A connector made of a closure.
struct By<F>(F);

impl<F> Connector for By<F>
where
    F: Fn(&ServerAddress, Instant) -> io::Result<Box<dyn Transport>> + Send + Sync,
{
    fn connect(&self, server: &ServerAddress, deadline: Instant) -> io::Result<Box<dyn Transport>> {
        (self.0)(server, deadline)
    }
}

fn by<F>(connect: F) -> By<F>
where
    F: Fn(&ServerAddress, Instant) -> io::Result<Box<dyn Transport>> + Send + Sync,
{
    By(connect)
}

fn options(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(20))
        .reconnect_jitter(Duration::from_millis(10))
        .reconnect_jitter_tls(Duration::from_millis(10))
}

/// TCP to where the server is, as a program would write it.
fn tcp(server: &ServerAddress, _: Instant) -> io::Result<Box<dyn Transport>> {
    let stream = TcpStream::connect((server.host(), server.port()))?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// One direction in memory.
#[derive(Default)]
struct Pipe {
    state: Mutex<(VecDeque<u8>, bool)>,
    changed: Condvar,
}

impl Pipe {
    fn put(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        if state.1 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.0.extend(bytes);
        self.changed.notify_all();
        Ok(bytes.len())
    }

    fn take(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        while state.0.is_empty() && !state.1 {
            let left = deadline.map_or(LIMIT, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
        let count = state.0.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(state.0.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn end(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// Our end of a pair in memory.
struct InMemory {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

impl Transport for InMemory {
    fn read(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        self.incoming.take(buffer, deadline)
    }

    fn write(&self, bytes: &[u8], _: Instant) -> io::Result<usize> {
        self.outgoing.put(bytes)
    }

    fn finish(&self) {
        self.outgoing.end();
    }

    fn shutdown(&self) {
        self.incoming.end();
        self.outgoing.end();
    }
}

fn start(body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("in-memory".to_owned()).spawn(body).map(drop)
}

/// A pair in memory, whose other end is carried to a server by two threads.
fn in_memory(server: &ServerAddress, _: Instant) -> io::Result<Box<dyn Transport>> {
    let socket = TcpStream::connect((server.host(), server.port()))?;
    let (incoming, outgoing) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    let (to, mut from) = (Arc::clone(&incoming), socket.try_clone()?);
    start(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = Read::read(&mut from, &mut chunk) {
            if to.put(&chunk[..count]).is_err() {
                break;
            }
        }
        to.end();
    })?;
    let (from, mut to) = (Arc::clone(&outgoing), socket);
    start(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = from.take(&mut chunk, None) {
            if to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = TcpStream::shutdown(&to, std::net::Shutdown::Both);
    })?;
    Ok(Box::new(InMemory { incoming, outgoing }))
}

/// Publishes, receives, loses the server, and does it again.
fn live(options: OptionsBuilder, lose: impl FnOnce()) {
    let recorder = Recorder::new();
    let connection = options.connection_listener(recorder.clone()).connect().unwrap();
    let subscription = connection.subscribe("a").unwrap();
    let mut lose = Some(lose);
    loop {
        for number in 0..500_u32 {
            let mut payload = vec![b'.'; 1000];
            payload.extend_from_slice(&number.to_be_bytes());
            connection.publish("a", payload).unwrap();
        }
        for number in 0..500_u32 {
            let message = subscription.next_timeout(LIMIT).unwrap();
            assert!(message.payload().ends_with(&number.to_be_bytes()));
        }
        let Some(lose) = lose.take() else { break };
        lose();
        recorder
            .wait_for_event(LIMIT, |kind| {
                matches!(kind, nats_blocking::ConnectionEventKind::Resubscribed { .. })
            })
            .unwrap();
    }
    connection.flush().unwrap();
    connection.drain(LIMIT).unwrap();
    connection.wait_closed(LIMIT).unwrap();
    recorder.check().unwrap();
}

#[test]
fn a_program_brings_a_tcp_stream_or_a_pair_in_memory() {
    within(LONG, "own transports", || {
        let mut server = NatsServer::start_plain();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let address = format!("127.0.0.1:{}", server.port());
        let connector = by(move |server: &ServerAddress, deadline| {
            assert_eq!(server.to_string(), address);
            assert_eq!(server.url(), format!("nats://{address}"));
            assert!(deadline > Instant::now());
            count.fetch_add(1, Ordering::SeqCst);
            tcp(server, deadline)
        });
        let url = server.url().replace("nats://", "nats://user:pass@");
        live(options(&url).connector(connector), || server.restart());
        assert!(asked.load(Ordering::SeqCst) >= 2);
        let url = server.url();
        live(options(&url).connector(by(in_memory)), || server.restart());
    });
}

/// A server with TLS, and its URLs for that and for WebSocket.
#[cfg(all(feature = "tls", feature = "websocket"))]
fn secured() -> (NatsServer, [String; 2], Authority) {
    let authority = Authority::new();
    let block = authority.server().tls_block("");
    let port = ports::free();
    let server = NatsServer::start(&Config::new().extra(&block).websocket(port, &block));
    let urls = [server.url().replace("nats://", "tls://"), format!("wss://127.0.0.1:{port}")];
    (server, urls, authority)
}

#[test]
#[cfg(all(feature = "tls", feature = "websocket"))]
fn tls_and_websocket_run_on_top_of_it() {
    within(LONG, "on top", || {
        let (mut server, urls, authority) = secured();
        for url in urls {
            let options = options(&url).root_certificates_file(&authority.file);
            live(options.connector(by(in_memory)), || server.restart());
        }
    });
}

#[test]
fn a_connector_that_fails_panics_or_does_not_return_fails_the_attempt_and_hinders_no_close() {
    within(LONG, "connectors", || {
        let gate = Gate::new();
        let server = Server::start().unwrap();
        let url = format!("nats://127.0.0.1:{}", server.port());
        let failing = by(|_: &ServerAddress, _| Err(io::Error::other("no way there")));
        let attempt = |builder: OptionsBuilder| {
            let error = builder.connect().unwrap_err();
            let [attempt] = error.attempts() else { panic!("{error}") };
            attempt.cause().clone()
        };
        let error = attempt(options(&url).connector(failing));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("no way there"), "{error}");
        let error =
            attempt(options(&url).connector(by(|_: &ServerAddress, _| panic!("on purpose"))));
        assert_eq!(error.kind(), ErrorKind::UserPanic, "{error}");

        let (entered, calls) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
        let (counted, ended) = (Arc::clone(&calls), Gate::new());
        let end = ended.clone();
        let stuck = by(move |_: &ServerAddress, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            entered.wait(LONG);
            Ok(Box::new(Late(end.clone())) as Box<dyn Transport>)
        });
        let connection = options(&url)
            .connector(stuck)
            .connect_timeout(Duration::from_millis(100))
            .close_timeout(Duration::from_millis(500))
            .retry_on_failed_connect(nats_blocking::RetryConnect::InBackground)
            .connect()
            .unwrap();
        let failed =
            poll(LIMIT, || connection.last_error().filter(nats_blocking::Error::is_timeout));
        assert!(failed.unwrap().to_string().contains("connector"));
        let begun = Instant::now();
        connection.close();
        connection.wait_closed(LIMIT).unwrap();
        assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
        assert_eq!(calls.load(Ordering::SeqCst), 1, "one call at a time");
        gate.open();
        assert!(ended.wait(LIMIT), "what it makes later is closed, though the handle is kept");
        drop(connection);
    });
}

/// A transport that nobody uses; it opens a gate when it is ended.
struct Late(Gate);

impl Transport for Late {
    fn read(&self, _: &mut [u8], _: Option<Instant>) -> io::Result<usize> {
        Ok(0)
    }

    fn write(&self, bytes: &[u8], _: Instant) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn shutdown(&self) {
        self.0.open();
    }
}

/// How a transport breaks the rules, after so many reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    ReadsTooMuch,
    WritesTooMuch,
    ReadPanics,
    WritePanics,
    WritesNothing,
    ShutdownPanics,
}

struct BadTransport {
    inner: TcpStream,
    bad: Bad,
    /// From now on it is bad.
    now: Arc<AtomicBool>,
}

impl BadTransport {
    fn is(&self, bad: Bad) -> bool {
        self.bad == bad && self.now.load(Ordering::SeqCst)
    }
}

impl Transport for BadTransport {
    fn read(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        let count = Transport::read(&self.inner, buffer, deadline)?;
        assert!(!self.is(Bad::ReadPanics), "on purpose");
        if self.is(Bad::ReadsTooMuch) { Ok(buffer.len() + 1) } else { Ok(count) }
    }

    fn write(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        if self.is(Bad::WritePanics) {
            let _ = Transport::write(&self.inner, &bytes[..bytes.len() / 2], deadline);
            panic!("on purpose");
        }
        if self.is(Bad::WritesNothing) {
            return Ok(0);
        }
        let count = Transport::write(&self.inner, bytes, deadline)?;
        if self.is(Bad::WritesTooMuch) { Ok(bytes.len() + 1) } else { Ok(count) }
    }

    fn finish(&self) {
        Transport::finish(&self.inner);
    }

    fn shutdown(&self) {
        Transport::shutdown(&self.inner);
        assert_ne!(self.bad, Bad::ShutdownPanics, "on purpose");
    }
}

impl Drop for BadTransport {
    fn drop(&mut self) {
        assert!(self.bad != Bad::ShutdownPanics || thread::panicking(), "on purpose");
    }
}

#[test]
fn a_transport_that_breaks_the_rules_is_lost_and_made_again() {
    within(LONG, "bad transports", || {
        let server = NatsServer::start_plain();
        break_rules(|| options(&server.url()));
    });
}

#[test]
#[cfg(all(feature = "tls", feature = "websocket"))]
fn a_transport_that_breaks_the_rules_below_tls_and_websocket_is_lost_too() {
    within(LONG, "bad transports below", || {
        let (_server, urls, authority) = secured();
        for url in urls {
            break_rules(|| options(&url).root_certificates_file(&authority.file));
        }
    });
}

fn break_rules(options: impl Fn() -> OptionsBuilder) {
    for bad in [
        Bad::ReadsTooMuch,
        Bad::WritesTooMuch,
        Bad::ReadPanics,
        Bad::WritePanics,
        Bad::WritesNothing,
        Bad::ShutdownPanics,
    ] {
        let now = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&now);
        let connector = by(move |server: &ServerAddress, _| {
            let inner = TcpStream::connect((server.host(), server.port()))?;
            // Only the first one goes bad.
            let now = if seen.load(Ordering::SeqCst) {
                Arc::new(AtomicBool::new(false))
            } else {
                Arc::clone(&seen)
            };
            Ok(Box::new(BadTransport { inner, bad, now }))
        });
        let recorder = Recorder::new();
        let connection =
            options().connector(connector).connection_listener(recorder.clone()).connect().unwrap();
        let subscription = connection.subscribe("a").unwrap();
        connection.flush().unwrap();
        now.store(true, Ordering::SeqCst);
        connection.publish("a", "lost, or not").unwrap();
        if bad == Bad::ShutdownPanics {
            connection.force_reconnect().unwrap();
        }
        recorder
            .wait_for_event(LIMIT, |kind| {
                matches!(kind, nats_blocking::ConnectionEventKind::Resubscribed { .. })
            })
            .unwrap_or_else(|timeline| panic!("{bad:?}: {timeline}"));
        connection.publish("a", "last").unwrap();
        while subscription.next_timeout(LIMIT).unwrap().text().unwrap() != "last" {}
        let panicked = matches!(bad, Bad::ReadPanics | Bad::WritePanics);
        assert_eq!(connection.statistics().panics() > 0, panicked, "{bad:?}");
        connection.close();
        connection.wait_closed(LIMIT).unwrap();
        recorder.check().unwrap();
    }
}

/// Takes its time with what arrives, from now on.
#[cfg(all(feature = "tls", feature = "websocket"))]
struct Slow {
    inner: Box<dyn Transport>,
    now: Arc<AtomicBool>,
}

#[cfg(all(feature = "tls", feature = "websocket"))]
impl Transport for Slow {
    fn read(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        let slow = self.now.load(Ordering::SeqCst);
        let most = if slow { 20.min(buffer.len()) } else { buffer.len() };
        let count = self.inner.read(&mut buffer[..most], deadline)?;
        if slow {
            // Paces: about a kilobyte a second.
            thread::sleep(Duration::from_millis(20));
        }
        Ok(count)
    }

    fn write(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        self.inner.write(bytes, deadline)
    }

    fn finish(&self) {
        self.inner.finish();
    }

    fn shutdown(&self) {
        self.inner.shutdown();
    }
}

#[test]
#[cfg(all(feature = "tls", feature = "websocket"))]
fn a_record_that_arrives_slowly_is_no_silence() {
    within(LONG, "slow records", || {
        let (_server, urls, authority) = secured();
        for url in urls {
            let now = Arc::new(AtomicBool::new(false));
            let slow = Arc::clone(&now);
            let connector = by(move |server: &ServerAddress, deadline| {
                Ok(Box::new(Slow { inner: tcp(server, deadline)?, now: Arc::clone(&slow) }))
            });
            let connection = options(&url)
                .root_certificates_file(&authority.file)
                .connector(connector)
                .ping_interval(Duration::from_millis(200))
                .max_pings_out(1)
                .connect()
                .unwrap();
            let subscription = connection.subscribe("a").unwrap();
            connection.flush().unwrap();
            now.store(true, Ordering::SeqCst);
            connection.publish("a", vec![b'x'; 3000]).unwrap();
            assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload().len(), 3000);
            assert_eq!(connection.statistics().disconnects(), 0, "{url}");
        }
    });
}

/// Waits in everything, whoever asks it to end.
struct Deaf {
    inner: TcpStream,
    deaf: Arc<AtomicBool>,
    gate: Gate,
}

impl Deaf {
    fn wait(&self) {
        if self.deaf.load(Ordering::SeqCst) {
            self.gate.wait(LONG);
        }
    }
}

impl Transport for Deaf {
    fn read(&self, buffer: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        let outcome = Transport::read(&self.inner, buffer, deadline);
        self.wait();
        outcome
    }

    fn write(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        self.wait();
        Transport::write(&self.inner, bytes, deadline)
    }

    fn finish(&self) {
        self.wait();
    }

    fn shutdown(&self) {
        self.wait();
        Transport::shutdown(&self.inner);
    }
}

#[test]
fn close_returns_in_time_though_nothing_of_the_transport_does() {
    within(LONG, "deaf transport", || {
        let server = NatsServer::start_plain();
        let (gate, deaf) = (Gate::new(), Arc::new(AtomicBool::new(false)));
        let (held, seen) = (gate.clone(), Arc::clone(&deaf));
        let connector = by(move |server: &ServerAddress, _| {
            let inner = TcpStream::connect((server.host(), server.port()))?;
            Ok(Box::new(Deaf { inner, deaf: Arc::clone(&seen), gate: held.clone() }))
        });
        let connection = options(&server.url())
            .connector(connector)
            .close_timeout(Duration::from_millis(500))
            .connect()
            .unwrap();
        let subscription = connection.subscribe("a").unwrap();
        connection.flush().unwrap();
        deaf.store(true, Ordering::SeqCst);
        connection.publish("a", "x").unwrap();
        let begun = Instant::now();
        connection.close();
        assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
        assert!(connection.publish("a", "y").unwrap_err().is_closed());
        // What was held ends once the transport returns.
        gate.open();
        connection.wait_closed(LIMIT).unwrap();
        drop(subscription);
    });
}

#[test]
fn a_transport_that_does_not_wait_is_not_asked_without_a_pause() {
    struct Hasty(TcpStream, Arc<AtomicUsize>);
    impl Transport for Hasty {
        fn read(&self, buffer: &mut [u8], _: Option<Instant>) -> io::Result<usize> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Read::read(&mut &self.0, buffer)
        }

        fn write(&self, bytes: &[u8], _: Instant) -> io::Result<usize> {
            Write::write(&mut &self.0, bytes)
        }

        fn shutdown(&self) {
            Transport::shutdown(&self.0);
        }
    }
    within(LONG, "hasty transport", || {
        let server = NatsServer::start_plain();
        let reads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let connector = by(move |server: &ServerAddress, _| {
            let stream = TcpStream::connect((server.host(), server.port()))?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(Hasty(stream, Arc::clone(&count))))
        });
        let begun = Instant::now();
        let connection = options(&server.url()).connector(connector).connect().unwrap();
        for _ in 0..50 {
            connection.flush().unwrap();
        }
        connection.close();
        connection.wait_closed(LIMIT).unwrap();
        let most = begun.elapsed().as_millis() as usize + 200;
        assert!(reads.load(Ordering::SeqCst) < most, "{} of {most}", reads.load(Ordering::SeqCst));
    });
}
