//! What a program sees of the servers, and its say in which comes next and when: the callbacks that
//! are asked for a decision.
//!
//! The callbacks run on the reader thread, with no lock held, in `outage.rs`. They are kept apart
//! from the settings and dropped with the end of the connection, because they may hold its handles.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::protocol::ServerInfo;
use crate::server_url::ServerUrl;
use crate::sync::Arc;

/// One server of a connection's pool, as it was when it was asked for; see
/// [`Connection::server_pool`](crate::Connection::server_pool).
#[derive(Debug, Clone)]
pub struct PoolServer {
    pub(super) url: String,
    pub(super) discovered: bool,
    pub(super) in_use: bool,
    pub(super) failed_attempts: u32,
    pub(super) last_error: Option<Error>,
}

impl PoolServer {
    /// Its URL, without user information.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it was discovered through the cluster, not configured.
    pub fn is_discovered(&self) -> bool {
        self.discovered
    }

    /// Whether the connection is established with it.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// How many attempts with it have failed in a row; a success makes it 0.
    pub fn failed_attempts(&self) -> u32 {
        self.failed_attempts
    }

    /// Why the last attempt with it failed, none after a success.
    pub fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }
}

/// What a server selection callback gets to choose from; see
/// [`OptionsBuilder::select_server`](crate::OptionsBuilder::select_server).
#[derive(Debug, Clone)]
pub struct ServerChoice {
    pub(super) servers: Vec<PoolServer>,
    pub(super) attempt: u32,
    pub(super) last_server: Option<Arc<str>>,
    pub(super) info: Option<Arc<ServerInfo>>,
}

impl ServerChoice {
    /// The servers of the pool, in the order in which they would come next. Not empty.
    pub fn servers(&self) -> &[PoolServer] {
        &self.servers
    }

    /// The number of the attempt to choose for, in this outage or first connect, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The URL of the server that was lost, without user information; none if there never was one.
    pub fn last_server(&self) -> Option<&str> {
        self.last_server.as_deref()
    }

    /// What the server that was lost had said about itself; none if there never was one.
    pub fn server_info(&self) -> Option<&ServerInfo> {
        self.info.as_deref()
    }
}

/// The server that a selection callback chose, and how long to wait before the attempt.
///
/// ```
/// use std::time::Duration;
/// use nats_blocking::SelectedServer;
///
/// let at_once = SelectedServer::new("nats://10.0.0.1:4222");
/// let later = SelectedServer::new("10.0.0.2").with_delay(Duration::from_millis(250));
/// # let _ = (at_once, later);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedServer {
    /// None: the text was no URL, so it is that of no server.
    url: Option<ServerUrl>,
    delay: Duration,
}

impl SelectedServer {
    /// The server of the pool with that URL (host and port count), to be tried at once.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: ServerUrl::parse(&url.into()).ok(), delay: Duration::ZERO }
    }

    /// Waits exactly so long before the attempt, in place of wait and jitter. `close` and
    /// `force_reconnect` cut it short.
    #[must_use = "it gives another choice back"]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub(super) fn url(&self) -> Option<&ServerUrl> {
        self.url.as_ref()
    }

    pub(super) fn delay(&self) -> Duration {
        self.delay
    }
}

/// Full passes over the servers to a delay.
pub(crate) type DelayDecider = dyn Fn(u32) -> Duration + Send + Sync;

/// A choice to a server, or none for the usual order.
pub(crate) type SelectDecider = dyn Fn(&ServerChoice) -> Option<SelectedServer> + Send + Sync;

/// The callbacks that are asked for a decision.
#[derive(Clone, Default)]
pub(crate) struct Deciders {
    pub(crate) delay: Option<Arc<DelayDecider>>,
    pub(crate) select: Option<Arc<SelectDecider>>,
}

impl fmt::Debug for Deciders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deciders")
            .field("reconnect_delay", &self.delay.is_some())
            .field("select_server", &self.select.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_choice_nor_a_callback_prints_a_secret() {
        let selected = SelectedServer::new("nats://joe:hunter2@a");
        let deciders = Deciders { delay: Some(Arc::new(|_| Duration::ZERO)), select: None };
        let shown = format!("{selected:?} {deciders:?} {:?}", SelectedServer::new("joe:hunter2"));
        assert!(!shown.contains("joe") && !shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("reconnect_delay: true"), "{shown}");
    }
}
