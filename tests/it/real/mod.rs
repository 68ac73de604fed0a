//! The client against the real `nats-server`.
//!
//! | file | what happens to the server |
//! | --- | --- |
//! | `first_connect` | it is not there yet when the client connects |
//! | `restart` | it is killed and comes back on its port |
//! | `signals` | it is stopped and continued, terminated, told to leave |
//! | `limits` | it has limits, and lowers them |
//! | `odd` | nothing, but another publisher is odd, and so are our strings |
//! | `authorization` | it asks who we are, and changes its mind |
//! | `credentials` | it knows nkeys and JWTs, which change |
//! | `permissions` | it forbids some subjects |
//! | `choosing` | it is one of those that the program chooses from |
//! | `cluster` | it is one of three |
//! | `lame_duck` | it leaves, and the client leaves it first |
//! | `own_close` | it is left by the program itself |
//! | `tls`, `tls_refused` | it speaks TLS, with a good certificate or a bad one |
//! | `statistics` | whatever moves a counter |
//! | `watching` | nothing special, while a read listener and a trace look on |
//!
//! Every test ends with `Client::finish`, which checks the order of all events.

mod authorization;
mod choosing;
mod cluster;
mod credentials;
mod first_connect;
mod lame_duck;
mod limits;
mod odd;
mod own_close;
mod permissions;
mod restart;
mod signals;
mod statistics;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_refused;
mod watching;

use std::ops::Deref;
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder, Timeline};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, Error, Options, OptionsBuilder,
    ServerErrorKind, ServerList,
};

/// For what takes milliseconds: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(10);

/// Options that come back quickly, and take a slow machine for no dead server.
fn quick(servers: impl ServerList) -> OptionsBuilder {
    Options::builder()
        .servers(servers)
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(50))
        .reconnect_jitter(Duration::from_millis(20))
}

/// A connection and everything that its listeners were told.
struct Client {
    connection: Connection,
    recorder: Recorder,
}

impl Client {
    fn connect(options: OptionsBuilder) -> Self {
        let (client, recorder) = Self::try_connect(options);
        client.unwrap_or_else(|error| panic!("{error}\n{:?}", recorder.timeline("no connection")))
    }

    /// The recorder is returned too: a failed connect also has its timeline.
    fn try_connect(options: OptionsBuilder) -> (Result<Self, Error>, Recorder) {
        let recorder = Recorder::new();
        let connection = options
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone())
            .connect();
        let kept = recorder.clone();
        (connection.map(|connection| Self { connection, recorder: kept }), recorder)
    }

    /// Waits for the first event of that kind, now or earlier.
    fn wait(&self, wanted: impl Fn(&Kind) -> bool) -> ConnectionEvent {
        match self.recorder.wait_for_event(LIMIT, wanted) {
            Ok(Happening::Event(event)) => event,
            Ok(other) => panic!("not an event: {other}"),
            Err(timeline) => panic!("{timeline}"),
        }
    }

    /// Waits until so many events of that kind have come since the beginning.
    fn wait_count(&self, count: usize, wanted: impl Fn(&Kind) -> bool) {
        self.recorder
            .wait_for_count(LIMIT, count, |happening| happening.event_kind().is_some_and(&wanted))
            .unwrap_or_else(|timeline| panic!("{timeline}"));
    }

    fn count(&self, wanted: impl Fn(&Kind) -> bool) -> usize {
        self.recorder.count(|happening| happening.event_kind().is_some_and(&wanted))
    }

    /// Waits until the server has said that.
    fn wait_server_error(&self, wanted: impl Fn(&ServerErrorKind) -> bool) {
        self.recorder
            .wait_for(LIMIT, |happening| {
                matches!(happening, Happening::ServerError(error) if wanted(error.kind()))
            })
            .unwrap_or_else(|timeline| panic!("{timeline}"));
    }

    fn timeline(&self, reason: &str) -> Timeline {
        self.recorder.timeline(reason)
    }

    /// Publishes on `subject` and waits for it on a subscription of the same connection.
    fn round_trip(&self, subject: &str) {
        let subscription = self.subscribe(subject).unwrap();
        self.publish(subject, "round trip").unwrap();
        let message = subscription.next_timeout(LIMIT);
        let message = message.unwrap_or_else(|error| panic!("{error}\n{}", self.timeline("")));
        assert_eq!(message.payload(), b"round trip");
    }

    /// Closes, and checks that all events came in a legal order and `Closed` at the end.
    fn finish(self) {
        self.connection.close();
        self.wait(closed);
        self.recorder.check().unwrap_or_else(|timeline| panic!("{timeline}"));
    }
}

impl Deref for Client {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

fn disconnected(kind: &Kind) -> bool {
    matches!(kind, Kind::Disconnected { .. })
}

fn reconnect_failed(kind: &Kind) -> bool {
    matches!(kind, Kind::ReconnectFailed { .. })
}

fn reconnected(kind: &Kind) -> bool {
    matches!(kind, Kind::Reconnected { .. })
}

fn resubscribed(kind: &Kind) -> bool {
    matches!(kind, Kind::Resubscribed { .. })
}

fn lame_duck(kind: &Kind) -> bool {
    matches!(kind, Kind::LameDuck)
}

fn closed(kind: &Kind) -> bool {
    matches!(kind, Kind::Closed { .. })
}
