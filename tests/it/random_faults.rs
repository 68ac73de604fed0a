//! Random faults: whatever a server does and a program calls, in any order, the events of a
//! connection keep to their grammar, `Closed` comes exactly once and last, and nothing stays
//! behind. The promises program runs them too, more of them.
//!
//! Each seed is a server, a connection and at least twenty faults drawn from [`FAULTS`]. A run
//! takes 200 seeds that nobody has seen before; one that fails is printed, and `SEED=n` runs it
//! alone.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionStatus, Dispatcher, Events,
    ListenerId, Notice, Options, OptionsBuilder, RetryConnect, SelectedServer, Statistics,
    Subscription,
};

use crate::embedded::{LONG, name, names};
use crate::support::leaks::Snapshot;
use crate::support::seed::Seed;
use crate::support::wait::poll;
use crate::support::watchdog::within;

/// Seeds that run at the same time; most of their time is waiting.
const AT_ONCE: usize = 8;
/// For one seed, well above all deadlines in it.
const MUST_END: Duration = Duration::from_secs(120);
/// What the program waits for something that may not come.
const MOMENT: Duration = Duration::from_millis(10);

/// One connection under faults, and all that the program holds of it.
struct Stage {
    seed: Seed,
    server: Server,
    others: Vec<Server>,
    connection: Connection,
    recorder: Recorder,
    /// The beginning of the names of the connection's threads.
    threads: String,
    events: Events,
    subscriptions: Vec<(String, Subscription)>,
    dispatchers: Vec<Dispatcher>,
    listeners: Vec<(ListenerId, Recorder)>,
    /// A second refusal may end the connection.
    mortal: bool,
    drawn: Arc<Mutex<Vec<&'static str>>>,
}

