//! The builder of options, by value: its beginning and its end. The setters stand in files beside
//! this one, by what they are about.
//!
//! A setting that cannot be used is an error of [`build`](OptionsBuilder::build), naming it; the
//! defaults stand in `Default` below.

use std::fmt;
use std::time::Duration;

use super::check::check;
use super::made::Options;
use super::server_list::ServerList;
use crate::auth::Credentials;
use crate::connection::Connection;
use crate::core::{Config, PoolPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::listener::{LoggingErrorListener, Sink, error_sink};
use crate::outbox::{OutboxConfig, OutboxPolicy, ReconnectBuffer};
use crate::protocol::Limits;
use crate::server_url::ServerUrl;
use crate::subscriptions::PendingLimits;
use crate::transport::{TcpOptions, TlsSettings};

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
    pub(super) servers: Vec<String>,
    pub(super) config: Config,
    pub(super) sinks: Vec<Sink>,
    pub(super) hears_errors: bool,
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
            tls: TlsSettings::default(),
        };
        Self { servers: Vec::new(), config, sinks: Vec::new(), hears_errors: false }
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
