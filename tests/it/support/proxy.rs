//! A proxy between a client and a server that can be told to misbehave while it runs.
//!
//! Two threads for each link, one a direction. Each reads, does what the [`Faults`] of its
//! direction say, writes, and only then counts what it wrote and cuts it into frames: what a report
//! names has left the proxy. A stream that is no NATS (TLS) is passed on all the same; its frames
//! are broken.
//!
//! However a link ends for its client, the server reads everything that has gone on to it and the
//! end behind it, and a new link begins only after the server has ended the old ones. Otherwise the
//! server would still work on an old connection beside the new one, and mix what is in order.
//!
//! Threads look at the faults before each piece and at least every [`TICK`], so that a change holds
//! soon, also for a thread that waits.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::faults::{Cut, Faults};
use super::frames::{Frame, Frames, Op, Writer};
use super::ports;
use super::seed::Seed;
use super::wait::poll;

/// What a server may take to end a connection whose end it has been told: it works off what it was
/// sent before, and makes a publisher wait that is faster than its receivers.
const SETTLES: Duration = Duration::from_secs(20);
/// How soon a thread sees a change of the faults.
const TICK: Duration = Duration::from_millis(5);
const PIECE: usize = 64 * 1024;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// Called for every frame that has been passed on whole.
pub(crate) type Watch = Arc<dyn Fn(u64, Way, &Frame<'_>) + Send + Sync>;

/// What went one way over one link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passed {
    pub(crate) bytes: u64,
    pub(crate) frames: BTreeMap<Op, u64>,
    /// What was no frame.
    pub(crate) broken: Option<String>,
    /// Bytes of a frame that is not whole.
    pub(crate) partial: usize,
}

impl Passed {
    pub(crate) fn count(&self, op: Op) -> u64 {
        self.frames.get(&op).copied().unwrap_or(0)
    }
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const RESET: u8 = 2;

/// One client connection and its connection to the server.
struct Link {
    number: u64,
    /// Held by the threads alone: a reset goes out when the socket closes.
    client: Weak<TcpStream>,
    server: TcpStream,
    state: AtomicU8,
    /// The client has said all, or will leave: it is told that nothing more comes.
    left: AtomicBool,
    passed: Arc<[Mutex<Passed>; 2]>,
}

impl Link {
    fn end(&self, how: Cut) {
        let state = if how == Cut::Reset { RESET } else { CLOSED };
        if self.state.swap(state, Ordering::SeqCst) != OPEN {
            return;
        }
        if let Some(client) = self.client.upgrade() {
            if how == Cut::Reset {
                // Zero lingering makes the close a reset. A shutdown for writing would send an end
                // before it.
                let _ = SockRef::from(&*client).set_linger(Some(Duration::ZERO));
                let _ = client.shutdown(Shutdown::Read);
            } else {
                let _ = client.shutdown(Shutdown::Both);
            }
        }
        let _ = self.server.shutdown(Shutdown::Write);
    }

    fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }
}

struct Shared {
    target: Mutex<SocketAddr>,
    faults: [Mutex<Faults>; 2],
    /// Not held: the sockets close with the threads that use them.
    links: Mutex<Vec<Weak<Link>>>,
    passed: Mutex<Vec<Arc<[Mutex<Passed>; 2]>>>,
    refuse: AtomicBool,
    ended: AtomicBool,
    accepted: AtomicU64,
    mixed: AtomicU64,
    watch: Option<Watch>,
    seed: Mutex<Seed>,
}

impl Shared {
    /// No link that has ended is still with the server.
    fn is_settled(&self) -> bool {
        let stays = |link: Arc<Link>| link.is_open() && !link.left.load(Ordering::SeqCst);
        lock(&self.links).iter().filter_map(Weak::upgrade).all(stays)
    }
}

