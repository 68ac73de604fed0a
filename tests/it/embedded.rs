//! What the tests against the embedded server share: a server with a recorded connection, and the
//! names of events.

use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{Connection, ConnectionEventKind, Options, OptionsBuilder};

/// For everything that takes milliseconds on an idle machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Options that come back soon after a loss.
pub(crate) fn quick(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .connect_timeout(Duration::from_secs(10))
        .reconnect_wait(Duration::from_millis(5))
        .reconnect_jitter(Duration::from_millis(1))
}

/// The recorder hears everything.
pub(crate) fn recorded(options: OptionsBuilder, recorder: &Recorder) -> OptionsBuilder {
    options.connection_listener(recorder.clone()).error_listener(recorder.clone())
}

/// A server, and a connection to it that a recorder listens to.
pub(crate) struct Scene {
    pub(crate) server: Server,
    pub(crate) recorder: Recorder,
    pub(crate) connection: Connection,
}

impl Drop for Scene {
    /// The order of events is checked at the end of every test, whatever else it was about.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.connection.close();
            self.recorder.check().unwrap();
        }
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(|options| options)
    }

    pub(crate) fn with(set: impl FnOnce(OptionsBuilder) -> OptionsBuilder) -> Self {
        let server = Server::start().unwrap();
        let recorder = Recorder::new();
        let options = set(quick(&server.url()));
        let connection = recorded(options, &recorder).connect().unwrap();
        Self { server, recorder, connection }
    }

    /// Waits for the `count`th event of that name and gives its kind.
    pub(crate) fn event(&self, wanted: &str, count: usize) -> ConnectionEventKind {
        event(&self.recorder, wanted, count)
    }

    /// Closes the connection and checks the order of all that happened.
    pub(crate) fn end(&self) -> Vec<&'static str> {
        self.connection.close();
        self.connection.wait_closed(LONG).unwrap();
        self.recorder.check().unwrap();
        names(&self.recorder)
    }
}

/// Waits for the `count`th event of that name and gives its kind.
pub(crate) fn event(recorder: &Recorder, wanted: &str, count: usize) -> ConnectionEventKind {
    let is_wanted = |happening: &Happening| happening.event_kind().map(name) == Some(wanted);
    let one: &dyn Fn(&Happening) -> bool = &is_wanted;
    let found = recorder.wait_for_sequence(LONG, &vec![one; count]).unwrap();
    found.last().and_then(|happening| happening.event_kind().cloned()).unwrap()
}

/// The names of the events so far.
pub(crate) fn names(recorder: &Recorder) -> Vec<&'static str> {
    recorder.events().iter().map(|event| name(event.kind())).collect()
}

pub(crate) fn name(kind: &ConnectionEventKind) -> &'static str {
    use ConnectionEventKind as Kind;
    match kind {
        Kind::Connected => "Connected",
        Kind::Disconnected { .. } => "Disconnected",
        Kind::Reconnecting { .. } => "Reconnecting",
        Kind::ReconnectFailed { .. } => "ReconnectFailed",
        Kind::Reconnected { .. } => "Reconnected",
        Kind::Resubscribed { .. } => "Resubscribed",
        Kind::DiscoveredServers { .. } => "DiscoveredServers",
        Kind::LameDuck => "LameDuck",
        Kind::StaleConnection { .. } => "StaleConnection",
        Kind::ForcedReconnect => "ForcedReconnect",
        Kind::Draining => "Draining",
        Kind::Closed { .. } => "Closed",
        _ => "unknown to these tests",
    }
}
