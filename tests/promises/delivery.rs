//! What becomes of messages when connections are lost.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::Recorder;
use nats_blocking::{
    Connection, ConnectionStatus, Dispatcher, ErrorKind, Options, OptionsBuilder, PendingLimits,
};

use crate::Tier;
use crate::ledger::{self, Ledger};
use crate::support::faults::{Cut, Faults};
use crate::support::frames::Op;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::proxy::{Proxy, Watch, Way};
use crate::support::seed::Seed;
use crate::support::wait::poll;

const PUBLISHERS: u32 = 2;
const LIMIT: Duration = Duration::from_secs(60);
/// How far a publisher runs ahead of the receivers: the server must not take them for slow.
const WINDOW: u64 = 100_000;

fn options(url: &str) -> OptionsBuilder {
    let limits = PendingLimits::new(10_000_000, 1 << 30);
    Options::builder()
        .server(url)
        .pending_limits(limits)
        .reconnect_wait(Duration::from_millis(5))
        .reconnect_jitter(Duration::from_millis(5))
        .ignore_authorization_abort()
}

fn connect(url: &str, recorder: &Recorder) -> Connection {
    let options =
        options(url).connection_listener(recorder.clone()).error_listener(recorder.clone());
    options.connect().unwrap()
}

/// How often the connection has been lost. Counted before the next one is made: whoever hears of
/// success on a new connection has it counted.
fn losses(connection: &Connection) -> u64 {
    connection.statistics().disconnects()
}

/// A connection that takes down everything in a ledger.
struct Receiver {
    connection: Connection,
    ledger: Arc<Mutex<Ledger>>,
    recorder: Recorder,
    _dispatcher: Dispatcher,
}

impl Receiver {
    fn new(url: &str) -> Self {
        let recorder = Recorder::new();
        let connection = connect(url, &recorder);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let inside = Arc::clone(&ledger);
        let dispatcher = connection
            .dispatcher(move |_, message| inside.lock().unwrap().take(message.payload()))
            .unwrap();
        dispatcher.subscribe("ledger.*").unwrap();
        connection.flush().unwrap();
        Self { connection, ledger, recorder, _dispatcher: dispatcher }
    }

    fn next(&self, publisher: u32) -> u64 {
        self.ledger.lock().unwrap().next(publisher)
    }
}

/// What one publisher did.
#[derive(Debug, Default)]
struct Sent {
    accepted: u64,
    refused: u64,
    /// Runs of numbers that a flush answered for, with no loss since before their first.
    answered: Vec<Range<u64>>,
    losses: u64,
}

struct Publisher {
    id: u32,
    connection: Connection,
    total: u64,
    stop: Arc<AtomicBool>,
    /// How far the slowest receiver is.
    seen: Arc<dyn Fn(u32) -> u64 + Send + Sync>,
    seed: Seed,
    recorder: Recorder,
}

impl Publisher {
    /// Publishes until it is told to stop and has sent its total, then flushes.
    fn run(mut self) -> Sent {
        let connection = self.connection.clone();
        let subject = format!("ledger.{}", self.id);
        let mut sent = Sent::default();
        let mut payload = Vec::new();
        // What has been accepted when the connection was last seen to be new.
        let (mut session, mut since) = (0, 0);
        while !self.stop.load(Ordering::SeqCst) || sent.accepted < self.total {
            for _ in 0..self.seed.within(1..3_000) {
                ledger::write(&mut payload, self.id, sent.accepted, self.seed.below(100) as usize);
                match connection.publish(&subject, &payload) {
                    Ok(()) => sent.accepted += 1,
                    Err(error) => {
                        let full = matches!(
                            error.kind(),
                            ErrorKind::OutboxFull | ErrorKind::ReconnectBufferFull
                        );
                        assert!(full, "publish: {error}");
                        sent.refused += 1;
                        let _ = connection.wait_for_status(ConnectionStatus::Connected, LIMIT);
                    }
                }
            }
            let lost = losses(&connection);
            if lost != session {
                (session, since) = (lost, sent.accepted);
            }
            let flushed = self.seed.chance(1, 10) && connection.flush_timeout(LIMIT).is_ok();
            if flushed && losses(&connection) == session && since < sent.accepted {
                sent.answered.push(since..sent.accepted);
            }
            self.keep_within_window(sent.accepted);
        }
        // The receivers are connected again, and nothing is faulty: this one must arrive, once the
        // link is known not to be one that was cut a moment ago.
        poll(LIMIT, || connection.flush_timeout(LIMIT).ok()).expect("a link");
        ledger::write(&mut payload, self.id, sent.accepted, 0);
        connection.publish(&subject, &payload).unwrap();
        sent.accepted += 1;
        connection.flush_timeout(LIMIT).unwrap();
        connection.close();
        self.recorder.check().unwrap();
        sent.losses = losses(&connection);
        sent
    }