/// See the head of the file.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// In front of that server. The seed decides the jitter.
    pub(crate) fn start(target: SocketAddr, seed: u64) -> Self {
        Self::start_watched(target, seed, None)
    }

    pub(crate) fn start_watched(target: SocketAddr, seed: u64, watch: Option<Watch>) -> Self {
        let listener = ports::listen();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            faults: Default::default(),
            links: Mutex::new(Vec::new()),
            passed: Mutex::new(Vec::new()),
            refuse: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            mixed: AtomicU64::new(0),
            watch,
            seed: Mutex::new(Seed::new(seed)),
        });
        let inside = Arc::clone(&shared);
        let accepting = thread::Builder::new()
            .name("p-accept".to_owned())
            .spawn(move || accept(&listener, &inside))
            .expect("a thread for the proxy");
        Self { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// New links go to another server.
    pub(crate) fn set_target(&self, target: SocketAddr) {
        *lock(&self.shared.target) = target;
    }

    /// Replaces the faults of one direction.
    pub(crate) fn set(&self, way: Way, faults: Faults) {
        *lock(&self.shared.faults[way as usize]) = faults;
    }

    pub(crate) fn set_both(&self, faults: &Faults) {
        self.set(Way::ToServer, faults.clone());
        self.set(Way::ToClient, faults.clone());
    }

    /// No faults any more; what was held goes on.
    pub(crate) fn calm(&self) {
        self.set_both(&Faults::default());
        self.refuse(false);
    }

    /// New connections are accepted and reset at once.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Ends all links. Returns how many there were.
    pub(crate) fn cut(&self, how: Cut) -> usize {
        self.links().iter().map(|link| link.end(how)).count()
    }

    /// Ends one direction of all links: its reader gets the end of the stream, the other direction
    /// goes on.
    pub(crate) fn half_close(&self, way: Way) {
        for link in self.links() {
            if way == Way::ToServer {
                let _ = link.server.shutdown(Shutdown::Write);
                continue;
            }
            // The client may be back before what it said on this link has gone on.
            link.left.store(true, Ordering::SeqCst);
            if let Some(client) = link.client.upgrade() {
                let _ = client.shutdown(Shutdown::Write);
            }
        }
        self.set(way, Faults::swallowed());
    }

    /// The links that are open.
    fn links(&self) -> Vec<Arc<Link>> {
        let links: Vec<_> = lock(&self.shared.links).iter().filter_map(Weak::upgrade).collect();
        links.into_iter().filter(|link| link.is_open()).collect()
    }

    /// How many connections have been accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many links began although the server had not ended an old one in time: from then on
    /// nothing can be said of the order of what it passes on.
    pub(crate) fn mixed(&self) -> u64 {
        self.shared.mixed.load(Ordering::SeqCst)
    }

    pub(crate) fn open_links(&self) -> usize {
        self.links().len()
    }

    /// What went one way, link by link.
    pub(crate) fn passed(&self, way: Way) -> Vec<Passed> {
        let passed: Vec<_> = lock(&self.shared.passed).clone();
        passed.iter().map(|link| lock(&link[way as usize]).clone()).collect()
    }

    /// Frames of one kind that went one way, over all links.
    pub(crate) fn count(&self, way: Way, op: Op) -> u64 {
        self.passed(way).iter().map(|passed| passed.count(op)).sum()
    }

    /// Every stream that was no NATS, as lines for a report.
    pub(crate) fn broken(&self, way: Way) -> Vec<String> {
        self.passed(way).into_iter().filter_map(|passed| passed.broken).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.calm();
        // The accepting thread waits for a connection: this is its last.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.address.port())));
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        self.cut(Cut::Close);
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy on {}, {} links", self.address, self.open_links())
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept() else { continue };
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        if shared.refuse.load(Ordering::SeqCst) {
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
            continue;
        }
        // Paced by `poll`; the pumps of an ended link have a limit of their own.
        let settled = poll(SETTLES * 2, || shared.is_settled().then_some(()));
        if settled.is_none() {
            shared.mixed.fetch_add(1, Ordering::SeqCst);
        }
        let target = *lock(&shared.target);
        let Ok(server) = TcpStream::connect_timeout(&target, Duration::from_secs(5)) else {
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
            continue;
        };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(TICK));
            let _ = stream.set_write_timeout(Some(TICK));
        }
        let passed: Arc<[Mutex<Passed>; 2]> = Arc::default();
        lock(&shared.passed).push(Arc::clone(&passed));
        let client = Arc::new(client);
        let state = AtomicU8::new(OPEN);
        let weak = Arc::downgrade(&client);
        let link = Arc::new(Link {
            number,
            client: weak,
            server,
            state,
            left: AtomicBool::new(false),
            passed,
        });
        let mut links = lock(&shared.links);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        drop(links);
        for way in [Way::ToServer, Way::ToClient] {
            let (link, shared) = (Arc::clone(&link), Arc::clone(shared));
            let client = Arc::clone(&client);
            thread::Builder::new()
                .name(format!("p-{number}-{way:?}"))
                .spawn(move || Pump::new(&link, &shared, client, way).run())
                .expect("a thread for the proxy");
        }
    }
}

