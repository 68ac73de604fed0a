//! Time-outs, pings and reconnecting.

use std::time::Duration;

use super::builder::OptionsBuilder;

/// Time and reconnecting.
impl OptionsBuilder {
    /// What one attempt to connect may take, from the host's name to the server's first PONG.
    /// Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// What [`close`](crate::Connection::close) may take; half of it is for writing what is queued.
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
    /// Less than 10 ms is 10 ms: a server that refuses at once is not asked in a busy loop.
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