    fn keep_within_window(&self, accepted: u64) {
        // What was lost does not come; so this does not wait for ever.
        let deadline = Instant::now() + Duration::from_millis(200);
        while accepted.saturating_sub((self.seen)(self.id)) > WINDOW && Instant::now() < deadline {
            // Paces: a publisher that would fill the server's memory.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Everything of one run: publishers, receivers, and what is checked in the end.
struct Run {
    threads: Vec<thread::JoinHandle<Sent>>,
    connections: Vec<Connection>,
    stop: Arc<AtomicBool>,
    receivers: Vec<(&'static str, Arc<Receiver>)>,
}

impl Run {
    fn start(
        urls: [String; PUBLISHERS as usize],
        receivers: Vec<(&'static str, Receiver)>,
        total: u64,
        seed: u64,
    ) -> Self {
        let receivers: Vec<_> =
            receivers.into_iter().map(|(name, receiver)| (name, Arc::new(receiver))).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut connections) = (Vec::new(), Vec::new());
        for (id, url) in (0..).zip(urls) {
            let all: Vec<_> = receivers.iter().map(|(_, receiver)| Arc::clone(receiver)).collect();
            let recorder = Recorder::new();
            let connection = connect(&url, &recorder);
            connections.push(connection.clone());
            let publisher = Publisher {
                id,
                connection,
                total,
                stop: Arc::clone(&stop),
                seen: Arc::new(move |id| all.iter().map(|one| one.next(id)).min().unwrap_or(0)),
                seed: Seed::new(seed.wrapping_mul(31).wrapping_add(u64::from(id))),
                recorder,
            };
            threads.push(thread::spawn(move || publisher.run()));
        }
        connections.extend(receivers.iter().map(|(_, receiver)| receiver.connection.clone()));
        Self { threads, connections, stop, receivers }
    }

    /// How often any of the connections has been lost.
    fn losses(&self) -> u64 {
        self.connections.iter().map(losses).sum()
    }

    /// Waits for the publishers and until every receiver has the last message of each. What one
    /// publishes last is flushed on a calm connection, and nothing is faulty any more.
    fn finish(self) -> (Vec<Sent>, Vec<(&'static str, Arc<Receiver>)>) {
        for (name, receiver) in &self.receivers {
            let back = poll(LIMIT, || receiver.connection.flush_timeout(LIMIT).ok());
            assert!(back.is_some(), "{name} is not back");
        }
        self.stop.store(true, Ordering::SeqCst);
        let sent: Vec<Sent> =
            self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (name, receiver) in &self.receivers {
            for (id, sent) in (0..).zip(&sent) {
                let there = poll(LIMIT, || (receiver.next(id) >= sent.accepted).then_some(()));
                assert!(there.is_some(), "{name} lacks the last messages of {id}");
                assert_eq!(receiver.next(id), sent.accepted, "{name}: more than was accepted");
            }
            receiver.recorder.check().unwrap();
        }
        (sent, self.receivers)
    }
}

fn overlap(run: &Range<u64>, other: &Range<u64>) -> bool {
    run.start < other.end && other.start < run.end
}

/// What is not there went with a loss, at most one run for each.
fn check_runs(name: &str, receiver: &Receiver, sent: &[Sent]) -> (u64, u64) {
    let own = losses(&receiver.connection);
    let ledger = receiver.ledger.lock().unwrap();
    ledger.check_whole(name);
    let (mut runs, mut missing) = (0, 0);
    for (id, sent) in (0..).zip(sent) {
        let column = &ledger.columns[&id];
        let most = sent.losses + own;
        let found = column.missing.len() as u64;
        assert!(found <= most, "{name}: {found} runs of {id} are missing, {most} losses");
        assert_eq!(column.received + column.missing_count(), sent.accepted, "{name}: unaccounted");
        runs += found;
        missing += column.missing_count();
    }
    (runs, missing)
}

/// One fault of a link, from its beginning to its end.
fn disturb(proxy: &Proxy, seed: &mut Seed) {
    let bytes = seed.within(1..20_000);
    let how = *seed.pick(&[Cut::Close, Cut::Reset]);
    let way = *seed.pick(&[Way::ToServer, Way::ToClient]);
    let pause = Duration::from_millis(seed.within(1..8));
    match seed.below(8) {
        0 | 1 => drop(proxy.cut(how)),
        2 => {
            // The next links die too, some in their handshake.
            proxy.set(way, Faults::cut_after(bytes, how));
            proxy.cut(how);
            // Paces: the time in which links die.
            thread::sleep(pause);
        }
        3 => {
            proxy.set(way, Faults::cut_after(0, how));
            // Paces: the time in which nothing gets through.
            thread::sleep(pause);
        }
        4 => proxy.half_close(way),
        5 => {
            proxy.refuse(true);
            proxy.cut(how);
            // Paces: the time in which connections are refused.
            thread::sleep(pause);
        }
        6 => {
            proxy.set(way, Faults::swallowed());
            // Paces: the time in which bytes vanish; the link that lost some must not go on.
            thread::sleep(pause);
        }
        _ => {
            let slice = seed.within(1..40) as usize;
            proxy.set(way, Faults { slice: Some(slice), ..Faults::default() });
            // Paces: the time in which bytes dribble.
            thread::sleep(pause);
        }
    }
    proxy.cut(how);
    proxy.calm();
}

/// What the publishers send, in the order in which it goes on to the server.
#[derive(Default)]
struct Wire {
    ledger: Ledger,
    /// The newest link of each publisher: each has a proxy of its own, which numbers them.
    newest: BTreeMap<u32, u64>,
    /// Messages of a link that went on behind those of a newer one. That is the proxy's fault: the
    /// client had ended the link before it began the other.
    behind: u64,
}

impl Wire {
    fn take(&mut self, link: u64, payload: &[u8]) {
        if let Some((publisher, _)) = ledger::read(payload) {
            let newest = self.newest.entry(publisher).or_default();
            *newest = link.max(*newest);
            self.behind += u64::from(*newest > link);
        }
        self.ledger.take(payload);
    }

    fn check(&self) {
        assert_eq!(self.behind, 0, "a proxy that let two links of a client go on at once");
        self.ledger.check_whole("on the wire");
    }
}

/// Takes down what the publishers send.
fn watch(wire: &Arc<Mutex<Wire>>) -> Watch {
    let wire = Arc::clone(wire);
    Arc::new(move |link, way, frame| {
        if way == Way::ToServer && frame.op == Op::Pub {
            wire.lock().unwrap().take(link, frame.payload());
        }
    })
}

/// Links are cut in eight ways; one receiver has a link of its own that nobody cuts.
pub(crate) fn cut_links(tier: Tier) -> String {
    ledger::self_test();
    let seed = Seed::from_env_or(Seed::from_clock().number());
    let (number, mut seed) = (seed.number(), seed);
    println!("E1a: SEED={number}");
    let server = NatsServer::start_plain();
    let target = server.client_address();
    let wire = Arc::new(Mutex::new(Wire::default()));
    let proxies: Vec<Proxy> =
        (0..3).map(|at| Proxy::start_watched(target, number ^ at, Some(watch(&wire)))).collect();
    let receivers = vec![
        ("beside the faults", Receiver::new(&server.url())),
        ("behind the faults", Receiver::new(&proxies[2].url())),
    ];
    let (least, total) = tier.choose((1_000, 4_000_000), (10_000, 20_000_000));
    let urls = [proxies[0].url(), proxies[1].url()];
    let run = Run::start(urls, receivers, total, number);
    let begun = Instant::now();
    let mut faults = 0;
    let most = tier.choose(Duration::from_secs(240), Duration::from_secs(1_500));
    // Not every fault is a loss: some meet a link that has not begun.
    let enough = || {
        let beside = &run.receivers[0].1;
        run.losses() >= least && (0..PUBLISHERS).all(|id| beside.next(id) >= total)
    };
    while !enough() {
        disturb(seed.pick(&proxies), &mut seed);
        faults += 1;
        // Paces: the time between faults, in which connections come back and messages flow.
        thread::sleep(Duration::from_millis(seed.within(1..20)));
        assert!(begun.elapsed() < most, "not done in time: {faults} faults");
    }
    proxies.iter().for_each(Proxy::calm);
    let (sent, receivers) = run.finish();
    wire.lock().unwrap().check();
    let mixed: u64 = proxies.iter().map(Proxy::mixed).sum();
    assert_eq!(mixed, 0, "a server too slow for this proof, which may have mixed two links");
    let (name, beside) = &receivers[0];
    assert_eq!(losses(&beside.connection), 0, "{name}: nobody cut this one");
    let (runs, missing) = check_runs(name, beside, &sent);
    let (behind_runs, _) = check_runs(receivers[1].0, &receivers[1].1, &sent);
    for (id, sent) in (0..).zip(&sent) {
        for run in &beside.ledger.lock().unwrap().columns[&id].missing {
            let answered = sent.answered.iter().find(|answered| overlap(answered, run));
            assert_eq!(answered, None, "{id}: a flush answered for {run:?}");
        }
    }
    for proxy in &proxies {
        assert_eq!(proxy.broken(Way::ToServer), Vec::<String>::new(), "half a frame went out");
    }
    let lost: u64 = sent.iter().map(|sent| sent.losses).sum();
    let all_losses = lost + losses(&receivers[1].1.connection);
    assert!(all_losses >= least, "only {all_losses} losses");
    let messages: u64 =
        receivers.iter().map(|(_, one)| one.ledger.lock().unwrap().received()).sum();
    let flushes: usize = sent.iter().map(|sent| sent.answered.len()).sum();
    format!(
        "{all_losses} disconnects, {messages} messages received, doubled 0, reordered 0, corrupted \
         0, unaccounted 0; {missing} lost in {runs} runs on the way out ({behind_runs} runs behind \
         the faults), {flushes} flushes kept; seed {number}"
    )
}

/// The server itself is killed, and comes back on its port.
pub(crate) fn killed_servers(tier: Tier) -> String {
    let seed = Seed::from_env_or(Seed::from_clock().number());
    let (number, mut seed) = (seed.number(), seed);
    println!("E1b: SEED={number}");
    let mut server = NatsServer::start(&Config::new());
    let receivers =
        vec![("one", Receiver::new(&server.url())), ("other", Receiver::new(&server.url()))];
    let urls = [server.url(), server.url()];
    let run = Run::start(urls, receivers, 100_000, number);
    let kills = tier.choose(40, 400);
    for _ in 0..kills {
        // Paces: the time in which messages flow.
        thread::sleep(Duration::from_millis(seed.within(20..120)));
        server.kill();
        server.restart();
        for (name, receiver) in &run.receivers {
            let back = receiver.connection.wait_for_status(ConnectionStatus::Connected, LIMIT);
            assert!(back.is_ok(), "{name}: not back");
        }
    }
    let (sent, receivers) = run.finish();
    let (mut messages, mut runs) = (0, 0);
    for (name, receiver) in &receivers {
        runs += check_runs(name, receiver, &sent).0;
        messages += receiver.ledger.lock().unwrap().received();
    }
    format!(
        "{kills} kills, {messages} messages received, doubled 0, reordered 0, corrupted 0; {runs} \
         runs lost; seed {number}"
    )
}
