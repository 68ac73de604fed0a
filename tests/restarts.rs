//! A thousand restarts of the server under load, and everything is still there.
//!
//! One connection with 50 subscriptions publishes to its own subjects, so that every message goes
//! both ways. After each restart a probe goes to every subject and must come back on the
//! subscription of that subject, before the next restart. A round also lasts until the rates, over
//! the whole run and its outages, are what the test promises. In the end the counts of threads and
//! descriptors are those of before; they are of the whole process, so this is a program of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "it/support/mod.rs"]
#[allow(unused_imports, reason = "what the tests of these files import: they run elsewhere")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, Dispatcher, Events, Notice, Options, OptionsBuilder,
};
use support::leaks::{Snapshot, wait_back_to};
use support::wait::Signal;
use support::watchdog::within;

const RESTARTS: u64 = 1_000;
const SUBJECTS: usize = 50;
/// Subscriptions share dispatchers, so that several threads take messages.
const DISPATCHERS: usize = 5;
/// Messages a second, each way, over the whole run.
const RATE: u64 = 10_000;
/// What is published a second; the rest is for outages.
const PUBLISHED: u64 = 16_000;
/// Messages beside the probes that come back in every round, so that each server has some load.
const LEAST: u64 = 300;
/// How long a round may wait for the rates.
const ROUND: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(600);

/// What the handlers have seen.
struct Seen {
    load: AtomicU64,
    /// The round of the last probe on each subject.
    probes: Signal<[u64; SUBJECTS]>,
}

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    within(WHOLE, "restarts", || {
        // What the process keeps from its first connection on is there before the first count.
        let server = Server::start().unwrap();
        options(&server).connect().unwrap().close();
        drop(server);
        let before = Snapshot::take();
        run();
        wait_back_to(&before, LIMIT);
        println!(
            "nothing left over: {} threads, {} descriptors, as before",
            before.thread_count(),
            before.descriptor_count()
        );
    });
}

fn options(server: &Server) -> OptionsBuilder {
    Options::builder()
        .server(server.url())
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(2))
        .reconnect_jitter(Duration::from_millis(1))
}

fn run() {
    let server = Server::start().unwrap();
    let recorder = Recorder::new();
    let connection = options(&server)
        .name("restarts")
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    let seen = Arc::new(Seen { load: AtomicU64::new(0), probes: Signal::new([0; SUBJECTS]) });
    let dispatchers = subscribe(&connection, &seen);
    let events = connection.events();
    probe(&connection, &seen, 1);
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publish(&connection, &stop);

    let start = Instant::now();
    let mut downtimes = Vec::new();
    for restart in 1..=RESTARTS {
        server.restart().unwrap();
        downtimes.push(wait_for_return(&events));
        assert_eq!(connection.statistics().reconnects(), restart);
        probe(&connection, &seen, restart + 1);
        assert_eq!(server.subscription_count(), SUBJECTS);
        keep_pace(start, &server, &connection, &seen);
    }
    let elapsed = start.elapsed();
    let (out, back) = (server.received(), connection.statistics().in_messages());
    stop.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    drop(dispatchers);
    connection.close();
    connection.wait_closed(LIMIT).unwrap();
    tell(elapsed, out, back, downtimes);
    check(&connection, &recorder);
}

/// Each subject has a subscription of its own; what arrives on one is only for it.
fn subscribe(connection: &Connection, seen: &Arc<Seen>) -> Vec<Dispatcher> {
    let dispatchers: Vec<Dispatcher> = (0..DISPATCHERS)
        .map(|_| connection.dispatcher(|_, message| panic!("{}", message.subject())).unwrap())
        .collect();
    for subject in 0..SUBJECTS {
        let (seen, name) = (seen.clone(), name(subject));
        let handler = move |_: &Connection, message: nats_blocking::Message| {
            assert_eq!(message.subject(), name);
            match std::str::from_utf8(message.payload()).unwrap().strip_prefix("probe ") {
                Some(round) => {
                    let round = round.parse().unwrap();
                    seen.probes.change(|probes| probes[subject] = round);
                }
                None => drop(seen.load.fetch_add(1, Ordering::Relaxed)),
            }
        };
        let dispatcher = &dispatchers[subject % DISPATCHERS];
        dispatcher.subscribe_with(self::name(subject), handler).unwrap();
    }
    dispatchers
}

fn name(subject: usize) -> String {
    format!("restarts.{subject}")
}

