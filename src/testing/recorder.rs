//! A listener that remembers, for tests.
//!
//! [`Recorder`] is both kinds of listener. Tests wait on it for something to happen, with a
//! deadline; a wait that fails gives the whole [`Timeline`], so that a failed test shows what
//! happened instead.

use std::fmt;
use std::time::{Duration, Instant};

use super::grammar;
use crate::clock;
use crate::connection::Connection;
use crate::core::{ConnectionEvent, ConnectionEventKind, ConnectionStatus};
use crate::error::Error;
use crate::listener::{ConnectionListener, ErrorListener};
use crate::protocol::Message;
use crate::server_error::ServerError;
use crate::subscriptions::Consumer;
use crate::sync::{Arc, Condvar, Mutex, Rank};

/// Something that a listener was told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Happening {
    /// `connection_event`.
    Event(ConnectionEvent),
    /// `error_occurred`.
    ServerError(ServerError),
    /// `exception_occurred`.
    Exception(Error),
    /// `slow_consumer_detected`, with what the consumer said then.
    SlowConsumer {
        /// The consumer's id.
        id: u64,
        /// The consumer's subject.
        subject: String,
        /// Messages dropped so far.
        dropped: u64,
    },
    /// `slow_consumer_recovered`, with what the consumer said then.
    SlowConsumerRecovered {
        /// The consumer's id.
        id: u64,
        /// The consumer's subject.
        subject: String,
        /// Messages dropped so far.
        dropped: u64,
    },
    /// `message_discarded`.
    MessageDiscarded(Message),
    /// `socket_write_timeout`.
    SocketWriteTimeout,
}

impl Happening {
    /// The kind of event, if it is one.
    pub fn event_kind(&self) -> Option<&ConnectionEventKind> {
        match self {
            Self::Event(event) => Some(event.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::ServerError(error) => write!(f, "nats: server error: {error}"),
            Self::Exception(error) => write!(f, "nats: exception: {error}"),
            Self::SlowConsumer { id, subject, dropped } => {
                write!(f, "nats: slow consumer: id {id}, subject '{subject}', dropped {dropped}")
            }
            Self::SlowConsumerRecovered { id, subject, dropped } => write!(
                f,
                "nats: slow consumer recovered: id {id}, subject '{subject}', dropped {dropped}"
            ),
            Self::MessageDiscarded(message) => {
                write!(f, "nats: message discarded: subject '{}'", message.subject())
            }
            Self::SocketWriteTimeout => f.write_str("nats: socket write timeout"),
        }
    }
}

/// A happening, when the listener was called, and the connection's status in that call.
#[derive(Debug, Clone)]
pub struct Record {
    at: Duration,
    status: ConnectionStatus,
    happening: Happening,
}

impl Record {
    /// When the listener was called, since the recorder was made.
    pub fn at(&self) -> Duration {
        self.at
    }

    /// The connection's status in that call, which may be later than what it was told.
    pub fn status(&self) -> ConnectionStatus {
        self.status
    }