/// One direction of one link.
struct Pump<'a> {
    link: &'a Link,
    shared: &'a Shared,
    client: Arc<TcpStream>,
    way: Way,
    frames: Frames,
    /// Bytes that have gone on.
    gone: u64,
    /// The first line, until it is whole.
    first_line: Option<Vec<u8>>,
}

/// Why a pump ends.
enum Ended {
    /// The writer has said all: its reader is told.
    Stream,
    Link(Cut),
}

impl<'a> Pump<'a> {
    fn new(link: &'a Link, shared: &'a Shared, client: Arc<TcpStream>, way: Way) -> Self {
        let writer = if way == Way::ToServer { Writer::Client } else { Writer::Server };
        let frames = Frames::new(writer);
        Self { link, shared, client, way, frames, gone: 0, first_line: Some(Vec::new()) }
    }

    fn run(mut self) {
        let mut piece = vec![0; PIECE];
        match self.pump(&mut piece) {
            // A link that ends by a reset must not send an end before it.
            Ended::Stream if self.link.is_open() => {
                self.link.left.store(true, Ordering::SeqCst);
                let _ = self.to().shutdown(Shutdown::Write);
            }
            Ended::Stream => {}
            Ended::Link(how) => self.link.end(how),
        }
        lock(&self.link.passed[self.way as usize]).partial = self.frames.partial();
        let Self { link, shared, way, client, .. } = self;
        drop(client);
        if way == Way::ToClient && !drain(&link.server) {
            shared.mixed.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn from(&self) -> &TcpStream {
        if self.way == Way::ToServer { &self.client } else { &self.link.server }
    }

    fn to(&self) -> &TcpStream {
        if self.way == Way::ToServer { &self.link.server } else { &self.client }
    }

    fn faults(&self) -> Faults {
        lock(&self.shared.faults[self.way as usize]).clone()
    }

    fn pump(&mut self, piece: &mut [u8]) -> Ended {
        loop {
            if !self.link.is_open() {
                return Ended::Link(Cut::Close);
            }
            if self.faults().stopped {
                // Paces: the looks at faults that another thread changes; the link has an end.
                thread::sleep(TICK);
                continue;
            }
            let count = match self.from().read(piece) {
                Ok(0) => return Ended::Stream,
                Ok(count) => count,
                Err(error) if is_wait(&error) => continue,
                Err(_) => return Ended::Link(Cut::Reset),
            };
            if let Err(ended) = self.pass(&mut piece[..count]) {
                return ended;
            }
        }
    }

    /// Passes on what was read, as the faults say.
    fn pass(&mut self, bytes: &mut [u8]) -> Result<(), Ended> {
        let faults = self.faults();
        self.wait(&faults, bytes.len());
        while self.faults().held {
            if !self.link.is_open() {
                return Err(Ended::Link(Cut::Close));
            }
            // Paces: the looks at faults that another thread changes; the link has an end.
            thread::sleep(TICK);
        }
        if self.faults().swallowed {
            return Ok(());
        }
        let mut edited = self.edit(&faults, bytes);
        let bytes = edited.as_deref_mut().unwrap_or(bytes);
        if let Some(at) = faults.flip_at {
            let inside = at.checked_sub(self.gone).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = inside.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 0x10;
            }
        }
        for part in bytes.chunks(faults.slice.unwrap_or(PIECE).max(1)) {
            self.write(part, &faults)?;
        }
        Ok(())
    }

    /// Delay, jitter and the rate, before the piece goes on.
    fn wait(&self, faults: &Faults, length: usize) {
        let mut wait = faults.delay;
        if !faults.jitter.is_zero() {
            let most = u64::try_from(faults.jitter.as_micros()).unwrap_or(u64::MAX).max(1);
            wait += Duration::from_micros(lock(&self.shared.seed).below(most));
        }
        if let Some(rate) = faults.bytes_per_second {
            wait += Duration::from_secs_f64(length as f64 / rate as f64);
        }
        let deadline = Instant::now() + wait;
        while self.link.is_open() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // Paces: the slow link that this plays.
            thread::sleep(left.min(TICK * 4));
        }
    }

