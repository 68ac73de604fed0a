//! What a connection tells: the events of its life and the errors along the way.
//!
//! Plain values that carry what was true when it happened. Who is told, and how, is in `events.rs`.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::protocol::Message;
use crate::server_error::ServerError;
use crate::subscriptions::ConsumerView;
use crate::sync::Arc;

/// What happened to a connection.
///
/// The order of a connection's events is a grammar:
///
/// ```text
/// life   = start Connected notice*
///          (outage Reconnecting Reconnected Resubscribed notice*)* [outage] Closed
///        | start Closed
/// start  = (Reconnecting ReconnectFailed)* [Reconnecting]     -- the last only before Connected
/// outage = Disconnected (Reconnecting ReconnectFailed)*
/// notice = DiscoveredServers | LameDuck | StaleConnection | ForcedReconnect | Draining
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionEventKind {
    /// The first handshake completed; once per connection, also when it came late.
    Connected,
    /// An established connection was lost; exactly once per loss.
    Disconnected {
        /// Why. What the server said with `-ERR` comes before the end of the stream that follows.
        cause: Error,
    },
    /// An attempt to connect to the event's server begins, in an outage or in a first connect that
    /// is retried.
    Reconnecting {
        /// The attempt's number in this outage, from 1.
        attempt: u32,
    },
    /// That attempt failed, or was cut off by `close`.
    ReconnectFailed {
        /// The attempt's number in this outage, from 1.
        attempt: u32,
        /// Why: name resolution, TCP, TLS, INFO, authorization, time-out or close.
        cause: Error,
    },
    /// The handshake on a server completed again.
    Reconnected {
        /// The attempts that it took, from 1.
        attempts: u32,
        /// How long the connection was down.
        downtime: Duration,
    },
    /// Every live subscription has been written to the new server; directly after `Reconnected`.
    Resubscribed {
        /// How many there are.
        subscriptions: usize,
    },
    /// The cluster's list of servers changed. Not both lists are empty.
    DiscoveredServers {
        /// URLs that were not known before.
        added: Vec<String>,
        /// URLs that are gone from the list.
        removed: Vec<String>,
    },
    /// The server is about to shut down; once per server session.
    LameDuck,
    /// The server stopped answering pings; `Disconnected` follows.
    StaleConnection {
        /// The keep-alive pings without an answer.
        pings_outstanding: u32,
    },
    /// `force_reconnect` was called while connected; `Disconnected` follows.
    ForcedReconnect,
    /// `drain` began.
    Draining,
    /// The end; exactly once, and the very last call that a listener gets.
    Closed {
        /// Why, or none if the program closed or drained the connection.
        cause: Option<Error>,
    },
}

/// Something that happened to a connection, with what was true when it happened.
///
/// [`Display`](fmt::Display) begins with the texts of the Java client (`nats: connection opened`,
/// `nats: lame duck mode`) and goes on with the event's data.
#[derive(Debug, Clone)]
pub struct ConnectionEvent {
    time: SystemTime,
    server: Option<Arc<str>>,
    kind: ConnectionEventKind,
    pub(super) skipped: u64,
}

impl ConnectionEvent {
    pub(crate) fn new(server: Option<Arc<str>>, kind: ConnectionEventKind) -> Self {
        #[allow(clippy::disallowed_methods, reason = "shown to people, decides nothing")]
        let time = SystemTime::now();
        Self { time, server, kind, skipped: 0 }
    }

    /// When it happened (not when the listener is called), by the wall clock.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// The URL of the server it happened with, without user information.
    ///
    /// For `Disconnected` and `Closed` the server that was lost; none if there never was one.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// What happened.
    pub fn kind(&self) -> &ConnectionEventKind {
        &self.kind
    }

