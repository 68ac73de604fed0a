//! The builder of options, by value.
//!
//! A setting that cannot be used is an error of [`build`](OptionsBuilder::build), naming it; the
//! defaults stand in `Default` below.

use std::fmt;
use std::time::Duration;

use crate::auth::{Credentials, Secret};
use crate::connection::Connection;
use crate::core::{Config, ConnectionEvent, ConnectionEventKind as Kind, ErrorNotice, PoolPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::listener::{
    ConnectionListener, ErrorListener, LoggingErrorListener, Sink, connection_sink, error_sink,
    kind_sink, notice_sink,
};
use crate::options::{Options, ServerList, check};
use crate::outbox::{OutboxConfig, OutboxPolicy, ReconnectBuffer};
use crate::protocol::Limits;
use crate::server_url::ServerUrl;
use crate::subscriptions::PendingLimits;
use crate::transport::TcpOptions;

/// Connects with default options to the first of the servers that accepts.
///
/// `servers` is anything that names servers; a text may be a comma-separated list. Without a scheme
/// a server is `nats://`, without a port it is 4222; a URL may hold `user:password@` or `token@`.
///
/// # Blocking
///
/// Up to the connect time-out (2 s) for each server.
///
/// # Errors
///
/// Those of [`Options::connect`].
///
/// ```no_run
/// let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
pub fn connect(servers: impl ServerList) -> Result<Connection> {
    Options::builder().servers(servers).connect()
}

impl Options {
    /// Starts with the defaults: `nats://localhost:4222`, endless reconnecting.
    pub fn builder() -> OptionsBuilder {
        OptionsBuilder::default()
    }
}

/// Sets options; see [`Options::builder`]. The last setting of the same option wins, except that
/// servers and listeners add up.
#[derive(Clone)]
#[must_use = "a builder does nothing until it builds or connects"]
pub struct OptionsBuilder {
    servers: Vec<String>,
    config: Config,
    sinks: Vec<Sink>,
    hears_errors: bool,
}

impl Default for OptionsBuilder {
    fn default() -> Self {
        let config = Config {
            name: None,
            servers: Vec::new(),
            credentials: Credentials::default(),
            pool: PoolPolicy {
                max_attempts: None,
                keep_order: false,
                ignore_discovered: false,
                keep_refusing: false,
            },
            reconnect: true,
            connect_timeout: Duration::from_secs(2),
            close_timeout: Duration::from_secs(2),
            reconnect_wait: Duration::from_secs(2),
            // 100 ms, the usual default, would bring a thousand clients back in one window.
            reconnect_jitter: Duration::from_secs(1),
            reconnect_jitter_tls: Duration::from_secs(1),
            ping_interval: Some(Duration::from_secs(120)),
            max_pings_out: Some(2),
            write_timeout: Duration::from_secs(60),
            outbox: OutboxConfig {
                limit: 8 * 1024 * 1024,
                policy: OutboxPolicy::Block(Duration::from_secs(2)),
                reconnect_buffer: ReconnectBuffer::Bytes(8 * 1024 * 1024),
                control_line: 4096,
            },
            limits: Limits::default(),
            pending_limits: PendingLimits::default(),
            inbox_prefix: "_INBOX".to_owned(),
            verbose: false,
            pedantic: false,
            echo: true,
            headers: true,
            no_responders: true,
            fail_requests_on_disconnect: false,
            // What the kernel holds for a dead peer is what a loss can swallow unseen.
            tcp: TcpOptions { send_buffer: Some(256 * 1024), receive_buffer: None },
        };
        Self { servers: Vec::new(), config, sinks: Vec::new(), hears_errors: false }
    }
}

macro_rules! on_event {
    ($($(#[$doc:meta])* $name:ident: $pattern:pat,)+) => {
        /// Closures for single kinds of events; each adds a listener.
        impl OptionsBuilder {
            $($(#[$doc])*
            pub fn $name<F>(self, call: F) -> Self
            where
                F: Fn(&Connection, &ConnectionEvent) + Send + Sync + 'static,
            {
                self.sink(kind_sink(|kind| matches!(kind, $pattern), call))
            })+
        }
    };
}

on_event! {
    /// Calls the closure when the first handshake completed.
    on_connected: Kind::Connected,
    /// Calls the closure when an established connection was lost.
    on_disconnected: Kind::Disconnected { .. },
    /// Calls the closure when an attempt to reconnect begins.
    on_reconnecting: Kind::Reconnecting { .. },
    /// Calls the closure when an attempt to reconnect failed.
    on_reconnect_failed: Kind::ReconnectFailed { .. },
    /// Calls the closure when the connection is back.
    on_reconnected: Kind::Reconnected { .. },
    /// Calls the closure when the subscriptions are known to the new server.
    on_resubscribed: Kind::Resubscribed { .. },
    /// Calls the closure when the cluster's list of servers changed.
    on_discovered_servers: Kind::DiscoveredServers { .. },
    /// Calls the closure when the server is about to shut down.
    on_lame_duck: Kind::LameDuck,
    /// Calls the closure when the server stopped answering pings.
    on_stale_connection: Kind::StaleConnection { .. },
    /// Calls the closure when `force_reconnect` was called.
    on_forced_reconnect: Kind::ForcedReconnect,
    /// Calls the closure when `drain` began.
    on_draining: Kind::Draining,
    /// Calls the closure at the end, as the last call of all.
    on_closed: Kind::Closed { .. },
}

/// Servers and who to be there.
impl OptionsBuilder {
    /// Adds a server, or a comma-separated list of servers.
    pub fn server(self, server: impl ServerList) -> Self {
        self.servers(server)
    }

    /// Adds servers.
    pub fn servers(mut self, servers: impl ServerList) -> Self {
        self.servers.extend(servers.texts());
        self
    }

    /// The name of the connection, as the server's monitoring and the thread names show it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// User and password, for servers whose URL has none.
    pub fn user_and_password(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.config.credentials.user = Some((Secret::new(user), Secret::new(password)));
        self
    }

    /// A token, for servers whose URL has none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.config.credentials.token = Some(Secret::new(token));
        self
    }

    /// Uses the servers in the given order instead of a random one.
    pub fn no_randomize(mut self) -> Self {
        self.config.pool.keep_order = true;
        self
    }

    /// Uses the configured servers only, not those that the cluster announces.
    pub fn ignore_discovered_servers(mut self) -> Self {
        self.config.pool.ignore_discovered = true;
        self
    }

    /// Keeps trying a server that has refused us twice with the same text; by default it is given
    /// up.
    pub fn ignore_authorization_abort(mut self) -> Self {
        self.config.pool.keep_refusing = true;
        self
    }
}

/// Time and reconnecting.
impl OptionsBuilder {
    /// What one attempt to connect may take, from the host's name to the server's first PONG.
    /// Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// What [`close`](Connection::close) may take; half of it is for writing what is queued.
    /// Default 2 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.config.close_timeout = timeout;
        self
    }

    /// The failed attempts in a row after which a server is given up, `None` for never (the
    /// default). With 0 the first loss ends the connection. When no server is left the connection
    /// closes.
    pub fn max_reconnects(mut self, attempts: impl Into<Option<u32>>) -> Self {
        let attempts = attempts.into();
        self.config.reconnect = attempts != Some(0);
        self.config.pool.max_attempts = attempts.filter(|attempts| *attempts > 0);
        self
    }

    /// The first loss ends the connection: `max_reconnects(0)`.
    pub fn no_reconnect(self) -> Self {
        self.max_reconnects(0)
    }

    /// The wait after each full pass over the servers. Default 2 s. The first attempt after a loss
    /// does not wait, unless five connections in a row lasted less than this (or than a second).
    pub fn reconnect_wait(mut self, wait: Duration) -> Self {
        self.config.reconnect_wait = wait;
        self
    }

    /// The most that is added at random before every attempt but the first. Default 1 s; zero is
    /// none.
    pub fn reconnect_jitter(mut self, jitter: Duration) -> Self {
        self.config.reconnect_jitter = jitter;
        self
    }

    /// The jitter while any server is spoken to over TLS. Default 1 s.
    pub fn reconnect_jitter_tls(mut self, jitter: Duration) -> Self {
        self.config.reconnect_jitter_tls = jitter;
        self
    }

    /// How long the server may be silent before it is pinged, `None` for no pings. Default 2 min.
    /// A dead server is noticed after this interval times one more than
    /// [`max_pings_out`](Self::max_pings_out).
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.config.ping_interval = interval.into();
        self
    }

    /// How many keep-alive pings may be without an answer, `None` for any number. Default 2.
    pub fn max_pings_out(mut self, pings: impl Into<Option<u32>>) -> Self {
        self.config.max_pings_out = pings.into();
        self
    }

    /// What the write of one batch may take before the connection is replaced. Default 1 min.
    pub fn socket_write_timeout(mut self, timeout: Duration) -> Self {
        self.config.write_timeout = timeout;
        self
    }

    /// Ends requests under way with `Disconnected` when the connection is lost. By default they
    /// wait out their time: the reply may still come.
    pub fn fail_requests_on_disconnect(mut self) -> Self {
        self.config.fail_requests_on_disconnect = true;
        self
    }
}

/// Sizes and limits.
impl OptionsBuilder {
    /// The bytes that may wait to be written while connected. Default 8 MiB.
    pub fn outbox_size(mut self, bytes: usize) -> Self {
        self.config.outbox.limit = bytes;
        self
    }

    /// What a publisher does when the outbox is full. Default: wait up to 2 s.
    pub fn outbox_policy(mut self, policy: OutboxPolicy) -> Self {
        self.config.outbox.policy = policy;
        self
    }

    /// What may wait while the connection is down. Default 8 MiB.
    pub fn reconnect_buffer(mut self, buffer: ReconnectBuffer) -> Self {
        self.config.outbox.reconnect_buffer = buffer;
        self
    }

    /// The longest protocol line that is sent, in bytes. Default 4096, that of the server.
    pub fn max_control_line(mut self, bytes: usize) -> Self {
        self.config.outbox.control_line = bytes;
        self
    }

    /// The longest protocol line that is accepted from the server, in bytes; INFO has a limit of
    /// 1 MiB of its own. Default 64 KiB.
    pub fn max_incoming_control_line(mut self, bytes: usize) -> Self {
        self.config.limits.control_line = bytes;
        self
    }

    /// The largest message that is accepted from the server, in bytes of payload and headers.
    /// Default 64 MiB, the most that a server can be configured for.
    pub fn max_incoming_payload(mut self, bytes: usize) -> Self {
        self.config.limits.payload = bytes;
        self
    }

    /// How much may wait for a subscription unless it is told otherwise. Default 524,288 messages
    /// or 64 MiB.
    pub fn pending_limits(mut self, limits: PendingLimits) -> Self {
        self.config.pending_limits = limits;
        self
    }

    /// The size of the kernel's send buffer in bytes, `None` for the system's choice. Default
    /// 256 KiB. It bounds what a dead server can swallow unseen.
    pub fn send_buffer_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.config.tcp.send_buffer = bytes.into();
        self
    }

    /// The size of the kernel's receive buffer in bytes, `None` (the default) for the system's
    /// choice.
    pub fn receive_buffer_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.config.tcp.receive_buffer = bytes.into();
        self
    }
}