    /// What it was told.
    pub fn happening(&self) -> &Happening {
        &self.happening
    }
}

/// Everything that a recorder heard, to be shown.
///
/// `Debug` and `Display` are the same table, so that `expect` on a failed wait shows it.
#[derive(Clone)]
pub struct Timeline {
    reason: String,
    records: Vec<Record>,
}

impl Timeline {
    /// What was recorded.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; recorded so far:", self.reason)?;
        for record in &self.records {
            let status = record.status.to_string();
            writeln!(f, "{:>10.3?} {status:<12} {}", record.at, record.happening)?;
        }
        write!(f, "({} records)", self.records.len())
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Timeline {}

/// A listener of both kinds that remembers what it was told; a cheap handle, all clones record into
/// the same list.
///
/// ```
/// use std::time::Duration;
///
/// use nats_blocking::testing::{Recorder, Server};
/// use nats_blocking::{ConnectionEventKind, Options};
///
/// let server = Server::start()?;
/// let recorder = Recorder::new();
/// let connection = Options::builder()
///     .server(server.url())
///     .connection_listener(recorder.clone())
///     .error_listener(recorder.clone())
///     .connect()?;
/// server.drop_clients();
/// recorder.wait_for_event(Duration::from_secs(10), |kind| {
///     matches!(kind, ConnectionEventKind::Reconnected { .. })
/// })?;
/// connection.close();
/// recorder.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    start: Instant,
    records: Mutex<Vec<Record>>,
    more: Condvar,
}

impl Recorder {
    /// A recorder that has heard nothing.
    #[allow(clippy::new_without_default, reason = "a default recorder would hide its clock")]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            start: Instant::now(),
            records: Mutex::new(Rank::Outer, Vec::new()),
            more: Condvar::new(),
        }))
    }

    fn record(&self, connection: &Connection, happening: Happening) {
        let record = Record { at: self.0.start.elapsed(), status: connection.status(), happening };
        self.0.records.lock().push(record);
        self.0.more.notify_all();
    }

    /// What was recorded so far.
    pub fn records(&self) -> Vec<Record> {
        self.0.records.lock().clone()
    }

    /// The events recorded so far, without the errors.
    pub fn events(&self) -> Vec<ConnectionEvent> {
        let records = self.0.records.lock();
        records
            .iter()
            .filter_map(|record| match &record.happening {
                Happening::Event(event) => Some(event.clone()),
                _ => None,
            })
            .collect()
    }

    /// How many recorded happenings `wanted` says yes to.
    pub fn count(&self, wanted: impl Fn(&Happening) -> bool) -> usize {
        self.0.records.lock().iter().filter(|record| wanted(&record.happening)).count()
    }

    /// Everything so far, to be shown with that heading.
    pub fn timeline(&self, reason: impl Into<String>) -> Timeline {
        Timeline { reason: reason.into(), records: self.records() }
    }

    /// Waits until something has happened, now or earlier, and gives the first of it.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// The timeline, when `timeout` passes.
    pub fn wait_for(
        &self,
        timeout: Duration,
        wanted: impl Fn(&Happening) -> bool,
    ) -> Result<Happening, Timeline> {
        let mut found = self.wait_for_sequence(timeout, &[&wanted])?;
        found.pop().ok_or_else(|| self.timeline("an empty sequence was found"))
    }

    /// Waits until an event has happened, now or earlier, and gives the first.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// The timeline, when `timeout` passes.
    pub fn wait_for_event(
        &self,
        timeout: Duration,
        wanted: impl Fn(&ConnectionEventKind) -> bool,
    ) -> Result<Happening, Timeline> {
        self.wait_for(timeout, |happening| happening.event_kind().is_some_and(&wanted))
    }

    /// Waits until `count` happenings that `wanted` says yes to have been recorded.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// The timeline, when `timeout` passes.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nats_blocking::Options;
    /// use nats_blocking::testing::{Happening, Recorder, Server, Timeline};
    ///
    /// let (server, recorder) = (Server::start()?, Recorder::new());
    /// let options = Options::builder().server(server.url()).error_listener(recorder.clone());
    /// let connection = options.connect()?;
    /// server.send_error("One");
    /// server.send_error("Two");
    /// let said = |happening: &Happening| matches!(happening, Happening::ServerError(_));
    /// recorder.wait_for(Duration::from_secs(10), said)?;
    /// recorder.wait_for_count(Duration::from_secs(10), 2, said)?;
    /// let timeline: Timeline = recorder.timeline("just to look");
    /// assert_eq!(timeline.records().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_count(
        &self,
        timeout: Duration,
        count: usize,
        wanted: impl Fn(&Happening) -> bool,
    ) -> Result<(), Timeline> {
        let wanted: &dyn Fn(&Happening) -> bool = &wanted;
        self.wait_for_sequence(timeout, &vec![wanted; count]).map(|_| ())
    }

    /// Waits until things have happened one after the other, others between them or not.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// The timeline, when `timeout` passes.
    pub fn wait_for_sequence(
        &self,
        timeout: Duration,
        wanted: &[&dyn Fn(&Happening) -> bool],
    ) -> Result<Vec<Happening>, Timeline> {
        let deadline = clock::after(timeout);
        let mut found = Vec::new();
        let mut looked_at = 0;
        let mut records = self.0.records.lock();
        loop {
            for record in records.iter().skip(looked_at) {
                if wanted.get(found.len()).is_some_and(|wanted| wanted(&record.happening)) {
                    found.push(record.happening.clone());
                }
            }
            looked_at = records.len();
            if found.len() == wanted.len() {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let got = found.len();
                let reason = format!("{got} of {} came within {timeout:?}", wanted.len());
                return Err(Timeline { reason, records: records.clone() });
            }
            self.0.more.wait_until(&mut records, Some(deadline));
        }
    }

    /// Checks that the events so far are in a legal order; see
    /// [`ConnectionEventKind`] for the grammar.
    ///
    /// # Errors
    ///
    /// The timeline, headed by the first event that is out of place.
    pub fn check(&self) -> Result<(), Timeline> {
        let events = self.events();
        grammar::check(events.iter().map(|event| (event.kind(), event.skipped())))
            .map_err(|fault| self.timeline(fault))
    }
}

impl ConnectionListener for Recorder {
    fn connection_event(&self, connection: &Connection, event: &ConnectionEvent) {
        self.record(connection, Happening::Event(event.clone()));
    }
}

impl ErrorListener for Recorder {
    fn error_occurred(&self, connection: &Connection, error: &ServerError) {
        self.record(connection, Happening::ServerError(error.clone()));
    }

    fn exception_occurred(&self, connection: &Connection, error: &Error) {
        self.record(connection, Happening::Exception(error.clone()));
    }

    fn slow_consumer_detected(&self, connection: &Connection, consumer: &dyn Consumer) {
        let (id, subject, dropped) = (consumer.id(), consumer.subject(), consumer.dropped());
        self.record(connection, Happening::SlowConsumer { id, subject, dropped });
    }

    fn slow_consumer_recovered(&self, connection: &Connection, consumer: &dyn Consumer) {
        let (id, subject, dropped) = (consumer.id(), consumer.subject(), consumer.dropped());
        self.record(connection, Happening::SlowConsumerRecovered { id, subject, dropped });
    }

    fn message_discarded(&self, connection: &Connection, message: &Message) {
        self.record(connection, Happening::MessageDiscarded(message.clone()));
    }

    fn socket_write_timeout(&self, connection: &Connection) {
        self.record(connection, Happening::SocketWriteTimeout);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({} records)", self.0.records.lock().len())
    }
}
