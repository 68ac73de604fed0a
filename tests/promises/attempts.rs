//! F3 and F5: what one attempt may take, and how many there are.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nats_blocking::{Connection, ConnectionStatus, ErrorKind, Options, OptionsBuilder};

use crate::Tier;
use crate::alone::Alone;
use crate::support::ports;
use crate::support::scripted::{ScriptedServer, Step};
use crate::support::tls_peer::log_in;

const LIMIT: Duration = Duration::from_secs(60);
/// What one attempt may take here.
const ATTEMPT: Duration = Duration::from_millis(500);
/// By how much an attempt may be late, half of the time.
const USUAL: Duration = Duration::from_millis(100);
/// And at worst: everything runs at once on two cores.
const SLACK: Duration = Duration::from_secs(3);

/// A step of a login at which the server falls silent.
struct Silent {
    name: &'static str,
    server: ScriptedServer,
    /// Before the address.
    scheme: &'static str,
    tls_first: bool,
}

impl Silent {
    fn new(name: &'static str, mut script: Vec<Step>) -> Self {
        script.push(Step::Silence);
        let server = ScriptedServer::always(script);
        Self { name, server, scheme: "nats", tls_first: false }
    }

    fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.server.address())
    }

    fn options(&self) -> OptionsBuilder {
        let options = Options::builder().server(self.url()).connect_timeout(ATTEMPT);
        if self.tls_first { options.tls_first() } else { options }
    }
}

const INFO: &str = "INFO {\"server_id\":\"S\",\"proto\":1,\"headers\":true}\r\n";
const INFO_TLS: &str = "INFO {\"server_id\":\"S\",\"proto\":1,\"tls_required\":true}\r\n";

fn slowly(text: &str, every: u64) -> Step {
    Step::SendSlowly { bytes: text.as_bytes().to_vec(), every: Duration::from_millis(every) }
}

/// Every step of every kind of login.
fn silent_servers() -> Vec<Silent> {
    let chatter = "+OK\r\nINFO {}\r\nPING\r\n".repeat(200);
    let ping = || Step::expect("PING");
    vec![
        Silent::new("before INFO", vec![]),
        Silent::new("in the middle of INFO", vec![Step::send("INFO {\"server_id\":\"S\",")]),
        Silent::new("before the end of the line", vec![Step::send("INFO {}")]),
        Silent::new("after INFO", vec![Step::DefaultInfo]),
        Silent::new("after CONNECT", vec![Step::DefaultInfo, Step::expect("CONNECT")]),
        Silent::new("after PING", vec![Step::DefaultInfo, ping()]),
        Silent::new("in the middle of PONG", vec![Step::DefaultInfo, ping(), Step::send("PON")]),
        Silent::new("a byte now and then", vec![slowly(INFO, 200)]),
        Silent::new("chatter, no PONG", vec![Step::DefaultInfo, ping(), slowly(&chatter, 1)]),
        Silent::new("in TLS", vec![Step::send(INFO_TLS), Step::ExpectBytes(5)]),
        Silent { tls_first: true, ..Silent::new("in TLS before INFO", vec![]) },
        Silent { scheme: "ws", ..Silent::new("before the WebSocket upgrade", vec![]) },
        Silent { scheme: "ws", ..Silent::new("inside it", vec![Step::send("HTTP/1.1 101 Swi")]) },
    ]
}

/// One attempt with that server, and how late its end was.
fn meet(silent: &Silent) -> Duration {
    let begun = Instant::now();
    let error = silent.options().connect().expect_err(silent.name);
    let took = begun.elapsed();
    let [attempt] = error.attempts() else { panic!("{}: {error}", silent.name) };
    assert_eq!(attempt.cause().kind(), ErrorKind::Timeout, "{}: {error}", silent.name);
    took.checked_sub(ATTEMPT).unwrap_or_else(|| panic!("{}: early, {took:?}", silent.name))
}

/// A listener that is full: the system takes nobody else, and says nothing.
pub(crate) fn full_listener(listener: TcpListener) -> (TcpListener, Vec<TcpStream>) {
    let socket = socket2::SockRef::from(&listener);
    socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let taken: Vec<TcpStream> = std::iter::from_fn(connect).take(100).collect();
    assert!(taken.len() < 100, "the listener is never full");
    (listener, taken)
}