/// Sends a probe to every subject and waits until each has come back.
fn probe(connection: &Connection, seen: &Seen, round: u64) {
    for subject in 0..SUBJECTS {
        connection.publish(name(subject), format!("probe {round}")).unwrap();
    }
    let all =
        seen.probes.wait(LIMIT, |probes| probes.iter().all(|probe| *probe == round).then_some(()));
    assert!(all.is_some(), "round {round}: {:?}", seen.probes.read(|probes| *probes));
}

/// A thread that publishes to all subjects in turn, also while the connection is down.
fn publish(connection: &Connection, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (connection, stop) = (connection.clone(), stop.clone());
    let body = move || {
        let names: Vec<String> = (0..SUBJECTS).map(name).collect();
        let (start, mut sent) = (Instant::now(), 0_u64);
        while !stop.load(Ordering::Relaxed) {
            let due = start.elapsed().as_micros() as u64 * PUBLISHED / 1_000_000;
            while sent < due {
                connection.publish(&names[sent as usize % SUBJECTS], "load of sixteen").unwrap();
                sent += 1;
            }
            // Paces: the load is a rate, not a flood.
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::Builder::new().name("publisher".to_owned()).spawn(body).unwrap()
}

/// Waits until the subscriptions are re-established, and gives how long the connection was down.
fn wait_for_return(events: &Events) -> Duration {
    let mut downtime = Duration::ZERO;
    while let Some(notice) = events.next_timeout(LIMIT) {
        let Notice::Event(event) = notice else { continue };
        match event.kind() {
            Kind::Reconnected { downtime: down, .. } => downtime = *down,
            Kind::Resubscribed { subscriptions } => {
                assert_eq!(*subscriptions, SUBJECTS);
                return downtime;
            }
            _ => {}
        }
    }
    panic!("the connection did not come back within {LIMIT:?}");
}

/// Lets the load run until both rates, over all of the run, are as promised.
fn keep_pace(start: Instant, server: &Server, connection: &Connection, seen: &Seen) {
    let (round, before) = (Instant::now(), seen.load.load(Ordering::Relaxed));
    while round.elapsed() < ROUND {
        let goal = start.elapsed().as_micros() as u64 * RATE / 1_000_000;
        let least = server.received().min(connection.statistics().in_messages());
        if least >= goal && seen.load.load(Ordering::Relaxed) >= before + LEAST {
            return;
        }
        // Paces: the load of this round goes on meanwhile.
        thread::sleep(Duration::from_millis(1));
    }
}

fn tell(elapsed: Duration, out: u64, back: u64, mut downtimes: Vec<Duration>) {
    downtimes.sort_unstable();
    let per_second = |count: u64| (count as f64 / elapsed.as_secs_f64()) as u64;
    println!(
        "{RESTARTS} restarts in {elapsed:.1?}; messages a second: {} to the server, {} back; down \
         for {:.1?} at the median, {:.1?} at most",
        per_second(out),
        per_second(back),
        downtimes[downtimes.len() / 2],
        downtimes[downtimes.len() - 1],
    );
    assert!(per_second(out) >= RATE, "the rate to the server is below {RATE}");
    assert!(per_second(back) >= RATE, "the rate from the server is below {RATE}");
}

/// The events of all this, in order and in number.
fn check(connection: &Connection, recorder: &Recorder) {
    recorder.check().unwrap();
    let count = |wanted: fn(&Kind) -> bool| {
        recorder.count(|happening| happening.event_kind().is_some_and(wanted)) as u64
    };
    let counts = [
        count(|kind| matches!(kind, Kind::Disconnected { .. })),
        count(|kind| matches!(kind, Kind::Reconnected { .. })),
        count(|kind| matches!(kind, Kind::Resubscribed { .. })),
    ];
    assert_eq!(counts, [RESTARTS; 3]);
    assert_eq!(count(|kind| matches!(kind, Kind::Closed { .. })), 1);
    let statistics = connection.statistics();
    assert_eq!((statistics.reconnects(), statistics.panics()), (RESTARTS, 0));
    println!(
        "{} reconnects, {} attempts that failed, {} messages published, {} received, {} torn",
        statistics.reconnects(),
        count(|kind| matches!(kind, Kind::ReconnectFailed { .. })),
        statistics.out_messages(),
        statistics.in_messages(),
        statistics.torn(),
    );
}
