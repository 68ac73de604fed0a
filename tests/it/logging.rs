//! The log lines of a connection, through a logger that is itself a user of the connection.
//!
//! There can be one logger in a process only: it serves all tests here, and tells their connections
//! apart by the name of the thread that logs.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, Options, OptionsBuilder, OutboxPolicy, PendingLimits,
    WeakConnection,
};

use crate::support::wait::Signal;
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(10);

/// What no line may hold: the user, the password, the payload and the header value of these tests.
const CANARIES: [&str; 4] = ["canaryuser", "canarypass", "canarypayload", "canaryvalue"];

struct Line {
    level: Level,
    thread: String,
    text: String,
}

/// Keeps the lines of connections whose name begins with `log`.
#[derive(Default)]
struct Curious {
    watched: Mutex<Option<(String, WeakConnection)>>,
    lines: Signal<Vec<Line>>,
}

impl Log for Curious {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        if !thread.contains("-callback-log") {
            return;
        }
        let text = record.args().to_string();
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let watched = watched.filter(|(name, _)| thread.ends_with(name));
        if let Some(connection) = watched.and_then(|(_, connection)| connection.upgrade()) {
            // Takes the locks of the connection, and publishes the line.
            let status = connection.status();
            let _ = connection.publish("log", format!("{status} {text} {connection:?}"));
        }
        let level = record.level();
        self.lines.change(|lines| lines.push(Line { level, thread, text }));
    }

    fn flush(&self) {}
}

fn logger() -> &'static Curious {
    static LOGGER: OnceLock<Curious> = OnceLock::new();
    static SET: OnceLock<()> = OnceLock::new();
    let logger = LOGGER.get_or_init(Curious::default);
    SET.get_or_init(|| {
        // Another logger would be a test's, of which there are those here.
        log::set_logger(logger).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    logger
}

/// Waits for a line of that connection.
fn wait_line(name: &str, level: Level, part: &str) {
    let found = logger().lines.wait(LIMIT, |lines| {
        let wanted = |line: &Line| {
            line.level == level && line.thread.ends_with(name) && line.text.contains(part)
        };
        lines.iter().any(wanted).then_some(())
    });
    assert!(found.is_some(), "no '{part}' at {level} in\n{}", shown(name));
}

/// All lines of that connection.
fn shown(name: &str) -> String {
    let line = |line: &Line| format!("  {} {}\n", line.level, line.text);
    logger()
        .lines
        .read(|lines| lines.iter().filter(|line| line.thread.ends_with(name)).map(line).collect())
}

fn quick(server: &Server, name: &str) -> OptionsBuilder {
    logger();
    Options::builder()
        .server(server.url())
        .name(name)
        .user_and_password(CANARIES[0], CANARIES[1])
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(10))
        .reconnect_jitter(Duration::ZERO)
}

fn start() -> Server {
    Server::builder().user(CANARIES[0], CANARIES[1]).start().unwrap()
}

#[test]
fn a_logger_may_use_the_connection_and_hears_each_event_at_its_level() {
    within(LIMIT * 3, "a curious logger", || {
        let server = start();
        let recorder = Recorder::new();
        let name = "log-curious";
        let connection =
            quick(&server, name).connection_listener(recorder.clone()).connect().unwrap();
        *logger().watched.lock().unwrap() = Some((name.to_owned(), connection.downgrade()));
        wait_line(name, Level::Info, "nats: connection opened");
        let other = start();
        server.announce_servers(&[&format!("127.0.0.1:{}", other.port())]);
        wait_line(name, Level::Info, "nats: discovered servers");
        server.lame_duck();
        wait_line(name, Level::Info, "nats: lame duck mode");
        server.drop_clients();
        let resubscribed = |kind: &Kind| matches!(kind, Kind::Resubscribed { .. });
        recorder.wait_for_event(LIMIT, resubscribed).unwrap();
        wait_line(name, Level::Warn, "nats: connection disconnected");
        wait_line(name, Level::Debug, "nats: reconnecting");
        wait_line(name, Level::Info, "nats: connection reconnected");
        wait_line(name, Level::Info, "nats: subscriptions re-established");
        connection.force_reconnect().unwrap();
        wait_line(name, Level::Info, "nats: reconnect forced");
        recorder
            .wait_for_count(LIMIT, 2, |happening| happening.event_kind().is_some_and(resubscribed))
            .unwrap();
        connection.drain(LIMIT).unwrap();
        wait_line(name, Level::Info, "nats: draining");
        wait_line(name, Level::Info, "nats: connection closed");
        recorder.check().unwrap();
        *logger().watched.lock().unwrap() = None;
    });
}

