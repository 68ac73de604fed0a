//! Draining a connection, as the program sees it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;
use crate::connection::Connection;
use crate::core::DrainProgress;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;

/// A drain under way; see [`Connection::start_drain`]. Dropping it changes nothing.
pub struct Drain(Arc<DrainProgress>);

impl Drain {
    /// Waits until the connection has been drained and closed.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if the drain takes longer than `timeout`, or took longer
    /// than its own deadline; [`Disconnected`](ErrorKind::Disconnected) if the connection was lost;
    /// [`Closed`](ErrorKind::Closed) if it was closed meanwhile.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        self.0
            .wait(clock::after(timeout))
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Timeout, "the drain is still under way")))
    }

    /// Whether the drain is over.
    pub fn is_finished(&self) -> bool {
        self.0.wait(Instant::now()).is_some()
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
    pub fn start_drain(&self, timeout: Duration) -> Result<Drain> {
        self.core().start_drain(timeout).map(Drain)
    }

    /// Drains the connection and waits for it; see [`start_drain`](Self::start_drain). From a
    /// listener or handler it only starts the drain, which waits for that very handler.
    ///
    /// # Blocking
    ///
    /// Up to `timeout` and the close time-out.
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
