//! Leaks of threads and descriptors, counted over many lives of connections.
//!
//! The counts are of the whole process, so this is a program of its own, without the test harness:
//! one measurement after the other, each from the counts before it back to them. Arguments that are
//! no options choose the measurements whose names hold one of them.

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

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nats_blocking::testing::Recorder;
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, ConnectionStatus, Options, OptionsBuilder,
    RetryConnect,
};
use support::leaks::{Snapshot, wait_back_to};
use support::nats_server::{Config, NatsServer};
use support::ports;
use support::watchdog::within;

/// For what takes milliseconds: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(10);

/// For a whole measurement.
const WHOLE: Duration = Duration::from_secs(240);

const MEASUREMENTS: &[(&str, fn())] = &[
    ("opened and closed", opened_and_closed),
    ("failed to connect", failed_to_connect),
    ("forced to reconnect", forced_to_reconnect),
    ("subscribed and unsubscribed", subscribed_and_unsubscribed),
    ("requested", requested),
    ("closed while the server is down", closed_while_the_server_is_down),
    ("dropped in every state", dropped_in_every_state),
    ("never connected", never_connected),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let chosen = |name: &str| {
        let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    // What the process keeps from its first connection on is there before the first count.
    let server = NatsServer::start_plain();
    options(&server).connect().unwrap().close();
    drop(server);
    for (name, measure) in MEASUREMENTS.iter().filter(|(name, _)| chosen(name)) {
        let before = Snapshot::take();
        let started = Instant::now();
        within(WHOLE, name, measure);
        wait_back_to(&before, LIMIT);
        println!("{name}: {:.1?}, nothing left over", started.elapsed());
    }
}

fn options(server: &NatsServer) -> OptionsBuilder {
    Options::builder()
        .server(server.url())
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(50))
        .reconnect_jitter(Duration::from_millis(20))
}

/// A connection with a recorder, and some of each that a connection can have.
struct Busy {
    connection: Connection,
    recorder: Recorder,
    _consumers: (nats_blocking::Subscription, nats_blocking::Dispatcher),
}

fn busy(server: &NatsServer) -> Busy {
    let recorder = Recorder::new();
    let connection = options(server)
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    let subscription = connection.subscribe("a").unwrap();
    let dispatcher = connection.dispatcher(|connection, message| {
        // An error tells that the connection has been closed meanwhile.
        let _ = connection.respond(&message, "answer");
    });
    let dispatcher = dispatcher.unwrap();
    dispatcher.subscribe("ask").unwrap();
    assert_eq!(connection.request("ask", "", LIMIT).unwrap().payload(), b"answer");
    let busy = Busy { connection, recorder, _consumers: (subscription, dispatcher) };
    // A thread that has not run yet has not even its name.
    busy.wait(1, |kind| matches!(kind, Kind::Connected));
    busy
}

impl Busy {
    fn wait(&self, count: usize, wanted: fn(&Kind) -> bool) {
        let happened = |happening: &nats_blocking::testing::Happening| {
            happening.event_kind().is_some_and(wanted)
        };
        self.recorder
            .wait_for_count(LIMIT, count, happened)
            .unwrap_or_else(|timeline| panic!("{timeline}"));
    }
}

fn disconnected(kind: &Kind) -> bool {
    matches!(kind, Kind::Disconnected { .. })
}

fn resubscribed(kind: &Kind) -> bool {
    matches!(kind, Kind::Resubscribed { .. })
}

fn closed(kind: &Kind) -> bool {
    matches!(kind, Kind::Closed { .. })
}

fn opened_and_closed() {
    let server = NatsServer::start_plain();
    let before = Snapshot::take();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            let connection = options(&server).connect().unwrap();
            connection.close();
            started.elapsed()
        })
        .collect();
    // `close` has waited for the threads; the system lists them for a moment longer.
    wait_back_to(&before, Duration::from_secs(5));
    times.sort_unstable();
    println!("open and close: median {:.2?}, worst {:.2?}", times[100], times[199]);
    for _ in 0..20 {
        drop(busy(&server));
    }
}

fn failed_to_connect() {
    let nobody = format!("nats://127.0.0.1:{}", ports::free());
    let strict = NatsServer::start(&Config::new().user("anna", "secret"));
    for round in 0..200 {
        let builder = if round % 2 == 0 {
            Options::builder().server(&nobody)
        } else {
            options(&strict).user_and_password("anna", "wrong")
        };
        let error = builder.connect().unwrap_err();
        assert_eq!(error.is_authorization(), round % 2 == 1, "{error}");
    }
}

fn forced_to_reconnect() {
    let server = NatsServer::start_plain();
    let busy = busy(&server);
    let before = Snapshot::take();
    for round in 1..=200 {
        busy.connection.force_reconnect().unwrap();
        busy.wait(round, resubscribed);
    }
    assert_eq!(busy.connection.request("ask", "", LIMIT).unwrap().payload(), b"answer");
    wait_back_to(&before, LIMIT);
    busy.connection.close();
    busy.recorder.check().unwrap();
}

