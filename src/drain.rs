//! Draining a connection, as the program sees it.

use std::fmt;
use std::time::Duration;

use crate::clock;
use crate::connection::Connection;
use crate::core::{Core, DrainProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;

/// A drain under way; see [`Connection::start_drain`]. Dropping it changes nothing.
pub struct Drain {
    core: Arc<Core>,
    progress: Arc<DrainProgress>,
}

impl Drain {
    /// Waits until the connection has been drained and closed, and, as after
    /// [`close`](Connection::close), until [`Closed`](crate::ConnectionEventKind::Closed) has been
    /// delivered: for that up to the close time-out, and in a listener or handler not at all.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if the drain takes longer than `timeout`, or took longer
    /// than its own deadline; [`Disconnected`](ErrorKind::Disconnected) if the connection was lost;
    /// [`Closed`](ErrorKind::Closed) if it was closed meanwhile.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let deadline = clock::after(timeout);
        let under_way = || Err(Error::new(ErrorKind::Timeout, "the drain is still under way"));
        let outcome = self.progress.wait(deadline).unwrap_or_else(under_way);
        // A listener that takes longer changes nothing about the drain.
        let patience = clock::after(self.core.config.close_timeout);
        let _ = self.core.wait_closed(deadline.min(patience));
        outcome
    }

    /// Whether the drain is over.
    pub fn is_finished(&self) -> bool {
        self.progress.get().is_some()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("finished", &self.is_finished()).finish()
    }
}

impl Connection {
    /// Begins to drain the connection: all subscriptions end, handlers work off what has arrived,
    /// what was published is flushed, then the connection closes.
    ///
    /// Until the handlers are done they may publish and answer; new subscriptions and requests are
    /// refused with [`Draining`](ErrorKind::Draining). Messages of pull subscriptions are not
    /// waited for; they stay readable. A second call joins the drain under way. After `timeout` the
    /// connection is closed whatever is left, and the outcome says so. Returns at once.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ErrorKind::Disconnected) while the connection is down: it is left as it is;
    /// [`Closed`](ErrorKind::Closed).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use std::time::Duration;
    ///
    /// use nats_blocking::Drain;
    ///
    /// let drain: Drain = connection.start_drain(Duration::from_secs(10))?;
    /// println!("draining");
    /// drain.wait(Duration::from_secs(20))?;
    /// assert!(drain.is_finished() && connection.is_closed());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn start_drain(&self, timeout: Duration) -> Result<Drain> {
        let progress = self.core().start_drain(timeout)?;
        Ok(Drain { core: Arc::clone(self.core()), progress })
    }

    /// Drains the connection and waits for it, like [`close`](Self::close) until `Closed` has been
    /// delivered; see [`start_drain`](Self::start_drain). From a listener or handler it only starts
    /// the drain, which waits for that very handler.
    ///
    /// # Blocking
    ///
    /// Up to `timeout` and twice the close time-out.
    ///
    /// # Errors
    ///
    /// Those of [`start_drain`](Self::start_drain) and [`Drain::wait`].
    pub fn drain(&self, timeout: Duration) -> Result<()> {
        let drain = self.start_drain(timeout)?;
        if self.core().on_own_thread() {
            return Ok(());
        }
        let close = self.core().config.close_timeout;
        drain.wait(timeout.saturating_add(close.saturating_mul(2)))
    }
}