/// A server that falls silent at any step of a login costs the connect time-out and no more; and so
/// does each of a list of such servers.
pub(crate) fn silence(tier: Tier) -> String {
    let rounds = tier.choose(10, 100);
    let servers = silent_servers();
    let late = Mutex::new(Vec::new());
    let (full, _taken) = full_listener(ports::listen());
    let nobody = format!("nats://{}", full.local_addr().unwrap());
    thread::scope(|scope| {
        for silent in &servers {
            let late = &late;
            scope.spawn(move || {
                for _ in 0..rounds {
                    let one = meet(silent);
                    late.lock().unwrap().push(one);
                }
            });
        }
        let (late, nobody) = (&late, &nobody);
        scope.spawn(move || {
            for _ in 0..rounds {
                let begun = Instant::now();
                let options = Options::builder().server(nobody).connect_timeout(ATTEMPT);
                let error = options.connect().expect_err("nobody is taken in");
                assert_eq!(error.attempts()[0].cause().kind(), ErrorKind::Timeout, "{error}");
                late.lock().unwrap().push(begun.elapsed().saturating_sub(ATTEMPT));
            }
        });
    });
    let mut late = late.into_inner().unwrap();
    late.sort_unstable();
    let (usual, worst) = (late[late.len() / 2], late[late.len() - 1]);
    assert!(usual <= USUAL, "an attempt is usually {usual:?} late, at most {USUAL:?}");
    assert!(worst <= SLACK, "an attempt was {worst:?} late, at most {SLACK:?}");

    // All in one list, but those that need an option.
    let list: Vec<String> =
        servers.iter().filter(|silent| !silent.tls_first).map(Silent::url).collect();
    let begun = Instant::now();
    let options = Options::builder().servers(&list).connect_timeout(ATTEMPT);
    let error = options.connect().expect_err("all are silent");
    let took = begun.elapsed();
    let bound = ATTEMPT * u32::try_from(list.len()).unwrap() + SLACK;
    assert_eq!(error.attempts().len(), list.len(), "{error}");
    assert!(took <= bound, "{took:?}, at most {bound:?}");
    format!(
        "{} attempts of {} ms, silence at {} steps of a login: late by {} ms usually, at most {} \
         ms; a list of {} such servers: all tried, {} ms",
        late.len(),
        ATTEMPT.as_millis(),
        servers.len() + 1,
        usual.as_millis(),
        worst.as_millis(),
        list.len(),
        took.as_millis()
    )
}

