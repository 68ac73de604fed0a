//! A connection in a scenario, what its listener heard, and what must hold at the end of each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_blocking::internals::connect_over;
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, ConnectionStatus, Error, ErrorNotice, Options,
    OptionsBuilder,
};
use shuttle::thread::{JoinHandle, spawn};

use super::server::Server;

/// No time passes: whoever waits so long must be woken.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What the listeners heard, in order.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Vec<&'static str>>);

impl Heard {
    fn add(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    pub(crate) fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, what: &str) -> u64 {
        self.all().iter().filter(|heard| **heard == what).count() as u64
    }
}

pub(crate) struct Scene {
    pub(crate) server: Arc<Server>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) connection: Connection,
}

impl Scene {
    /// A connection that is up.
    pub(crate) fn open() -> Self {
        Self::with(Server::new(), |options| options).expect("a connection")
    }

    pub(crate) fn with(
        server: Arc<Server>,
        set: impl FnOnce(OptionsBuilder) -> OptionsBuilder,
    ) -> Result<Self, Error> {
        let heard = Arc::new(Heard::default());
        let (events, errors) = (Arc::clone(&heard), Arc::clone(&heard));
        let options = Options::builder()
            .server("nats://a")
            .reconnect_jitter(Duration::ZERO)
            .ping_interval(None)
            .on_event(move |_, event| events.add(event_name(event.kind())))
            .on_error(move |_, notice| errors.add(notice_name(notice)));
        let options = set(options).build().expect("options");
        let connection = connect_over(&options, server.dial())?;
        Ok(Self { server, heard, connection })
    }

    /// A thread that cuts connection `number` (from 0) at any moment.
    pub(crate) fn cutter(&self, number: usize) -> JoinHandle<()> {
        let server = Arc::clone(&self.server);
        spawn(move || server.cut(number))
    }

    /// A thread that does something with the connection.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let connection = self.connection.clone();
        spawn(move || body(&connection))
    }

    /// A thread that publishes `<name>1`, `<name>2` and so on, and returns what was accepted.
    pub(crate) fn publisher(
        &self,
        name: &'static str,
        subject: &'static str,
        count: usize,
    ) -> JoinHandle<Vec<String>> {
        self.thread(move |connection| {
            let publish = |payload: &String| match connection.publish(subject, payload) {
                Ok(()) => true,
                Err(error) => {
                    let ends =
                        error.is_closed() || error.kind() == nats_blocking::ErrorKind::Draining;
                    assert!(ends, "{error}");
                    false
                }
            };
            (1..=count).map(|number| format!("{name}{number}")).filter(publish).collect()
        })
    }

    /// Closes, and asserts what holds after every end.
    pub(crate) fn close(&self) {
        self.connection.close();
        self.assert_over();
    }

    /// Asserts what holds after every end.
    pub(crate) fn assert_over(&self) {
        let mut closed = self.connection.wait_closed(LONG);
        if closed.is_err() {
            // Time passed; it does so once.
            closed = self.connection.wait_closed(LONG);
        }
        assert!(closed.is_ok(), "{closed:?}");
        assert_eq!(self.connection.status(), ConnectionStatus::Closed);
        let counts = self.connection.statistics();
        assert_eq!((counts.panics(), counts.skipped()), (0, 0));
        assert_grammar(&self.heard.all());
        assert_eq!(self.heard.count("Disconnected"), counts.disconnects());
        assert_eq!(self.heard.count("Reconnected"), counts.reconnects());
        assert_eq!(self.heard.count("SlowConsumer"), counts.slow_consumers());
        let refused = self.connection.publish("a", "late").map_err(|error| error.is_closed());
        assert_eq!(refused, Err(true), "publishing after the end");
    }

    /// Each accepted message was written once, in the order of its publisher, or is counted; there
    /// were no others.
    pub(crate) fn assert_written(&self, subject: &str, accepted: &[Vec<String>]) {
        let known = self.assert_order(subject, accepted);
        let counts = self.connection.statistics();
        let total: usize = accepted.iter().map(Vec::len).sum();
        let lost = counts.torn() + counts.discarded();
        assert_eq!(known as u64 + lost, total as u64, "unaccounted; {counts}");
        assert_eq!(counts.out_messages(), total as u64);
    }

    /// What was written was accepted, and came once, in the order of its publisher. Returns how
    /// many were written.
    pub(crate) fn assert_order(&self, subject: &str, accepted: &[Vec<String>]) -> usize {
        let written = self.server.state().payloads(subject);
        let mut known = 0;
        for payloads in accepted {
            let of: Vec<_> = written.iter().filter(|payload| payloads.contains(payload)).collect();
            let kept: Vec<_> =
                payloads.iter().filter(|payload| written.contains(payload)).collect();
            assert_eq!(of, kept, "twice, or out of order");
            known += of.len();
        }
        assert_eq!(written.len(), known, "not accepted: {written:?}");
        known
    }
}

/// The grammar of events: `Connected` first, each loss once and followed by attempts that end, and
/// `Closed` last.
fn assert_grammar(heard: &[&str]) {
    let events = heard.iter().filter(|what| Kinds::is_event(what));
    let mut state = "New";
    for event in events {
        state = match (state, *event) {
            ("New", "Connected") => "Up",
            ("New" | "Down", "Reconnecting") => "Trying",
            ("Trying", "ReconnectFailed") => "Down",
            ("Trying", "Connected") => "Up",
            ("Trying", "Reconnected") => "Back",
            ("Back", "Resubscribed") => "Up",
            ("Up", "Draining" | "LameDuck") => "Up",
            ("Up", "ForcedReconnect") => "Forced",
            ("Up" | "Forced", "Disconnected") => "Down",
            ("New" | "Up" | "Down", "Closed") => "Over",
            _ => panic!("{event} after {state}: {heard:?}"),
        };
    }
    assert_eq!(state, "Over", "{heard:?}");
}

struct Kinds;

impl Kinds {
    fn is_event(what: &str) -> bool {
        !matches!(
            what,
            "Exception"
                | "ServerError"
                | "SlowConsumer"
                | "Recovered"
                | "Discarded"
                | "WriteTimeout"
        )
    }
}

fn event_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Connected => "Connected",
        Kind::Disconnected { .. } => "Disconnected",
        Kind::Reconnecting { .. } => "Reconnecting",
        Kind::ReconnectFailed { .. } => "ReconnectFailed",
        Kind::Reconnected { .. } => "Reconnected",
        Kind::Resubscribed { .. } => "Resubscribed",
        Kind::ForcedReconnect => "ForcedReconnect",
        Kind::LameDuck => "LameDuck",
        Kind::Draining => "Draining",
        Kind::Closed { .. } => "Closed",
        _ => "another",
    }
}

fn notice_name(notice: &ErrorNotice) -> &'static str {
    match notice {
        ErrorNotice::ServerError(_) => "ServerError",
        ErrorNotice::SlowConsumer(_) => "SlowConsumer",
        ErrorNotice::SlowConsumerRecovered(_) => "Recovered",
        ErrorNotice::MessageDiscarded(_) => "Discarded",
        ErrorNotice::SocketWriteTimeout => "WriteTimeout",
        _ => "Exception",
    }
}