    /// With an edit: what goes on instead, once the first line is whole.
    fn edit(&mut self, faults: &Faults, bytes: &[u8]) -> Option<Vec<u8>> {
        let Some(edit) = faults.edit_first_line else {
            self.first_line = None;
            return None;
        };
        let line = self.first_line.as_mut()?;
        line.extend_from_slice(bytes);
        let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
            return Some(Vec::new());
        };
        let mut edited = edit(&String::from_utf8_lossy(&line[..=end])).into_bytes();
        edited.extend_from_slice(&line[end + 1..]);
        self.first_line = None;
        Some(edited)
    }

    fn write(&mut self, mut bytes: &[u8], faults: &Faults) -> Result<(), Ended> {
        while !bytes.is_empty() {
            if !self.link.is_open() {
                return Err(Ended::Link(Cut::Close));
            }
            let mut most = bytes.len();
            if let Some((limit, how)) = faults.cut_after {
                let left = usize::try_from(limit.saturating_sub(self.gone)).unwrap_or(usize::MAX);
                if left == 0 {
                    return Err(Ended::Link(how));
                }
                most = most.min(left);
            }
            match self.to().write(&bytes[..most]) {
                Ok(count) => {
                    self.count(&bytes[..count]);
                    bytes = &bytes[count..];
                }
                Err(error) if is_wait(&error) => {}
                Err(_) => return Err(Ended::Link(Cut::Reset)),
            }
        }
        match faults.cut_after {
            Some((limit, how)) if self.gone >= limit => Err(Ended::Link(how)),
            _ => Ok(()),
        }
    }

    /// Counts bytes that have gone on, and the frames that are whole with them.
    fn count(&mut self, bytes: &[u8]) {
        self.gone += bytes.len() as u64;
        let (number, way) = (self.link.number, self.way);
        let mut passed = lock(&self.link.passed[way as usize]);
        passed.bytes += bytes.len() as u64;
        let watch = self.shared.watch.as_ref();
        self.frames.push(bytes, &mut |frame| {
            *passed.frames.entry(frame.op).or_default() += 1;
            if let Some(watch) = watch {
                watch(number, way, frame);
            }
        });
        if passed.broken.is_none() {
            passed.broken = self.frames.broken().map(str::to_owned);
        }
    }
}

/// Reads what a server still says, until it ends the connection; false if it does not in time.
fn drain(mut server: &TcpStream) -> bool {
    let deadline = Instant::now() + SETTLES;
    let mut piece = vec![0; PIECE];
    while Instant::now() < deadline {
        match server.read(&mut piece) {
            Ok(0) => return true,
            Err(error) if !is_wait(&error) => return true,
            _ => {}
        }
    }
    false
}

fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A proxy in front of a listener, and one connection through it.
    struct Line {
        proxy: Proxy,
        client: TcpStream,
        server: TcpStream,
    }

    fn line(faults: Faults, way: Way) -> Line {
        let listener = ports::listen();
        let proxy = Proxy::start(listener.local_addr().unwrap(), 1);
        proxy.set(way, faults);
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
        }
        Line { proxy, client, server }
    }

    fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// What can be read until the end, and how it ended.
    fn rest(stream: &mut TcpStream) -> (Vec<u8>, io::Result<usize>) {
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes);
        (bytes, ended)
    }

    fn assert_reset(stream: &mut TcpStream) {
        let error = stream.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    fn no_bytes_for(stream: &mut TcpStream, time: Duration) {
        stream.set_read_timeout(Some(time)).unwrap();
        let error = stream.read(&mut [0]).expect_err("nothing may come");
        assert!(is_wait(&error), "{error}");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }

    #[test]
    fn both_ways_pass_and_are_counted() {
        let mut line = line(Faults::default(), Way::ToServer);
        line.client.write_all(b"PUB a 2\r\nhi\r\nPI").unwrap();
        assert_eq!(read(&mut line.server, 15), b"PUB a 2\r\nhi\r\nPI");
        line.server.write_all(b"MSG a 1 2\r\nhi\r\n").unwrap();
        assert_eq!(read(&mut line.client, 15), b"MSG a 1 2\r\nhi\r\n");
        let whole = |way, op| poll(LIMIT, || (line.proxy.count(way, op) == 1).then_some(()));
        assert!(whole(Way::ToServer, Op::Pub).is_some() && whole(Way::ToClient, Op::Msg).is_some());
        line.client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut line.server).0, b"", "the end passes too");
        line.server.write_all(b"PING\r\n").unwrap();
        assert_eq!(read(&mut line.client, 6), b"PING\r\n", "the other way goes on");
    }

    #[test]
    fn a_link_is_cut_after_exactly_so_many_bytes() {
        let mut closed = line(Faults::cut_after(5, Cut::Close), Way::ToServer);
        closed.client.write_all(b"0123456789").unwrap();
        let (bytes, ended) = rest(&mut closed.server);
        assert_eq!(bytes, b"01234");
        assert!(ended.is_ok());
        let mut reset = line(Faults::cut_after(5, Cut::Reset), Way::ToClient);
        reset.server.write_all(b"0123456789").unwrap();
        assert_eq!(read(&mut reset.client, 5), b"01234");
        assert_reset(&mut reset.client);
    }

    #[test]
    fn what_is_held_goes_on_when_released_and_what_is_swallowed_does_not() {
        let mut line = line(Faults { held: true, ..Faults::default() }, Way::ToServer);
        line.client.write_all(b"held").unwrap();
        no_bytes_for(&mut line.server, Duration::from_millis(50));
        line.proxy.calm();
        assert_eq!(read(&mut line.server, 4), b"held");
        line.proxy.set(Way::ToServer, Faults::swallowed());
        line.client.write_all(b"swallowed").unwrap();
        no_bytes_for(&mut line.server, Duration::from_millis(50));
        line.proxy.calm();
        line.client.write_all(b"x").unwrap();
        assert_eq!(read(&mut line.server, 1), b"x");
    }

    #[test]
    fn a_stopped_direction_pushes_back() {
        let mut line = line(Faults::stopped(), Way::ToServer);
        line.client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let chunk = vec![0; 1 << 20];
        let blocked = (0..200).find_map(|_| line.client.write_all(&chunk).err());
        assert!(is_wait(&blocked.expect("the socket is full some time")));
        line.proxy.calm();
        assert_eq!(read(&mut line.server, 1 << 20).len(), 1 << 20);
    }

    #[test]
    fn a_bit_turns_a_line_is_edited_and_slices_arrive_whole() {
        let mut flipped = line(Faults { flip_at: Some(2), ..Faults::default() }, Way::ToServer);
        flipped.client.write_all(b"aaaa").unwrap();
        assert_eq!(read(&mut flipped.server, 4), b"aaqa");
        let edit: fn(&str) -> String = |line| line.replace("true", "false");
        let faults = Faults { edit_first_line: Some(edit), slice: Some(3), ..Faults::default() };
        let mut edited = line(faults, Way::ToClient);
        edited.server.write_all(b"INFO {\"tls_required\":tr").unwrap();
        edited.server.write_all(b"ue}\r\nMSG true 1 0\r\n\r\n").unwrap();
        let expected = b"INFO {\"tls_required\":false}\r\nMSG true 1 0\r\n\r\n";
        assert_eq!(read(&mut edited.client, expected.len()), expected);
    }

    #[test]
    fn refused_and_half_closed_links_say_so() {
        let mut line = line(Faults::default(), Way::ToClient);
        line.proxy.refuse(true);
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, line.proxy.port())).unwrap();
        refused.set_read_timeout(Some(LIMIT)).unwrap();
        assert_reset(&mut refused);
        line.proxy.half_close(Way::ToServer);
        assert_eq!(rest(&mut line.server).0, b"");
        line.server.write_all(b"still").unwrap();
        assert_eq!(read(&mut line.client, 5), b"still");
        assert_eq!(line.proxy.cut(Cut::Reset), 1);
        assert_reset(&mut line.client);
    }
}