/// The protocol.
impl OptionsBuilder {
    /// What inbox subjects begin with, without a dot at the end. Default `_INBOX`.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        // Java's option has the dot at the end; both spellings mean the same.
        self.config.inbox_prefix = prefix.strip_suffix('.').unwrap_or(&prefix).to_owned();
        self
    }

    /// The server does not send this connection what it published itself. A server of protocol 0,
    /// which cannot do this, is refused with [`Misuse`](ErrorKind::Misuse).
    pub fn no_echo(mut self) -> Self {
        self.config.echo = false;
        self
    }

    /// Tells the server not to use headers with this connection. Then there are no no-responders
    /// replies either.
    pub fn no_headers(mut self) -> Self {
        self.config.headers = false;
        self
    }

    /// A request that nobody listens to waits out its time instead of failing at once.
    pub fn no_no_responders(mut self) -> Self {
        self.config.no_responders = false;
        self
    }

    /// The server confirms each operation with `+OK`, which is counted: as many lines back as
    /// operations sent.
    pub fn verbose(mut self) -> Self {
        self.config.verbose = true;
        self
    }

    /// The server checks subjects strictly, which costs it time for every message.
    pub fn pedantic(mut self) -> Self {
        self.config.pedantic = true;
        self
    }
}

/// Listeners.
impl OptionsBuilder {
    /// Adds a listener for the events of the connection.
    pub fn connection_listener(self, listener: impl ConnectionListener) -> Self {
        self.sink(connection_sink(listener))
    }