    /// How many notices were left out before this one, and after the last event, because the
    /// listener was behind by more than 1,024: error notices, changes of the list of servers, and
    /// pairs of `Reconnecting` and `ReconnectFailed`. Changes of the list are left out too where
    /// those that wait name 10,000 servers, discarded messages where 8 MiB of them wait.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ConnectionEventKind as K;
        let text = match &self.kind {
            K::Connected => "connection opened",
            K::Disconnected { .. } => "connection disconnected",
            K::Reconnecting { .. } => "reconnecting",
            K::ReconnectFailed { .. } => "reconnect failed",
            K::Reconnected { .. } => "connection reconnected",
            K::Resubscribed { .. } => "subscriptions re-established",
            K::DiscoveredServers { .. } => "discovered servers",
            K::LameDuck => "lame duck mode",
            K::StaleConnection { .. } => "stale connection",
            K::ForcedReconnect => "reconnect forced",
            K::Draining => "draining",
            K::Closed { .. } => "connection closed",
        };
        write!(f, "nats: {text}")?;
        if let Some(server) = &self.server {
            write!(f, " {server}")?;
        }
        match &self.kind {
            K::Disconnected { cause } | K::Closed { cause: Some(cause) } => write!(f, ": {cause}"),
            K::Reconnecting { attempt } => write!(f, ", attempt {attempt}"),
            K::ReconnectFailed { attempt, cause } => write!(f, ", attempt {attempt}: {cause}"),
            K::Reconnected { attempts, downtime } => {
                write!(f, ", attempt {attempts}, down for {downtime:.1?}")
            }
            K::Resubscribed { subscriptions } => write!(f, ", subscriptions {subscriptions}"),
            K::DiscoveredServers { added, removed } => {
                write!(f, ", added [{}], removed [{}]", added.join(", "), removed.join(", "))
            }
            K::StaleConnection { pings_outstanding } => {
                write!(f, ", pings outstanding {pings_outstanding}")
            }
            _ => Ok(()),
        }
    }
}

/// An error along the way, as given to an [`ErrorListener`](crate::ErrorListener) method of its
/// own, or whole to `on_error` and [`Connection::events`](crate::Connection::events).
///
/// ```
/// use nats_blocking::{Consumer, ErrorNotice, Options, ServerErrorKind};
///
/// let options = Options::builder()
///     .on_error(|_, notice| match notice {
///         ErrorNotice::ServerError(error) => match error.kind() {
///             ServerErrorKind::PermissionsViolation { operation, subject, .. } => {
///                 println!("not permitted: {operation:?} '{subject}'");
///             }
///             _ => println!("the server said: {error}"),
///         },
///         ErrorNotice::SlowConsumer(consumer) => println!("slow: {}", consumer.subject()),
///         other => println!("{other}"),
///     })
///     .build()?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ErrorNotice {
    /// The server sent `-ERR`.
    ServerError(ServerError),
    /// The library met a failure and handled it.
    Exception(Error),
    /// Messages are being dropped because this consumer is at its limit; once per episode.
    SlowConsumer(ConsumerView),
    /// The consumer has worked off half of its limit.
    SlowConsumerRecovered(ConsumerView),
    /// An outgoing message was dropped because the outbox is full and `DropNewest` is chosen.
    MessageDiscarded(Message),
    /// A write to the socket took longer than the write time-out; the connection is replaced.
    SocketWriteTimeout,
}

impl fmt::Display for ErrorNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerError(error) => write!(f, "nats: server error: {error}"),
            Self::Exception(error) => write!(f, "nats: exception: {error}"),
            Self::SlowConsumer(consumer) => write!(
                f,
                "nats: slow consumer: sid {}, subject '{}', pending {}, dropped {}",
                consumer.id(),
                consumer.subject(),
                consumer.pending_messages(),
                consumer.dropped()
            ),
            Self::SlowConsumerRecovered(consumer) => write!(
                f,
                "nats: slow consumer recovered: sid {}, subject '{}', dropped {}",
                consumer.id(),
                consumer.subject(),
                consumer.dropped()
            ),
            Self::MessageDiscarded(message) => {
                write!(f, "nats: message discarded: subject '{}'", message.subject())
            }
            Self::SocketWriteTimeout => f.write_str("nats: socket write timeout"),
        }
    }
}

/// One item of [`Connection::events`](crate::Connection::events): an event or an error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice {
    /// Something that happened to the connection.
    Event(ConnectionEvent),
    /// An error along the way.
    Error {
        /// What it is.
        notice: ErrorNotice,
        /// How many notices were left out just before it; see [`ConnectionEvent::skipped`].
        skipped: u64,
    },
}

impl Notice {
    /// Whether it is `Closed`, after which nothing comes.
    pub(super) fn is_end(&self) -> bool {
        let Self::Event(event) = self else { return false };
        matches!(event.kind, ConnectionEventKind::Closed { .. })
    }

    pub(super) fn with_skipped(mut self, count: u64) -> Self {
        match &mut self {
            Self::Event(event) => event.skipped = count,
            Self::Error { skipped, .. } => *skipped = count,
        }
        self
    }
}

impl From<ErrorNotice> for Notice {
    fn from(notice: ErrorNotice) -> Self {
        Self::Error { notice, skipped: 0 }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::Error { notice, .. } => notice.fmt(f),
        }
    }
}
