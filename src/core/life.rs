//! The state of a connection: one status, one place.
//!
//! ```text
//!  Connecting ──first handshake──▶ Connected ──drain──▶ Draining
//!       │                           │     ▲                │
//!       │                      loss │     │ handshake      │
//!       │                           ▼     │                │
//!       │                         Reconnecting             │
//!       └───────────────┬───────────┴──────────────────────┘
//!                       ▼  gave up, drained, or `close`
//!                     Closed
//! ```
//!
//! The reader thread alone makes the moves, except that `drain` goes from Connected to Draining and
//! `force_reconnect` to Reconnecting, ahead of the loss that it causes; leaving a lame duck does
//! the same. Each established connection has a number, its *epoch*; whoever notices a failure names
//! the epoch it belongs to, and the first report wins. The data is guarded by the lock in
//! `shared.rs`, under which events are also queued, so that the order of events is the order of the
//! moves.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::servers::Pool;
use super::waits::Losses;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::protocol::ServerInfo;
use crate::random::Random;
use crate::server_url::ServerUrl;
use crate::subscriptions::Mark;
use crate::sync::Arc;
use crate::transport::Stream;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionStatus {
    /// The first connection is being made.
    Connecting,
    /// A server is there.
    Connected,
    /// The server was lost; another connection is being made, or waited for.
    Reconnecting,
    /// A server is there; subscriptions end, then the connection.
    Draining,
    /// The end. A closed connection is never opened again.
    Closed,
}

impl fmt::Display for ConnectionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Draining => "draining",
            Self::Closed => "closed",
        })
    }
}

/// A drain of the connection, and whoever waits for it.
pub(crate) type DrainProgress = Outcome<Result<()>>;

/// An established connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) epoch: u64,
    pub(crate) stream: Arc<dyn Stream>,
    pub(crate) url: ServerUrl,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) tls: bool,
}

/// The data of a connection's life.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) status: ConnectionStatus,
    pub(crate) epoch: u64,
    pub(crate) link: Option<Link>,
    /// The first failure reported for the present epoch; it stays until the next one.
    pub(crate) failure: Option<Error>,
    /// The URL of the server in use, or of the last one, as events carry it.
    pub(crate) server: Option<Arc<str>>,
    pub(crate) info: Arc<ServerInfo>,
    /// The server in use has announced its end.
    pub(crate) lame_duck: bool,
    /// The server in use is being left for another one, as a lame duck or because the program asked
    /// for that, and does not count as a connection any more; requests from the mark on go to the
    /// next one.
    pub(crate) leaving: Option<Mark>,
    pub(crate) pool: Pool,
    pub(crate) random: Random,
    pub(crate) last_error: Option<Error>,
    /// When the present connection, or the last one, was made.
    pub(crate) connected_at: Option<Instant>,
    /// The connections in a row that did not last.
    pub(crate) losses: Losses,
    /// When the last connection was lost.
    pub(crate) lost_at: Option<Instant>,
    /// `force_reconnect` was called while waiting for the next attempt.
    pub(crate) hurry: bool,
    /// `close` was called, or the connection gives up.
    pub(crate) closing: bool,
    /// Why the connection ends, or none if the program ended it.
    pub(crate) close_cause: Option<Error>,
    pub(crate) drain: Option<Arc<DrainProgress>>,
    /// `Closed` has been delivered to every listener.
    pub(crate) closed_delivered: bool,
}

impl Life {
    pub(crate) fn new(pool: Pool, random: Random) -> Self {
        Self {
            status: ConnectionStatus::Connecting,
            epoch: 0,
            link: None,
            failure: None,
            server: None,
            info: Arc::new(ServerInfo::default()),
            lame_duck: false,
            leaving: None,
            pool,
            random,
            last_error: None,
            connected_at: None,
            losses: Losses::default(),
            lost_at: None,
            hurry: false,
            closing: false,
            close_cause: None,
            drain: None,
            closed_delivered: false,
        }
    }

    /// The connection in use, unless it is known to have failed or is being left.
    pub(crate) fn present(&self) -> Option<&Link> {
        self.link.as_ref().filter(|_| self.failure.is_none() && self.leaving.is_none())
    }

    /// Records the first failure of the present connection; a report about an earlier one changes
    /// nothing. Returns the stream to shut down.
    pub(crate) fn fail(&mut self, epoch: u64, cause: Error) -> Option<Arc<dyn Stream>> {
        let link = self.link.as_ref().filter(|link| link.epoch == epoch)?;
        let stream = Arc::clone(&link.stream);
        self.failure.get_or_insert(cause);
        Some(stream)
    }
}
