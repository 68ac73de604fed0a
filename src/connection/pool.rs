//! The servers that a connection may use: looking at them, and replacing them. Nothing here waits.

use super::handle::Connection;
use crate::core::PoolServer;
use crate::error::Result;
use crate::server_list::{self, ServerList};

/// The pool of servers.
impl Connection {
    /// All known servers, configured and discovered, in the order in which they come next, each
    /// with its failed attempts.
    pub fn server_pool(&self) -> Vec<PoolServer> {
        self.core().server_pool()
    }

    /// Replaces all known servers, the discovered ones too, for the next time that one is looked
    /// for; in an outage that is the next attempt. The server in use stays connected, also if it is
    /// not in the list. Servers that stay keep their failed attempts, and a refusal of theirs if
    /// the user information of the URL is the same.
    ///
    /// Listeners hear nothing of it. What the cluster announces later is added again, unless
    /// [`ignore_discovered_servers`](crate::OptionsBuilder::ignore_discovered_servers) is set.
    ///
    /// # Errors
    ///
    /// [`InvalidUrl`](crate::ErrorKind::InvalidUrl) if a URL cannot be used or the list is empty:
    /// then nothing changes; [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use nats_blocking::testing::Server;
    ///
    /// let (first, second) = (Server::start()?, Server::start()?);
    /// let connection = nats_blocking::connect(first.url())?;
    /// connection.set_server_pool([first.url(), second.url()])?;
    /// connection.force_reconnect()?;
    /// connection.flush()?;
    /// assert_eq!(connection.connected_url(), Some(second.url()));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn set_server_pool(&self, servers: impl ServerList) -> Result<()> {
        self.core().set_server_pool(server_list::read(&servers.texts())?)
    }
}
