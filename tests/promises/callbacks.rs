//! Code of the program that panics or sleeps: it harms nobody else.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionListener, ConnectionStatus,
    Consumer, Error, ErrorKind, ErrorListener, Message, Options, ServerError,
};

use crate::support::leaks::Snapshot;
use crate::support::wait::{Gate, Signal, poll};
use crate::{Tier, random_faults};

const LIMIT: Duration = Duration::from_secs(60);
/// How many notices may wait for the listeners of a connection.
const QUEUE: u64 = 1_024;

/// A panic that says nothing on the way.
fn meant() -> ! {
    resume_unwind(Box::new("meant"))
}

/// A listener of both kinds that panics in every call.
struct Panicking;

impl ConnectionListener for Panicking {
    fn connection_event(&self, _: &Connection, _: &ConnectionEvent) {
        meant()
    }
}

impl ErrorListener for Panicking {
    fn error_occurred(&self, _: &Connection, _: &ServerError) {
        meant()
    }

    fn exception_occurred(&self, _: &Connection, _: &Error) {
        meant()
    }

    fn slow_consumer_detected(&self, _: &Connection, _: &dyn Consumer) {
        meant()
    }
}

fn is_panic(told: &Happening) -> bool {
    matches!(told, Happening::Exception(error) if error.kind() == ErrorKind::UserPanic)
}

/// Every other message makes its handler panic; one dispatcher beside it gets them all.
fn panicking_handlers(panics: u64) {
    let (server, recorder) = (Server::start().unwrap(), Recorder::new());
    let connection =
        Options::builder().server(server.url()).error_listener(recorder.clone()).connect().unwrap();
    let (handled, beside) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (inside, all) = (Arc::clone(&handled), Arc::clone(&beside));
    let panicking = connection
        .dispatcher(move |_, message: Message| {
            if message.payload() == b"panic" {
                meant()
            }
            inside.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    panicking.subscribe("work").unwrap();
    let quiet = connection.dispatcher(move |_, _| _ = all.fetch_add(1, Ordering::SeqCst)).unwrap();
    quiet.subscribe("work").unwrap();
    // A thread has its name only once it runs, and threads are counted by their names.
    connection.publish("work", "fine").unwrap();
    let run = || (handled.swap(0, Ordering::SeqCst) == 1).then_some(());
    poll(LIMIT, run).expect("the handler runs");
    poll(LIMIT, || (beside.swap(0, Ordering::SeqCst) == 1).then_some(())).expect("the other too");
    let before = Snapshot::take();
    for number in 0..panics {
        connection.publish("work", "panic").unwrap();
        connection.publish("work", "fine").unwrap();
        if number % 100 == 0 {
            // So few that no error is left out.
            let told = usize::try_from(number).unwrap();
            recorder.wait_for_count(LIMIT, told, is_panic).unwrap();
        }
    }
    let done = poll(LIMIT, || {
        let counts = (handled.load(Ordering::SeqCst), beside.load(Ordering::SeqCst));
        (counts == (panics, panics * 2)).then_some(())
    });
    assert!(done.is_some(), "{} of {panics} handled", handled.load(Ordering::SeqCst));
    let told = usize::try_from(panics).unwrap();
    recorder.wait_for_count(LIMIT, told, is_panic).unwrap();
    assert_eq!(recorder.count(is_panic), told, "one error each");
    assert_eq!(connection.statistics().panics(), panics);
    assert_eq!(Snapshot::take().beyond(&before), Vec::<String>::new());
    connection.close();
}

/// A listener panics in every call of either trait; one beside it hears everything.
fn panicking_listeners(panics: u64) {
    let (server, recorder) = (Server::start().unwrap(), Recorder::new());
    let connection = Options::builder()
        .server(server.url())
        .connection_listener(Panicking)
        .error_listener(Panicking)
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    // Its threads run, and have their names.
    recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Connected)).unwrap();
    connection.flush().unwrap();
    let before = Snapshot::take();
    let is_error = |told: &Happening| matches!(told, Happening::ServerError(_));
    let is_news =
        |told: &Happening| matches!(told.event_kind(), Some(Kind::DiscoveredServers { .. }));
    let step = 100;
    for round in 0..panics / step {
        for number in 0..step {
            server.send_error("odd");
            let other = ["a.invalid:1", "b.invalid:1"][number as usize % 2];
            server.announce_servers(&[other]);
        }
        let count = usize::try_from((round + 1) * step).unwrap();
        recorder.wait_for_count(LIMIT, count, is_error).unwrap();
        recorder.wait_for_count(LIMIT, count, is_news).unwrap();
    }
    connection.flush().unwrap();
    let subscription = connection.subscribe("after").unwrap();
    connection.publish("after", "").unwrap();
    subscription.next_timeout(LIMIT).unwrap();
    // One report for each listener; that it panics at its own report is counted, and no more.
    assert_eq!(recorder.count(is_panic), 2, "one error each");
    let counted = poll(LIMIT, || {
        (connection.statistics().panics() >= panics * 2).then(|| connection.statistics().panics())
    });
    let counted = counted.expect("every panic is counted");
    assert!(counted <= panics * 2 + 10, "{counted} panics of {}", panics * 2);
    assert_eq!(Snapshot::take().beyond(&before), Vec::<String>::new());
    connection.close();
    recorder.check().unwrap();
}