type Fault = (&'static str, fn(&mut Stage));

const FAULTS: &[Fault] = &[
    ("drop clients", |stage| stage.server.drop_clients()),
    ("drop clients twice", |stage| {
        stage.server.drop_clients();
        stage.server.drop_clients();
    }),
    ("restart", |stage| stage.server.restart().unwrap()),
    ("stop and restart", |stage| {
        stage.server.stop();
        let _ = stage.connection.wait_for_status(ConnectionStatus::Reconnecting, MOMENT);
        stage.server.restart().unwrap();
    }),
    ("refuse connections", |stage| stage.server.refuse_connections(true).unwrap()),
    ("accept connections", |stage| stage.server.refuse_connections(false).unwrap()),
    ("error", |stage| stage.server.send_error(stage.seed.pick::<&str>(TEXTS))),
    ("error and close", |stage| stage.server.send_error_and_close(stage.seed.pick::<&str>(TEXTS))),
    ("announce servers", |stage| {
        let all = [&stage.server, &stage.others[0], &stage.others[1]];
        let urls: Vec<String> =
            all.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        let some: Vec<&str> = urls.iter().map(String::as_str).collect();
        let count = stage.seed.below(4) as usize;
        stage.server.announce_servers(&some[..count]);
    }),
    ("lame duck", |stage| stage.server.lame_duck()),
    ("silence", |stage| stage.server.go_silent(true)),
    ("end of silence", |stage| stage.server.go_silent(false)),
    ("no pongs", |stage| stage.server.pause_pongs(true)),
    ("pongs again", |stage| stage.server.pause_pongs(false)),
    ("raw bytes", |stage| stage.server.send_raw(stage.seed.pick(RAW))),
    ("random bytes", |stage| {
        let length = stage.seed.within(1..200) as usize;
        stage.server.send_raw(stage.seed.bytes(length));
    }),
    ("small payloads", |stage| stage.server.set_max_payload(*stage.seed.pick(&[8, 1 << 20]))),
    ("ping", |stage| stage.server.ping_clients()),
    ("force reconnect", |stage| drop(stage.connection.force_reconnect())),
    ("another pool", |stage| {
        let all = [&stage.server, &stage.others[0], &stage.others[1]];
        let count = stage.seed.below(4) as usize;
        let urls: Vec<String> = all.iter().take(count).map(|server| server.url()).collect();
        drop(stage.connection.set_server_pool(urls));
        drop(stage.connection.server_pool());
    }),
    ("subscribe", |stage| {
        let subject = format!("s.{}", stage.seed.below(10));
        if let Ok(subscription) = stage.connection.subscribe(&subject) {
            stage.subscriptions.push((subject, subscription));
        }
    }),
    ("unsubscribe", |stage| drop(stage.subscriptions.pop())),
    ("unsubscribe after", |stage| {
        if let Some((_, subscription)) = stage.subscriptions.pop() {
            drop(subscription.unsubscribe_after(stage.seed.within(1..5)));
            let _ = subscription.next_timeout(MOMENT);
        }
    }),
    ("drain a subscription", |stage| {
        if let Some((_, subscription)) = stage.subscriptions.pop() {
            let _ = subscription.drain(MOMENT);
        }
    }),
    ("dispatcher", |stage| {
        let answer = |connection: &Connection, message| drop(connection.respond(&message, "yes"));
        if let Ok(dispatcher) = stage.connection.dispatcher(answer) {
            drop(dispatcher.subscribe("ask"));
            stage.dispatchers.push(dispatcher);
        }
    }),
    ("drop a dispatcher", |stage| drop(stage.dispatchers.pop())),
    ("publish", |stage| {
        for _ in 0..stage.seed.within(1..20) {
            let length = stage.seed.below(64) as usize;
            drop(stage.connection.publish("s.1", stage.seed.bytes(length)));
        }
    }),
    ("flush", |stage| drop(stage.connection.flush_timeout(MOMENT))),
    ("request", |stage| drop(stage.connection.request("ask", "", MOMENT))),
    ("request that nobody waits for", |stage| {
        drop(stage.connection.send_request("ask", ""));
    }),
    ("wait for the connection", |stage| {
        drop(stage.connection.wait_for_status(ConnectionStatus::Connected, MOMENT));
    }),
    ("add a listener", |stage| {
        let recorder = Recorder::new();
        let id = stage.connection.add_connection_listener(recorder.clone());
        stage.listeners.push((id, recorder));
    }),
    ("remove a listener", |stage| {
        if let Some((id, _)) = stage.listeners.pop() {
            stage.connection.remove_listener(id);
        }
    }),
    ("an iterator that nobody reads", |stage| drop(stage.connection.events())),
];

/// What a server may say; after some it closes, after others not, and this one does as it likes.
const TEXTS: &[&str] = &[
    "Stale Connection",
    "Authorization Violation",
    "User Authentication Expired",
    "Permissions Violation for Publish to \"s.1\"",
    "Permissions Violation for Subscription to \"s.2\"",
    "Permissions Violation for Subscription to \"_INBOX.>\"",
    "maximum connections exceeded",
    "maximum subscriptions exceeded",
    "Slow Consumer",
    "Parser Error",
    "Unknown Protocol Operation",
    "nobody ever said this",
    "",
];

const RAW: &[&str] = &[
    "\r\n",
    "what is this\r\n",
    "PONG\r\nPONG\r\n",
    "PING\r\nPING\r\n",
    "+OK\r\n",
    "-ERR\r\n",
    "-ERR 'Authorization Violation'\r\n",
    "INFO {}\r\n",
    "INFO {\"ldm\":true,\"connect_urls\":[\"127.0.0.1:1\",\"bad url\",\"\"]}\r\n",
    "INFO {\"max_payload\":-1}\r\n",
    "INFO {broken\r\n",
    "INFO {\"connect_urls\":7}\r\n",
    "MSG s.1 1 2\r\nhi\r\n",
    "MSG s.1 99 2\r\nhi\r\n",
    "MSG s.1 1 2\r\nlonger than two\r\n",
    "MSG s.1 1 1000\r\nthe rest never comes",
    "MSG s.1 1 99999999999999999999\r\n",
    "HMSG s.1 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    "HMSG s.1 1 14 12\r\nNATS/1.0\r\n\r\nhi\r\n",
    "HMSG s.1 1 4 4\r\nodd!\r\n",
];

fn options(seed: &mut Seed, server: &Server, mortal: bool) -> OptionsBuilder {
    let millis = Duration::from_millis;
    let mut options = Options::builder()
        .server(server.url())
        .connect_timeout(millis(seed.within(60..200)))
        .close_timeout(Duration::from_secs(2))
        .reconnect_wait(millis(seed.within(1..5)))
        .reconnect_jitter(millis(seed.below(3)))
        .ping_interval(millis(seed.within(20..60)))
        .max_pings_out(seed.within(1..3) as u32);
    if !mortal {
        options = options.ignore_authorization_abort();
    }
    if seed.chance(1, 4) {
        options = options.fail_requests_on_disconnect();
    }
    if seed.chance(1, 4) {
        options = options.verbose();
    }
    if seed.chance(1, 4) {
        options = options.reconnect_on_lame_duck();
    }
    if seed.chance(1, 4) {
        options = options.wait_before_first_reconnect();
    }
    if seed.chance(1, 4) {
        options = options.disconnected_on_close();
    }
    if seed.chance(1, 3) {
        let draw = Mutex::new(Seed::new(seed.below(u64::MAX)));
        options = options.reconnect_delay(move |_| {
            let draw = draw.lock().unwrap().below(50);
            if draw == 0 {
                // A panic that prints nothing.
                resume_unwind(Box::new("a delay callback of the test"));
            }
            millis(draw % 5)
        });
    }
    if seed.chance(1, 3) {
        let draw = Mutex::new(Seed::new(seed.below(u64::MAX)));
        options = options.select_server(move |choice| {
            let mut draw = draw.lock().unwrap();
            let delay = millis(draw.within(1..5));
            match draw.below(20) {
                0 => Some(SelectedServer::new("10.1.2.3")),
                1..=9 => {
                    let url = draw.pick(choice.servers()).url();
                    Some(SelectedServer::new(url).with_delay(delay))
                }
                _ => None,
            }
        });
    }
    options
}

/// Connects while the server is not there, and lets it come after something has been tried.
fn connect_in_background(options: OptionsBuilder, server: &Server) -> Connection {
    server.stop();
    let retry = RetryConnect::InBackground;
    let connection = options.retry_on_failed_connect(retry).connect().unwrap();
    let early = connection.subscribe("s.early").unwrap();
    connection.publish("s.early", "kept").unwrap();
    assert!(connection.flush_timeout(MOMENT).is_err());
    server.restart().unwrap();
    connection.wait_for_status(ConnectionStatus::Connected, LONG).unwrap();
    // The short time-outs of these connections may lose it, but never double it.
    if early.next_timeout(MOMENT).is_ok() {
        assert!(early.try_next().is_ok_and(|message| message.is_none()));
    }
    connection
}

/// A listener that does things of its own, now and then.
fn meddle(number: u64) -> impl Fn(&Connection, &ConnectionEvent) + Send + Sync {
    let seed = Mutex::new(Seed::new(number ^ 0xfeed));
    move |connection, event| {
        let draw = seed.lock().unwrap().below(12);
        match draw {
            0 => drop(connection.flush_timeout(MOMENT)),
            1 => drop(connection.subscribe("s.3")),
            2 => drop(connection.request("ask", "", MOMENT)),
            3 => drop(connection.publish("s.1", event.to_string())),
            4 if matches!(event.kind(), Kind::Reconnected { .. }) => {
                drop(connection.force_reconnect());
            }
            _ => {}
        }
    }
}

impl Stage {
    fn new(number: u64) -> Self {
        let mut seed = Seed::new(number);
        let server = Server::start().unwrap();
        let others = vec![Server::start().unwrap(), Server::start().unwrap()];
        let mortal = seed.chance(1, 4);
        let name = Arc::new(Mutex::new(String::new()));
        // The time-outs are short, so on a busy machine the first connect may need another try.
        let connected = poll(LONG, || {
            let recorder = Recorder::new();
            let seen = name.clone();
            let options = options(&mut seed, &server, mortal)
                .connection_listener(recorder.clone())
                .error_listener(recorder.clone())
                .on_connected(move |_, _| {
                    let thread = thread::current();
                    seen.lock().unwrap().push_str(thread.name().unwrap_or_default());
                })
                .on_event(meddle(number));
            if seed.chance(1, 3) {
                return Some((connect_in_background(options, &server), recorder));
            }
            Some((options.connect().ok()?, recorder))
        });
        let (connection, recorder) = connected.unwrap();
        // The name was taken in an earlier call than the one that is waited for here.
        let is_connected = |kind: &Kind| matches!(kind, Kind::Connected);
        recorder.wait_for_event(LONG, is_connected).unwrap();
        let known = poll(LONG, || {
            let name = name.lock().unwrap();
            name.strip_suffix("callback").map(str::to_owned)
        });
        Self {
            events: connection.events(),
            threads: known.unwrap(),
            seed,
            server,
            others,
            connection,
            recorder,
            subscriptions: Vec::new(),
            dispatchers: Vec::new(),
            listeners: Vec::new(),
            mortal,
            drawn: Arc::default(),
        }
    }

    /// Faults that last are over.
    fn relieve(&self) {
        self.server.refuse_connections(false).unwrap();
        self.server.go_silent(false);
        self.server.pause_pongs(false);
    }

    /// All faults are over: the connection comes back, and what it holds works.
    fn heal(&self) {
        for other in &self.others {
            other.stop();
        }
        self.server.announce_servers(&[]);
        self.server.set_max_payload(1 << 20);
        self.server.restart().unwrap();
        let mut number = 0;
        let alive = poll(LONG, || {
            if self.connection.is_closed() {
                return Some(false);
            }
            number += 1;
            self.probe(&number.to_string()).then_some(true)
        });
        let alive = alive.unwrap_or_else(|| panic!("{}", self.recorder.timeline("it is dead")));
        let cause = self.connection.wait_closed(Duration::ZERO);
        assert!(alive || self.mortal, "it closed by itself: {cause:?}");
    }

    /// Whether every subscription gets a message now. A late effect of a fault may spoil one round.
    fn probe(&self, text: &str) -> bool {
        let timeout = Duration::from_secs(2);
        self.subscriptions.iter().all(|(subject, subscription)| {
            let sent = self.connection.publish(subject, text);
            sent.is_ok()
                && std::iter::from_fn(|| subscription.next_timeout(timeout).ok())
                    .any(|message| message.payload() == text.as_bytes())
        }) && self.connection.flush_timeout(timeout).is_ok()
    }

    /// Ends the connection in one of the ways in which a program can; the rest of the stage remains
    /// to be looked at.
    fn end(mut self) -> Ended {
        let way = self.seed.below(4);
        let Self { recorder, threads, events, listeners, .. } = self;
        let weak = self.connection.downgrade();
        match way {
            0 => self.connection.close(),
            1 => drop(self.connection.drain(Duration::from_millis(100))),
            2 => drop(self.connection.start_drain(MOMENT)),
            _ => {}
        }
        drop((self.subscriptions, self.dispatchers, self.connection));
        let is_closed =
            |happening: &Happening| matches!(happening.event_kind(), Some(Kind::Closed { .. }));
        recorder.wait_for(LONG, is_closed).unwrap();
        drop((self.server, self.others));
        assert!(weak.upgrade().is_none());
        Ended { recorder, threads, events, listeners }
    }
}

struct Ended {
    recorder: Recorder,
    threads: String,
    events: Events,
    listeners: Vec<(ListenerId, Recorder)>,
}

impl Ended {
    fn check(self) {
        let back =
            poll(LONG, || (Snapshot::take().threads_named(&self.threads) == 0).then_some(()));
        assert!(back.is_some(), "left over: {:?}", Snapshot::take().thread_names());
        self.recorder.check().unwrap();
        let show = |reason: &str| self.recorder.timeline(reason);
        let heard = names(&self.recorder);
        let closed = heard.iter().filter(|name| **name == "Closed").count();
        assert_eq!(closed, 1, "{}", show("Closed must come once"));
        let records = self.recorder.records();
        let last = records.last().and_then(|record| record.happening().event_kind());
        assert!(matches!(last, Some(Kind::Closed { .. })), "{}", show("Closed must come last"));

        let heard = without_pairs(heard);
        let iterated = self.events.filter_map(|notice| match notice {
            Notice::Event(event) => Some(name(event.kind())),
            _ => None,
        });
        let iterated = without_pairs(iterated);
        assert!(heard.ends_with(&iterated), "{}", show(&format!("{iterated:?} was iterated")));
        assert!(!iterated.is_empty());
        for (_, listener) in self.listeners {
            let later = without_pairs(names(&listener));
            let fits = !later.is_empty() && heard.ends_with(&later);
            assert!(fits, "{}", show(&format!("{later:?} was heard by one added later")));
        }
    }
}

/// Attempts that failed may be left out in pairs for a listener that is far behind; one that was
/// added in the middle of an attempt hears only its end.
fn without_pairs(names: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
    let mut kept = Vec::new();
    for name in names {
        match (name, kept.last()) {
            ("ReconnectFailed", Some(&"Reconnecting")) => drop(kept.pop()),
            ("ReconnectFailed", _) => {}
            _ => kept.push(name),
        }
    }
    kept
}

/// A thread of the program that uses the connection all the time, whatever becomes of it.
fn bystander(stage: &Stage, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (weak, stop) = (stage.connection.downgrade(), stop.clone());
    let mut seed = Seed::new(stage.seed.number() ^ 0xbee);
    let body = move || {
        while !stop.load(Ordering::Relaxed) {
            let Some(connection) = weak.upgrade() else { return };
            match seed.below(6) {
                0 => drop(connection.flush_timeout(MOMENT)),
                1 => drop(connection.request("ask", "now", MOMENT)),
                2 => drop(connection.subscribe("s.4").map(|own| own.next_timeout(MOMENT))),
                3 => drop(connection.wait_for_status(ConnectionStatus::Connected, MOMENT)),
                _ => drop(connection.publish("s.1", "bystander")),
            }
        }
    };
    thread::Builder::new().name("bystander".to_owned()).spawn(body).unwrap()
}

fn run(number: u64, drawn: &Arc<Mutex<Vec<&'static str>>>) -> Statistics {
    let mut stage = Stage::new(number);
    stage.drawn = drawn.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let by = bystander(&stage, &stop);
    for _ in 0..stage.seed.within(20..100) {
        let (name, fault) = *stage.seed.pick(FAULTS);
        stage.drawn.lock().unwrap().push(name);
        fault(&mut stage);
        // Otherwise most faults would meet a connection that is down already.
        if stage.seed.chance(1, 2) {
            if stage.seed.chance(1, 2) {
                stage.relieve();
            }
            let _ = stage.connection.wait_for_status(ConnectionStatus::Connected, 10 * MOMENT);
            let _ = stage.connection.flush_timeout(MOMENT);
        }
    }
    stop.store(true, Ordering::Relaxed);
    by.join().unwrap();
    if stage.seed.chance(1, 2) {
        stage.drawn.lock().unwrap().push("heal");
        stage.heal();
    }
    let statistics = stage.connection.statistics();
    stage.end().check();
    statistics
}

#[test]
fn the_events_keep_to_their_grammar_under_random_faults() {
    println!("{}", run_seeds(200));
}

/// Runs so many seeds that nobody has seen before, or the one of `SEED`, and gives the figure.
/// Panics if one of them fails.
pub(crate) fn run_seeds(count: u64) -> String {
    let seeds: Vec<u64> = match env::var("SEED") {
        Ok(_) => vec![Seed::from_env_or(0).number()],
        Err(_) => {
            let first = Seed::from_clock().below(1 << 40);
            (first..first + count).collect()
        }
    };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let reconnects = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&number) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let drawn: Arc<Mutex<Vec<&'static str>>> = Arc::default();
                    let draws = drawn.clone();
                    let body = move || run(number, &draws);
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        within(MUST_END, &format!("seed {number}"), body)
                    }));
                    match outcome {
                        Ok(statistics) => {
                            reconnects.fetch_add(statistics.reconnects(), Ordering::Relaxed);
                        }
                        Err(_) => {
                            eprintln!("seed {number} drew {:?}", drawn.lock().unwrap());
                            failed.lock().unwrap().push(number);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let reconnects = reconnects.into_inner();
    assert!(seeds.len() == 1 || reconnects > count, "{reconnects} reconnects: hardly any faults");
    assert!(
        failed.is_empty(),
        "{} of {} seeds failed; replay one with\n  SEED={} cargo test --features testing --test it \
         random_faults\nall: {failed:?}",
        failed.len(),
        seeds.len(),
        failed.first().unwrap_or(&0)
    );
    let first = seeds.first().unwrap_or(&0);
    format!("{} lives from seed {first} on, {reconnects} reconnects", seeds.len())
}