    /// Adds a listener for errors that no call returns. Without any, they are logged.
    pub fn error_listener(mut self, listener: impl ErrorListener) -> Self {
        self.hears_errors = true;
        self.sink(error_sink(listener))
    }

    /// Adds a closure that is called for every event.
    ///
    /// ```
    /// let options = nats_blocking::Options::builder()
    ///     .on_event(|connection, event| println!("{} {event}", connection.status()))
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn on_event<F>(self, call: F) -> Self
    where
        F: Fn(&Connection, &ConnectionEvent) + Send + Sync + 'static,
    {
        self.sink(connection_sink(call))
    }

    /// Adds a closure that is called for every error that no call returns.
    pub fn on_error<F>(mut self, call: F) -> Self
    where
        F: Fn(&Connection, &ErrorNotice) + Send + Sync + 'static,
    {
        self.hears_errors = true;
        self.sink(notice_sink(call))
    }

    fn sink(mut self, sink: Sink) -> Self {
        self.sinks.push(sink);
        self
    }
}

impl OptionsBuilder {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`](ErrorKind::InvalidUrl) or [`InvalidOption`](ErrorKind::InvalidOption), naming
    /// the option and what is wrong with it.
    pub fn build(self) -> Result<Options> {
        let Self { servers, mut config, mut sinks, hears_errors } = self;
        config.servers.clear();
        for text in &servers {
            config.servers.extend(ServerUrl::parse_list(text)?);
        }
        if config.servers.is_empty() {
            if !servers.is_empty() {
                return Err(Error::new(ErrorKind::InvalidUrl, "the list of servers is empty"));
            }
            config.servers = ServerUrl::parse_list("nats://localhost:4222")?;
        }
        check(&config)?;
        if !hears_errors {
            sinks.push(error_sink(LoggingErrorListener));
        }
        Ok(Options { config, sinks })
    }

    /// Builds the options and connects; see [`Options::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build) and [`Options::connect`].
    pub fn connect(self) -> Result<Connection> {
        self.build()?.connect()
    }
}

