//! What the tests of faults share: a recorded client for any server, and limits.

use std::ops::Deref;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{Connection, ConnectionEventKind as Kind, OptionsBuilder};

pub(super) use crate::embedded::{LONG, Scene, event, names, quick, recorded};
use crate::support::watchdog;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// For calls whose time must pass.
pub(super) const SHORT: Duration = Duration::from_millis(200);

/// A client that has the fault may hang for ever: then the test fails with what every thread does.
pub(super) fn within(name: &str, body: impl FnOnce() + Send + 'static) {
    watchdog::within(2 * MINUTE, name, body);
}

/// A thread for a call that blocks.
pub(super) fn aside<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().name("aside".to_owned()).spawn(body).unwrap()
}

/// A connection and all that its listeners were told.
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) recorder: Recorder,
}

impl Client {
    pub(super) fn connect(url: &str) -> Self {
        Self::with(url, |options| options)
    }

    pub(super) fn with(url: &str, set: impl FnOnce(OptionsBuilder) -> OptionsBuilder) -> Self {
        let recorder = Recorder::new();
        let connection = recorded(set(quick(url)), &recorder).connect().unwrap();
        Self { connection, recorder }
    }

    /// Waits for the `count`th event of that name and gives its kind.
    pub(super) fn event(&self, wanted: &str, count: usize) -> Kind {
        event(&self.recorder, wanted, count)
    }

    /// How many events of that name there were.
    pub(super) fn count(&self, wanted: &str) -> usize {
        counted(&self.recorder, wanted)
    }

    /// Closes, and checks that the order of all events was legal.
    pub(super) fn finish(&self) {
        self.connection.close();
        self.event("Closed", 1);
        self.recorder.check().unwrap();
    }
}

impl Deref for Client {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

pub(super) fn counted(recorder: &Recorder, wanted: &str) -> usize {
    names(recorder).iter().filter(|name| **name == wanted).count()
}

pub(super) fn is_exception(happening: &Happening) -> bool {
    matches!(happening, Happening::Exception(_))
}

pub(super) fn is_server_error(happening: &Happening) -> bool {
    matches!(happening, Happening::ServerError(_))
}

/// How often `part` stands in `bytes`.
pub(super) fn occurrences(bytes: &[u8], part: &str) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part.as_bytes()).count()
}