/// A panic in user code is caught and told, and everything else goes on.
pub(crate) fn panics(tier: Tier) -> String {
    let (handlers, listeners) = tier.choose((10_000, 1_000), (100_000, 10_000));
    panicking_handlers(handlers);
    panicking_listeners(listeners);
    format!(
        "{handlers} panics of a handler, each told once; {listeners} in each listener, told once \
         and counted; all other messages, events and errors delivered, threads unchanged"
    )
}

/// Whatever happens to a connection, its events keep to their grammar.
pub(crate) fn grammar(tier: Tier) -> String {
    let lives = random_faults::run_seeds(tier.choose(100, 2_000));
    let over_tls = random_faults::on_the_line::run_seeds(tier.choose(20, 400));
    format!("{lives}; over TLS {over_tls}: every event in its place, Closed once and last")
}

/// A listener that sleeps at its first event.
fn sleeper(asleep: Gate, awake: Gate) -> impl Fn(&Connection, &ConnectionEvent) {
    let sleeps = AtomicBool::new(true);
    move |_, _| {
        if sleeps.swap(false, Ordering::SeqCst) {
            asleep.open();
            // Paces: the listener that is slow.
            thread::sleep(Duration::from_secs(10));
            awake.open();
        }
    }
}

/// A listener sleeps for ten seconds while everything else happens.
pub(crate) fn sleeping_listener(_: Tier) -> String {
    let (server, recorder) = (Server::start().unwrap(), Recorder::new());
    let (asleep, awake) = (Gate::new(), Gate::new());
    let connection = Options::builder()
        .server(server.url())
        .ping_interval(Duration::from_millis(100))
        .max_pings_out(2)
        .reconnect_wait(Duration::from_millis(10))
        .reconnect_jitter(Duration::from_millis(5))
        .on_event(sleeper(asleep.clone(), awake.clone()))
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    assert!(asleep.wait(LIMIT));
    let (begun, count) = (Instant::now(), Arc::new(Signal::new(0_u64)));
    let inside = Arc::clone(&count);
    let dispatcher = connection.dispatcher(move |_, _| inside.change(|count| *count += 1)).unwrap();
    dispatcher.subscribe("work").unwrap();
    let (mut published, mut losses, mut errors, mut longest) = (0, 0, 0, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(7) {
        for _ in 0..500 {
            connection.publish("work", "").unwrap();
            server.send_error("odd");
            errors += 1;
        }
        published += 500;
        let flushing = Instant::now();
        connection.flush().unwrap();
        count.wait(LIMIT, |count| (*count == published).then_some(())).expect("delivery");
        longest = longest.max(flushing.elapsed());
        losses += 1;
        server.drop_clients();
        poll(LIMIT, || (connection.statistics().reconnects() == losses).then_some(())).unwrap();
        connection.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
    }
    // Nothing else is said now: the connection asks whether the server is there.
    let known = connection.statistics().pings();
    let pinged = poll(LIMIT, || (connection.statistics().pings() >= known + 5).then_some(()));
    assert!(pinged.is_some(), "no pings while the listener sleeps");
    assert!(recorder.records().is_empty() || awake.wait(Duration::ZERO), "the listener sleeps");
    let all = usize::try_from(losses).unwrap();
    let is_back = |told: &Happening| matches!(told.event_kind(), Some(Kind::Resubscribed { .. }));
    recorder.wait_for_count(LIMIT, all, is_back).unwrap();
    connection.close();
    recorder.check().unwrap();
    for wanted in [
        |told: &Happening| matches!(told.event_kind(), Some(Kind::Disconnected { .. })),
        |told: &Happening| matches!(told.event_kind(), Some(Kind::Reconnected { .. })),
    ] {
        assert_eq!(recorder.count(wanted), all, "an event was dropped");
    }
    let heard = recorder.count(|told| !matches!(told, Happening::Event(_))) as u64;
    let skipped = connection.statistics().skipped();
    assert!(heard <= QUEUE, "{heard} errors waited, at most {QUEUE}");
    assert!(errors <= heard + skipped, "{errors} errors, {heard} heard, {skipped} skipped");
    format!(
        "a listener of 10 s beside {published} messages (a round at most {} ms), {losses} \
         reconnects, pings on time and {errors} errors: all events came, {heard} errors waited (at \
         most {QUEUE}), {skipped} were left out and counted",
        longest.as_millis()
    )
}