impl fmt::Debug for OptionsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The texts of the servers may hold passwords until they have been read.
        f.debug_struct("OptionsBuilder")
            .field("servers", &self.servers.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_useless_option_is_named() {
        let new = Options::builder;
        let cases: Vec<(&str, OptionsBuilder)> = vec![
            ("connect_timeout", new().connect_timeout(Duration::ZERO)),
            ("close_timeout", new().close_timeout(Duration::ZERO)),
            ("socket_write_timeout", new().socket_write_timeout(Duration::ZERO)),
            ("ping_interval", new().ping_interval(Duration::ZERO)),
            ("reconnect_wait", new().reconnect_wait(Duration::MAX)),
            ("reconnect_jitter", new().reconnect_jitter(Duration::MAX)),
            ("reconnect_jitter_tls", new().reconnect_jitter_tls(Duration::MAX)),
            ("max_pings_out", new().max_pings_out(0)),
            ("outbox_size", new().outbox_size(0)),
            ("max_control_line", new().max_control_line(0)),
            ("max_incoming_control_line", new().max_incoming_control_line(0)),
            ("send_buffer_size", new().send_buffer_size(0)),
            ("receive_buffer_size", new().receive_buffer_size(0)),
            ("inbox", new().inbox_prefix("a.*")),
            ("inbox prefix does not fit", new().inbox_prefix("a".repeat(5000))),
            ("token", new().token("t").user_and_password("u", "p")),
            ("name", new().name("a\0b")),
        ];
        for (part, builder) in cases {
            let error = builder.build().expect_err(part);
            assert_eq!(error.kind(), ErrorKind::InvalidOption, "{part}");
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        let empty = Options::builder().servers(" , ").build().expect_err("no server");
        assert_eq!(empty.kind(), ErrorKind::InvalidUrl);
    }

    #[test]
    fn neither_options_nor_their_builder_print_a_secret() {
        let builder = Options::builder()
            .server("nats://joe:hunter2@localhost")
            .user_and_password("admin", "s3cret");
        let shown = format!("{builder:?}");
        let options = builder.build().expect("options");
        let shown = format!("{shown} {options:?}");
        for secret in ["joe", "hunter2", "admin", "s3cret"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