fn subscribed_and_unsubscribed() {
    let server = NatsServer::start_plain();
    let connection = options(&server).connect().unwrap();
    for number in 0..10_000 {
        let subscription = connection.subscribe(format!("a.{number}")).unwrap();
        if number % 2 == 0 {
            subscription.unsubscribe();
        }
    }
    connection.flush().unwrap();
    assert_eq!(connection.subscription_count(), 0);
    for _ in 0..100 {
        let dispatcher = connection.dispatcher(|_, _| ()).unwrap();
        dispatcher.subscribe("a.>").unwrap();
    }
    connection.flush().unwrap();
    assert_eq!(connection.subscription_count(), 0);
    connection.close();
}

fn requested() {
    let server = NatsServer::start_plain();
    let busy = busy(&server);
    let connection = &busy.connection;
    for _ in 0..10_000 {
        assert_eq!(connection.request("ask", "", LIMIT).unwrap().payload(), b"answer");
    }
    for _ in 0..100 {
        let pending: Vec<_> =
            (0..100).map(|_| connection.send_request("ask", "").unwrap()).collect();
        // Every second one is forgotten.
        for reply in pending.iter().step_by(2) {
            assert_eq!(reply.wait(LIMIT).unwrap().payload(), b"answer");
        }
    }
    connection.flush().unwrap();
    assert_eq!(connection.pending_requests(), 0);
    // The dispatcher's, the plain one, and the one inbox.
    assert_eq!(connection.subscription_count(), 3);
    connection.close();
}

fn closed_while_the_server_is_down() {
    let mut server = NatsServer::start_plain();
    for round in 0..10 {
        let one = busy(&server);
        if round % 2 == 0 {
            server.kill();
            one.wait(1, disconnected);
        } else {
            // It stands still: the socket stays, nothing is answered.
            server.stop();
        }
        one.connection.publish("a", "buffered").unwrap();
        one.connection.close();
        assert!(one.connection.is_closed());
        one.wait(1, closed);
        one.recorder.check().unwrap();
        server.restart();
    }
}

fn dropped_in_every_state() {
    let mut server = NatsServer::start_plain();
    for _ in 0..10 {
        let connected = busy(&server);
        let draining = busy(&server);
        let drain = draining.connection.start_drain(LIMIT).unwrap();
        let closed_one = busy(&server);
        closed_one.connection.close();
        let in_listener = busy(&server);
        let mut last = Some(in_listener.connection.clone());
        let kept = std::sync::Mutex::new(last.take());
        in_listener.connection.add_connection_listener(
            move |_: &Connection, event: &nats_blocking::ConnectionEvent| {
                if disconnected(event.kind()) {
                    // The last handle goes on the thread of the connection itself.
                    drop(kept.lock().unwrap().take());
                }
            },
        );
        let recorders =
            [&connected, &draining, &closed_one, &in_listener].map(|busy| busy.recorder.clone());
        let lost = busy(&server);
        drop((connected, draining, drain, closed_one, in_listener));
        server.kill();
        lost.wait(1, disconnected);
        assert_eq!(lost.connection.status(), ConnectionStatus::Reconnecting);
        drop(lost);
        server.restart();
        for recorder in recorders {
            recorder.wait_for_event(LIMIT, closed).unwrap();
            recorder.check().unwrap();
        }
    }
}

/// First connects that are retried and come to nothing: closed, dropped, over their limit, ended by
/// their own callback, which holds a handle.
fn never_connected() {
    let tried = |kind: &Kind| matches!(kind, Kind::ReconnectFailed { .. });
    for round in 0..20 {
        let recorder = Recorder::new();
        let nobody = format!("nats://127.0.0.1:{}", ports::free());
        let options = Options::builder()
            .server(nobody)
            .reconnect_delay(|_| Duration::from_millis(1))
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone());
        let background = RetryConnect::InBackground;
        match round % 4 {
            0 => {
                let connection = options.retry_on_failed_connect(background).connect().unwrap();
                recorder.wait_for_event(LIMIT, tried).unwrap();
                connection.close();
            }
            1 => drop(options.retry_on_failed_connect(background).connect().unwrap()),
            2 => {
                let within = RetryConnect::Within(Duration::from_millis(20));
                options.retry_on_failed_connect(within).connect().unwrap_err();
            }
            _ => {
                let kept = Arc::new(OnceLock::<Connection>::new());
                let inside = kept.clone();
                let options = options.select_server(move |_| {
                    inside.get().inspect(|connection| connection.close());
                    None
                });
                let connection = options.retry_on_failed_connect(background).connect().unwrap();
                assert!(kept.set(connection).is_ok());
            }
        }
        recorder.wait_for_event(LIMIT, closed).unwrap();
        recorder.check().unwrap();
    }
}