/// A server of logins and nothing else: until it is ended it keeps those who come, then it refuses
/// each at once and notes when.
pub(crate) struct Greeter {
    address: SocketAddr,
    state: Arc<Greeting>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Greeting {
    ended: AtomicBool,
    stopped: AtomicBool,
    kept: Mutex<Vec<TcpStream>>,
    refused: Mutex<Vec<Instant>>,
}

impl Greeter {
    pub(crate) fn start() -> Self {
        Self::on(ports::listen())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        // A thousand may come at once.
        socket2::SockRef::from(&listener).listen(4_096).unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Greeting> = Arc::default();
        let inside = Arc::clone(&state);
        let accepting = thread::spawn(move || inside.accept(&listener));
        Self { address, state, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Whoever comes from now on is refused at once.
    pub(crate) fn refuse(&self) {
        self.state.ended.store(true, Ordering::SeqCst);
    }

    /// Ends all connections; those who come again are taken in, if they are not refused.
    pub(crate) fn cut(&self) {
        for stream in self.state.kept.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn refused(&self) -> Vec<Instant> {
        self.state.refused.lock().unwrap().clone()
    }

    pub(crate) fn kept(&self) -> usize {
        self.state.kept.lock().unwrap().len()
    }
}

impl Greeting {
    fn accept(&self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            if self.ended.load(Ordering::SeqCst) {
                self.refused.lock().unwrap().push(Instant::now());
            } else if let Ok(other) = stream.try_clone() {
                // Before the client can know that it is connected; one that came just before the
                // end would stay otherwise.
                self.kept.lock().unwrap().push(other);
                let greeted = greet(&stream).is_some();
                if !greeted || self.ended.load(Ordering::SeqCst) {
                    let _ = stream.shutdown(Shutdown::Both);
                    self.kept.lock().unwrap().pop();
                }
            }
        }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// INFO, and a PONG for the first PING.
fn greet(mut stream: &TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(INFO.as_bytes()).ok()?;
    log_in(&mut stream).map(drop)
}

/// A part of time in which attempts are counted.
const WINDOW: Duration = Duration::from_millis(100);
/// The part of the clients that comes in the fullest window by chance, once the first second is
/// over: with three servers, a jitter of a second and a wait of two it is 15 %, and its scatter. A
/// unit test of the pool holds a thousand clients to it in virtual time.
const SHARE: f64 = 0.25;
/// Attempts of one client in a second.
const RATE: f64 = 20.0;

/// Many clients lose their servers at once, and are refused at once from then on.
pub(crate) fn no_storm(tier: Tier) -> String {
    Alone::new("F5").descriptors(4_096).run(tier, LIMIT * 20, storm)
}

fn storm(tier: Tier) -> String {
    let (clients, length) = (300, Duration::from_secs(tier.choose(10, 60)));
    let servers: Vec<Greeter> = (0..3).map(|_| Greeter::start()).collect();
    let urls: Vec<String> = servers.iter().map(Greeter::url).collect();
    let connections: Vec<Connection> = (0..clients)
        .map(|_| Options::builder().servers(&urls).connect_timeout(LIMIT).connect().unwrap())
        .collect();
    let begun = Instant::now();
    servers.iter().for_each(Greeter::refuse);
    servers.iter().for_each(Greeter::cut);
    let stall = longest_stall(length);
    let mut attempts: Vec<Duration> = servers
        .iter()
        .flat_map(Greeter::refused)
        .filter_map(|at| at.checked_duration_since(begun))
        .collect();
    attempts.sort_unstable();
    let states: BTreeMap<String, usize> =
        connections.iter().fold(BTreeMap::new(), |mut map, one| {
            *map.entry(format!("{:?}", one.status())).or_default() += 1;
            map
        });
    let all = connections.iter().all(|one| one.status() == ConnectionStatus::Reconnecting);
    assert!(all, "all go on trying: {states:?}");
    let (peak, at) = fullest(&attempts, Duration::from_secs(1));
    let share = peak as f64 / f64::from(clients);
    // Clients that the machine held up come together.
    let allowed = SHARE * (1.0 + stall.as_secs_f64() / WINDOW.as_secs_f64());
    let rate = attempts.len() as f64 / f64::from(clients) / length.as_secs_f64();
    assert!(share <= allowed, "{peak} of {clients} clients came within {WINDOW:?}, at {at:?}");
    assert!(rate <= RATE, "{rate} attempts a second of each client");
    assert!(rate > 0.3, "{rate} attempts a second of each client: hardly any");
    let closing = Instant::now();
    connections.iter().for_each(Connection::close);
    format!(
        "{clients} clients lose three servers at once: after the first second at most {:.1} % of \
         them come within {} ms (allowed {:.0} %; the machine stood still for {} ms), {rate:.2} \
         attempts a second each; all closed in {} ms",
        share * 100.0,
        WINDOW.as_millis(),
        allowed * 100.0,
        stall.as_millis(),
        closing.elapsed().as_millis()
    )
}

/// Waits for so long, and gives the longest time by which a thread woke too late meanwhile.
fn longest_stall(length: Duration) -> Duration {
    let (begun, step) = (Instant::now(), Duration::from_millis(5));
    let mut longest = Duration::ZERO;
    while begun.elapsed() < length {
        let asleep = Instant::now();
        // Paces: the outage, in steps.
        thread::sleep(step);
        longest = longest.max(asleep.elapsed().saturating_sub(step));
    }
    longest
}

/// The most attempts in any window that begins at `from` or later, and where it begins.
fn fullest(attempts: &[Duration], from: Duration) -> (usize, Duration) {
    let first = attempts.partition_point(|at| *at < from);
    let late = &attempts[first..];
    let count = |begin: usize| {
        let end = late.partition_point(|at| *at < late[begin] + WINDOW);
        (end - begin, late[begin])
    };
    (0..late.len()).map(count).max().unwrap_or_default()
}
