//! The handle of a connection, and its end.
//!
//! Every [`Connection`] is a cheap handle to one core. Handles are counted apart from the core's
//! own references: dropping the last counted handle closes the connection, while its threads still
//! hold the core and deliver `Closed`. The threads lend listeners and handlers an uncounted handle.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::clock;
use crate::core::{ConnectionStatus, Core};
use crate::error::{Error, Result};
use crate::sync::{Arc, Weak};

/// A connection to a NATS server, or to one server of a cluster.
///
/// A cheap handle: `Clone` gives another handle to the same connection, usable from any thread.
/// Handles of the same connection are equal, those that listeners and handlers are lent too.
/// Dropping the last handle (a [`Subscription`](crate::Subscription) and a
/// [`Dispatcher`](crate::Dispatcher) count too) closes the connection, and blocks, like
/// [`close`](Self::close).
///
/// The connection runs on three threads of its own and reconnects by itself; the program hears of
/// everything through listeners ([`ConnectionListener`](crate::ConnectionListener),
/// [`ErrorListener`](crate::ErrorListener)), closures, or [`events`](Self::events).
///
/// ```no_run
/// let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
/// connection.publish("greet.joe", "hello")?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
pub struct Connection {
    core: Arc<Core>,
    counted: bool,
}

impl Connection {
    /// The first handle of a core, which already counts it.
    pub(crate) fn first(core: Arc<Core>) -> Self {
        Self { core, counted: true }
    }

    /// A handle that does not count, for the connection's own threads.
    pub(crate) fn lend(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), counted: false }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Closes the connection. What is queued is written first, for at most half of the close
    /// time-out; [`flush`](Self::flush) or [`drain`](Self::drain) before it make sure. What could
    /// not be written is counted in [`Statistics::discarded`](crate::Statistics::discarded).
    ///
    /// Every waiting call ends with [`Closed`](crate::ErrorKind::Closed). Messages that have
    /// arrived stay readable from their subscriptions; handlers are not called any more. May be
    /// called more than once.
    ///
    /// # Blocking
    ///
    /// Up to the close time-out (2 s by default), until `Closed` has been delivered and the threads
    /// have ended. From a listener or handler it waits only for the threads that do not run code of
    /// the program.
    pub fn close(&self) {
        self.core.close();
    }

    /// Waits until [`Closed`](crate::ConnectionEventKind::Closed) has been delivered to every
    /// listener, and tells why the connection ended: none if the program ended it. In a listener it
    /// returns as soon as the connection is closed.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// # let timeout = std::time::Duration::from_secs(10);
    /// # let handle = connection.clone();
    /// std::thread::spawn(move || handle.close());
    /// assert!(connection.wait_closed(timeout)?.is_none());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn wait_closed(&self, timeout: Duration) -> Result<Option<Error>> {
        self.core.wait_closed(clock::after(timeout))
    }

    /// Waits until the connection has that status.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`. May be called from listeners and handlers.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout); [`Closed`](crate::ErrorKind::Closed) if it cannot
    /// come any more.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use std::time::Duration;
    ///
    /// use nats_blocking::ConnectionStatus;
    ///
    /// connection.force_reconnect()?;
    /// connection.wait_for_status(ConnectionStatus::Connected, Duration::from_secs(10))?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn wait_for_status(&self, status: ConnectionStatus, timeout: Duration) -> Result<()> {
        self.core.wait_for_status(status, clock::after(timeout))
    }

    /// Leaves the present server for another one, or for itself if there is no other. While the
    /// connection is down it cuts the wait for the next attempt short. Requests under way at the
    /// server that is left end with [`Disconnected`](crate::ErrorKind::Disconnected); those made
    /// afterwards go to the next server.
    ///
    /// Returns at once; [`wait_for_status`](Self::wait_for_status) waits for the outcome. Where
    /// reconnecting is switched off it closes the connection.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed), [`Draining`](crate::ErrorKind::Draining).
    pub fn force_reconnect(&self) -> Result<()> {
        self.core.force_reconnect()
    }

    /// A handle that does not keep the connection open.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use nats_blocking::WeakConnection;
    ///
    /// let weak: WeakConnection = connection.downgrade();
    /// assert!(weak.upgrade().is_some());
    /// drop(connection);
    /// assert!(weak.upgrade().is_none());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.core))
    }
}

impl Clone for Connection {
    /// Another counted handle. Once the last counted handle is gone the clone is a closed one.
    fn clone(&self) -> Self {
        Self { counted: self.core.take_handle(), core: Arc::clone(&self.core) }
    }
}

impl PartialEq for Connection {
    /// Whether both are handles of the same connection: a listener of several tells them apart so.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl Eq for Connection {}

impl Hash for Connection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.core.id.hash(state);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.counted && self.core.drop_handle() {
            self.core.close();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.core.life();
        f.debug_struct("Connection")
            .field("name", &self.core.config.name)
            .field("status", &life.status)
            .field("server", &life.server)
            .finish_non_exhaustive()
    }
}

/// A handle that does not keep its connection open; see [`Connection::downgrade`].
#[derive(Clone)]
#[must_use = "it does nothing until it is upgraded"]
pub struct WeakConnection(Weak<Core>);

impl WeakConnection {
    /// A counted handle, while any is left.
    pub fn upgrade(&self) -> Option<Connection> {
        let core = self.0.upgrade()?;
        core.take_handle().then(|| Connection::first(core))
    }
}

impl fmt::Debug for WeakConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakConnection")
    }
}
