//! Time-outs, pings and reconnecting.

use std::time::Duration;

use super::builder::OptionsBuilder;
use crate::core::RetryConnect;
use crate::sync::Arc;

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

    /// Retries a first connect that fails, with the pauses, the limits and the events of an outage;
    /// by default it tries each server once.
    ///
    /// Every attempt gives [`Reconnecting`](crate::ConnectionEventKind::Reconnecting), and
    /// [`ReconnectFailed`](crate::ConnectionEventKind::ReconnectFailed) if it fails; the first
    /// success is [`Connected`](crate::ConnectionEventKind::Connected). A connection that retries
    /// in the background may be used at once: what is published is kept like during an outage and
    /// follows the subscriptions, requests and `flush` wait for their deadline, `drain` is refused,
    /// and [`wait_for_status`](crate::Connection::wait_for_status) waits for it. It closes, with
    /// the cause for each server, when no server is left: after
    /// [`max_reconnects`](Self::max_reconnects) failed attempts with each (0 concerns losses only),
    /// or when all have refused us twice.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use nats_blocking::{ConnectionStatus, Options, RetryConnect, testing::Server};
    ///
    /// let server = Server::start()?;
    /// server.stop();
    /// let connection = Options::builder()
    ///     .server(server.url())
    ///     .retry_on_failed_connect(RetryConnect::InBackground)
    ///     .reconnect_delay(|_| Duration::from_millis(10))
    ///     .connect()?;
    /// assert_eq!(connection.status(), ConnectionStatus::Connecting);
    /// connection.publish("greet.joe", "kept until there is a server")?;
    /// server.restart()?;
    /// connection.flush()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn retry_on_failed_connect(mut self, retry: RetryConnect) -> Self {
        self.config.retry_connect = Some(retry);
        self
    }

    /// The failed attempts in a row after which a server is given up, `None` for never (the
    /// default). With 0 the first loss ends the connection. When no server is left the connection
    /// closes; when another one accepts it, what was given up is tried again in the next outage.
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
    /// does not wait, unless five connections in a row each lasted less than this wait, or less
    /// than a second where the wait is longer. Less than 10 ms is 10 ms: a server that refuses at
    /// once is not asked in a busy loop.
    pub fn reconnect_wait(mut self, wait: Duration) -> Self {
        self.config.reconnect_wait = wait;
        self
    }

    /// Waits before the first attempt after a loss too, as after a full pass. Many clients of one
    /// server then do not all come back at once. `force_reconnect` does not wait.
    pub fn wait_before_first_reconnect(mut self) -> Self {
        self.config.wait_before_reconnect = true;
        self
    }

    /// Asks the program how long to wait after each full pass over the servers, in place of
    /// [`reconnect_wait`](Self::reconnect_wait) and jitter: exactly so long. It gets the number of
    /// full passes in this outage (or retried first connect): 1, 2, …; with
    /// [`wait_before_first_reconnect`](Self::wait_before_first_reconnect) it is asked with 0 first.
    ///
    /// The closure runs on the connection's reader thread, which waits for it: it should return
    /// soon. It may call everything on handles that it holds; but
    /// [`flush`](crate::Connection::flush), `barrier` and waiting for a status of this very
    /// connection fail with [`Misuse`](crate::ErrorKind::Misuse), and a request holds it up until
    /// its time is over. A panic is caught, counted and
    /// told to `exception_occurred`, and the default wait is used. It is dropped at the end of the
    /// connection.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let options = nats_blocking::Options::builder()
    ///     .reconnect_delay(|passes| Duration::from_millis(100 << passes.min(8)))
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn reconnect_delay<F>(mut self, delay: F) -> Self
    where
        F: Fn(u32) -> Duration + Send + Sync + 'static,
    {
        self.config.deciders.delay = Some(Arc::new(delay));
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

    /// Leaves a server that announces its end (lame duck mode) for another one at once; by default
    /// only the event tells of it.
    ///
    /// After [`LameDuck`](crate::ConnectionEventKind::LameDuck) what has been published is written
    /// and confirmed by the server, which may take the connect time-out at most; replies to
    /// requests under way get up to 250 ms. Then comes a
    /// [`Disconnected`](crate::ConnectionEventKind::Disconnected) with an error of kind
    /// [`LameDuck`](crate::ErrorKind::LameDuck) and the usual outage, in which the dying server is
    /// tried last. Nothing published is lost or sent twice: what is published meanwhile is kept for
    /// the next server. Requests without a reply go on waiting. What others publish between the two
    /// connections is missed, as in every outage. If no other server is known the connection stays
    /// until the server ends it; whether another one can be reached shows only in the outage.
    pub fn reconnect_on_lame_duck(mut self) -> Self {
        self.config.reconnect_on_lame_duck = true;
        self
    }

    /// Ends requests under way with `Disconnected` when the connection is lost. By default they
    /// wait out their time: the reply may still come. One that was not written yet goes to the next
    /// server all the same, as everything that was published: its failure does not mean that nobody
    /// got it.
    pub fn fail_requests_on_disconnect(mut self) -> Self {
        self.config.fail_requests_on_disconnect = true;
        self
    }
}
