//! The log lines of a connection, through a logger that is itself a user of the connection.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{ConnectionEventKind, Options, WeakConnection};

use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(10);

/// Every logger of this process: there can be one only, so it serves all tests and keeps what the
/// server that a test watches is named in.
#[derive(Default)]
struct Curious {
    watched: Mutex<Option<(String, WeakConnection)>>,
    lines: Mutex<Vec<(Level, String)>>,
}

impl Log for Curious {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((server, connection)) = watched else { return };
        if !text.contains(&server) {
            return;
        }
        if let Some(connection) = connection.upgrade() {
            // Takes the locks of the connection, and publishes the line.
            let status = connection.status();
            let _ = connection.publish("log", format!("{status} {text} {connection:?}"));
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((record.level(), text));
    }

    fn flush(&self) {}
}

static LOGGER: OnceLock<Curious> = OnceLock::new();

#[test]
fn a_logger_may_use_the_connection_and_hears_each_event_at_its_level() {
    let logger = LOGGER.get_or_init(Curious::default);
    // Another logger would be a test's, of which there is this one.
    log::set_logger(logger).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let lines = within(LIMIT * 3, "a curious logger", || {
        let server = Server::start().unwrap();
        let recorder = Recorder::new();
        let connection = Options::builder()
            .server(server.url())
            .reconnect_wait(Duration::from_millis(10))
            .connection_listener(recorder.clone())
            .connect()
            .unwrap();
        let watched = (server.url(), connection.downgrade());
        *logger.watched.lock().unwrap() = Some(watched);
        server.lame_duck();
        recorder
            .wait_for_event(LIMIT, |kind| matches!(kind, ConnectionEventKind::LameDuck))
            .unwrap();
        server.drop_clients();
        recorder
            .wait_for_event(LIMIT, |kind| matches!(kind, ConnectionEventKind::Resubscribed { .. }))
            .unwrap();
        connection.drain(LIMIT).unwrap();
        recorder.check().unwrap();
        *logger.watched.lock().unwrap() = None;
        std::mem::take(&mut *logger.lines.lock().unwrap())
    });
    for (level, beginning) in [
        (Level::Info, "nats: lame duck mode"),
        (Level::Warn, "nats: connection disconnected"),
        (Level::Debug, "nats: reconnecting"),
        (Level::Info, "nats: connection reconnected"),
        (Level::Info, "nats: draining"),
        (Level::Info, "nats: connection closed"),
    ] {
        let found = lines.iter().any(|(at, text)| *at == level && text.starts_with(beginning));
        assert!(found, "no '{beginning}' at {level} in {lines:?}");
    }
}
