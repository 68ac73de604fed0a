//! The builder of options, by value: its beginning and its end. The setters stand in files beside
//! this one, by what they are about.
//!
//! A setting that cannot be used is an error of [`build`](OptionsBuilder::build), naming it; the
//! defaults stand in `Default` below.

use std::fmt;
use std::time::Duration;

use super::check::check;
use super::made::Options;
use crate::auth::Authorization;
use crate::connection::Connection;
use crate::core::{Config, Deciders, PoolPolicy, Watch};
use crate::error::Result;
use crate::listener::{LoggingErrorListener, Sink, error_sink};
use crate::outbox::{HIGH_WATER, OutboxConfig, OutboxPolicy, ReconnectBuffer};
use crate::protocol::Limits;
use crate::server_list::{self, ServerList};
use crate::server_url::ServerUrl;
use crate::subscriptions::PendingLimits;
use crate::transport::{TcpOptions, TlsSettings, WebSocketSettings};

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

/// Sets options; see [`Options::builder`].
///
/// The last setting of the same option wins, wherever it comes from (a method, properties, the
/// environment). Servers, listeners, root certificates and WebSocket headers add up, but `NATS_URL`
/// replaces the servers given before it. A second way to authorize does not replace another:
/// `build` refuses both.
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
            authorization: Authorization::default(),
            pool: PoolPolicy {
                max_attempts: None,
                keep_order: false,
                ignore_discovered: false,
                keep_refusing: false,
            },
            retry_connect: None,
            deciders: Deciders::default(),
            reconnect: true,
            connect_timeout: Duration::from_secs(2),
            close_timeout: Duration::from_secs(2),
            reconnect_wait: Duration::from_secs(2),
            wait_before_reconnect: false,
            // 100 ms, the usual default, would bring a thousand clients back in one window.
            reconnect_jitter: Duration::from_secs(1),
            reconnect_jitter_tls: Duration::from_secs(1),
            ping_interval: Some(Duration::from_secs(120)),
            max_pings_out: Some(2),
            write_timeout: Duration::from_secs(60),
            outbox: OutboxConfig {
                limit: 8 * 1024 * 1024,
                high_water: HIGH_WATER,
                policy: OutboxPolicy::Block(Duration::from_secs(2)),
                reconnect_buffer: ReconnectBuffer::Bytes(8 * 1024 * 1024),
                control_line: 4096,
            },
            limits: Limits::default(),
            pending_limits: PendingLimits::default(),
            inbox_prefix: "_INBOX".to_owned(),
            verbose: false,
            pedantic: false,
            strict_subjects: false,
            echo: true,
            headers: true,
            no_responders: true,
            fail_requests_on_disconnect: false,
            reconnect_on_lame_duck: false,
            no_events_after_close: false,
            disconnected_on_close: false,
            // What the kernel holds for a dead peer is what a loss can swallow unseen.
            tcp: TcpOptions { send_buffer: Some(256 * 1024), ..TcpOptions::default() },
            watch: Watch::default(),
            connector: None,
            tls: TlsSettings::default(),
            websocket: WebSocketSettings::default(),
        };
        Self { servers: Vec::new(), config, sinks: Vec::new(), hears_errors: false }
    }
}

