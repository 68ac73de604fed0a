//! What the options become: plain values, checked, without listeners.

use std::time::Duration;

use super::servers::PoolPolicy;
use crate::auth::Credentials;
use crate::outbox::OutboxConfig;
use crate::protocol::Limits;
use crate::server_url::ServerUrl;
use crate::subscriptions::PendingLimits;
use crate::transport::{TcpOptions, TlsSettings};

/// The settings of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) name: Option<String>,
    pub(crate) servers: Vec<ServerUrl>,
    pub(crate) credentials: Credentials,
    pub(crate) pool: PoolPolicy,
    /// False: the first loss ends the connection.
    pub(crate) reconnect: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) reconnect_wait: Duration,
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
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) fail_requests_on_disconnect: bool,
    pub(crate) tcp: TcpOptions,
    pub(crate) tls: TlsSettings,
}
