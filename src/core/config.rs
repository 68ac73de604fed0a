//! What the options become: plain values, checked, and the two calls for debugging. Listeners have
//! their place in the hub.

use std::fmt;
use std::time::Duration;

use super::choice::Deciders;
use super::servers::PoolPolicy;
use crate::auth::Authorization;
use crate::outbox::OutboxConfig;
use crate::protocol::Limits;
use crate::read_listener::ReadListener;
use crate::server_url::ServerUrl;
use crate::subscriptions::PendingLimits;
use crate::sync::Arc;
use crate::trace::TraceFn;
use crate::transport::{OwnConnector, TcpOptions, TlsSettings, WebSocketSettings};

/// How a first connect goes on after it has failed; see
/// [`OptionsBuilder::retry_on_failed_connect`](crate::OptionsBuilder::retry_on_failed_connect).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryConnect {
    /// `connect` keeps trying for so long in all, then fails with the cause for each server.
    Within(Duration),
    /// `connect` returns at once with a connection in status
    /// [`Connecting`](crate::ConnectionStatus::Connecting), which keeps trying.
    InBackground,
}

/// The settings of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) name: Option<String>,
    pub(crate) servers: Vec<ServerUrl>,
    pub(crate) authorization: Authorization,
    pub(crate) pool: PoolPolicy,
    /// None: one pass over the servers.
    pub(crate) retry_connect: Option<RetryConnect>,
    /// Callbacks of the program; the connection takes them out of here.
    pub(crate) deciders: Deciders,
    /// False: the first loss ends the connection.
    pub(crate) reconnect: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) reconnect_wait: Duration,
    /// The first attempt after a loss waits as after a full pass.
    pub(crate) wait_before_reconnect: bool,
    pub(crate) reconnect_jitter: Duration,
    pub(crate) reconnect_jitter_tls: Duration,
    /// None: no keep-alive.
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) max_pings_out: Option<u32>,
    pub(crate) write_timeout: Duration,
    pub(crate) outbox: OutboxConfig,
    pub(crate) limits: Limits,
    pub(crate) pending_limits: PendingLimits,
    pub(crate) inbox_prefix: String,
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    /// Publishing to wildcards and empty tokens is refused here.
    pub(crate) strict_subjects: bool,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) fail_requests_on_disconnect: bool,
    pub(crate) reconnect_on_lame_duck: bool,
    pub(crate) no_events_after_close: bool,
    pub(crate) disconnected_on_close: bool,
    pub(crate) tcp: TcpOptions,
    /// What brings transports in place of TCP.
    pub(crate) connector: Option<OwnConnector>,
    pub(crate) tls: TlsSettings,
    pub(crate) websocket: WebSocketSettings,
    pub(crate) watch: Watch,
}

/// What looks at the reader thread's work, for debugging.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    pub(crate) read: Option<Arc<dyn ReadListener>>,
    pub(crate) trace: Option<Arc<TraceFn>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("read", &self.read.is_some())
            .field("trace", &self.trace.is_some())
            .finish()
    }
}