/// Publishes what may not be shown.
fn publish(connection: &Connection, subject: &str) {
    let mut headers = nats_blocking::Headers::new();
    headers.append("Name", CANARIES[3]).unwrap();
    connection.publish_with_headers(subject, &headers, CANARIES[2]).unwrap();
}

#[test]
fn without_an_error_listener_every_failure_is_logged_at_its_level() {
    within(LIMIT * 3, "failures", || {
        let server = start();
        let name = "log-failures";
        let connection = quick(&server, name).connect().unwrap();
        server.send_error("Something Odd");
        wait_line(name, Level::Error, "the server said: Something Odd");
        wait_line(name, Level::Debug, "nats: server error: Something Odd");
        let dispatcher = connection.dispatcher(|_, _| panic!("a handler that panics")).unwrap();
        dispatcher.subscribe("panic").unwrap();
        publish(&connection, "panic");
        wait_line(name, Level::Debug, "nats: exception:");
        wait_line(name, Level::Error, "panicked");
        let consumer = connection.subscribe("slow").unwrap();
        consumer.set_pending_limits(PendingLimits::new(2, 0));
        for _ in 0..3 {
            publish(&connection, "slow");
        }
        wait_line(name, Level::Warn, "slow consumer: ");
        wait_line(name, Level::Debug, "nats: slow consumer: ");
        for _ in 0..2 {
            consumer.next_timeout(LIMIT).unwrap();
        }
        wait_line(name, Level::Info, "slow consumer recovered: ");
        server.refuse_connections(true).unwrap();
        server.drop_clients();
        wait_line(name, Level::Debug, "nats: reconnect failed");
        wait_line(name, Level::Error, "connecting to 127.0.0.1:");
        connection.close();
    });
}

#[test]
fn a_server_that_says_nothing_is_logged_at_its_level() {
    within(LIMIT * 4, "silence", || {
        let server = start();
        let name = "log-silence";
        let connection = quick(&server, name)
            .outbox_size(256 * 1024)
            .outbox_policy(OutboxPolicy::DropNewest)
            .send_buffer_size(64 * 1024)
            .socket_write_timeout(Duration::from_millis(50))
            .close_timeout(Duration::from_millis(200))
            .connect()
            .unwrap();
        server.go_silent(true);
        let payload = CANARIES[2].repeat(8 * 1024);
        let mut published = 0;
        while connection.statistics().discarded() == 0 && connection.is_connected() {
            connection.publish("a", &payload).unwrap();
            published += 1;
            assert!(published < 4_000, "the outbox is never full");
        }
        wait_line(name, Level::Info, "message discarded: ");
        wait_line(name, Level::Error, "socket write timeout");
        wait_line(name, Level::Debug, "nats: socket write timeout");
        connection.close();

        let (server, name) = (start(), "log-stale");
        let connection = quick(&server, name)
            .ping_interval(Duration::from_millis(20))
            .max_pings_out(1)
            .connect()
            .unwrap();
        server.pause_pongs(true);
        wait_line(name, Level::Warn, "nats: stale connection");
        connection.close();
        wait_line(name, Level::Info, "nats: connection closed");
    });
    logger().lines.read(|lines| {
        for line in lines {
            let secret = CANARIES.iter().find(|canary| line.text.contains(*canary));
            assert!(secret.is_none(), "{secret:?} in {}", line.text);
            assert!(line.level < Level::Trace, "nothing is logged at this level: {}", line.text);
        }
    });
}