impl OptionsBuilder {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`](crate::ErrorKind::InvalidUrl) or
    /// [`InvalidOption`](crate::ErrorKind::InvalidOption), naming the option and what is wrong with
    /// it.
    pub fn build(self) -> Result<Options> {
        let Self { servers, mut config, mut sinks, hears_errors } = self;
        config.servers = if servers.is_empty() {
            ServerUrl::parse_list("nats://localhost:4222")?
        } else {
            server_list::read(&servers)?
        };
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
        // A text may hold a password: it is shown as what was read from it, or not at all.
        let shown = |text: &String| match ServerUrl::parse_list(text) {
            Ok(urls) => urls.iter().map(ToString::to_string).collect(),
            Err(_) => vec!["(unreadable)".to_owned()],
        };
        let servers: Vec<String> = self.servers.iter().flat_map(shown).collect();
        f.debug_struct("OptionsBuilder")
            .field("servers", &format_args!("[{}]", servers.join(", ")))
            .field("config", &self.config)
            .field("listeners", &self.sinks.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::RetryConnect;
    use crate::error::ErrorKind;

    #[test]
    fn every_useless_option_is_named() {
        let new = Options::builder;
        let cases: Vec<(&str, OptionsBuilder)> = vec![
            ("connect_timeout", new().connect_timeout(Duration::ZERO)),
            ("close_timeout", new().close_timeout(Duration::ZERO)),
            ("socket_write_timeout", new().socket_write_timeout(Duration::ZERO)),
            ("ping_interval", new().ping_interval(Duration::ZERO)),
            (
                "retry_on_failed_connect",
                new().retry_on_failed_connect(RetryConnect::Within(Duration::ZERO)),
            ),
            ("reconnect_on_lame_duck", new().reconnect_on_lame_duck().no_reconnect()),
            ("reconnect_wait", new().reconnect_wait(Duration::MAX)),
            ("reconnect_jitter", new().reconnect_jitter(Duration::MAX)),
            ("reconnect_jitter_tls", new().reconnect_jitter_tls(Duration::MAX)),
            ("max_pings_out", new().max_pings_out(0)),
            ("outbox_size", new().outbox_size(0)),
            ("max_control_line", new().max_control_line(0)),
            ("max_incoming_control_line", new().max_incoming_control_line(0)),
            #[cfg(target_pointer_width = "64")]
            ("max_incoming_control_line", new().max_incoming_control_line(1 << 32)),
            ("max_incoming_payload", new().max_incoming_payload(0)),
            ("reconnect_buffer", new().reconnect_buffer(ReconnectBuffer::Bytes(0))),
            ("outbox_policy", new().outbox_policy(OutboxPolicy::Block(Duration::ZERO))),
            ("tcp_keepalive", new().tcp_keepalive(Duration::from_millis(999))),
            ("tcp_keepalive", new().tcp_keepalive(Duration::from_secs(32_768))),
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
        let none: [&str; 0] = [];
        for builder in [new().servers(" , "), new().servers(none), new().servers(none).server("")] {
            let empty = builder.build().expect_err("no server");
            assert_eq!(empty.kind(), ErrorKind::InvalidUrl);
        }
        new().servers(none).server("one").build().expect("one server");
    }

    #[test]
    fn options_and_their_builder_print_every_value() {
        let builder = Options::builder()
            .servers("nats://a:1,b")
            .local_address(std::net::IpAddr::from([127, 0, 0, 9]))
            .tcp_keepalive(Duration::from_secs(91))
            .resolve_mode(crate::transport::ResolveMode::Ipv4Only)
            .close_timeout(Duration::from_secs(92))
            .outbox_size(93)
            .max_incoming_control_line(94)
            .max_incoming_payload(95)
            .pending_limits(PendingLimits::new(96, 97))
            .ignore_authorization_abort()
            .fail_requests_on_disconnect()
            .on_event(|_, _| ());
        let shown = format!("{builder:?}");
        let options = format!("{:?}", builder.build().expect("options"));
        for part in [
            "servers: [nats://a:1, nats://b:4222]",
            "local_address: Some(127.0.0.9)",
            "keepalive: Some(91s)",
            "resolve_mode: Ipv4Only",
            "close_timeout: 92s",
            "limit: 93",
            "control_line: 94",
            "payload: 95",
            "messages: 96, bytes: 97",
            "keep_refusing: true",
            "fail_requests_on_disconnect: true",
            "strict_subjects: false",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
            assert!(options.contains(part), "{part} in {options}");
        }
        assert!(shown.contains("listeners: 1"), "{shown}");
        let unreadable = format!("{:?}", Options::builder().servers("a,nats://joe:hunter2@"));
        assert!(unreadable.contains("servers: [(unreadable)]"), "{unreadable}");
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
