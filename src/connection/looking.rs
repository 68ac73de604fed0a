//! What a connection tells of itself. Nothing here waits.

use std::net::SocketAddr;
use std::time::Instant;

use super::handle::Connection;
use crate::core::ConnectionStatus;
use crate::error::Error;
use crate::protocol::ServerInfo;
use crate::statistics::Statistics;

/// Looking.
impl Connection {
    /// Where the connection is in its life.
    pub fn status(&self) -> ConnectionStatus {
        self.core().status()
    }

    /// Whether a server is there (also while draining).
    pub fn is_connected(&self) -> bool {
        matches!(self.status(), ConnectionStatus::Connected | ConnectionStatus::Draining)
    }

    /// Whether the first connection is still being made, in the background.
    pub fn is_connecting(&self) -> bool {
        self.status() == ConnectionStatus::Connecting
    }

    /// Whether the server was lost and another is being looked for.
    pub fn is_reconnecting(&self) -> bool {
        self.status() == ConnectionStatus::Reconnecting
    }

    /// Whether the connection drains.
    pub fn is_draining(&self) -> bool {
        self.status() == ConnectionStatus::Draining
    }

    /// Whether the connection has ended for good.
    pub fn is_closed(&self) -> bool {
        self.status() == ConnectionStatus::Closed
    }

    /// The URLs of all known servers, configured and discovered, in the order in which they come
    /// next; without user information.
    pub fn servers(&self) -> Vec<String> {
        self.core().life().pool.urls()
    }

    /// The URLs of the servers that were discovered through the cluster.
    pub fn discovered_servers(&self) -> Vec<String> {
        self.core().life().pool.discovered_urls()
    }

    /// The URL of the server in use, without user information.
    pub fn connected_url(&self) -> Option<String> {
        self.core().life().present().map(|link| link.url.to_string())
    }

    /// Whether the connection to the server in use is over TLS; false while there is none.
    pub fn is_tls(&self) -> bool {
        self.core().life().present().is_some_and(|link| link.tls)
    }

    /// What the server in use, or the last one, said about itself. Over TLS, addresses and limits
    /// that it said before the handshake do not count.
    pub fn server_info(&self) -> ServerInfo {
        (*self.core().info()).clone()
    }

    /// The number that the server gave this connection.
    pub fn client_id(&self) -> Option<u64> {
        self.core().info().client_id()
    }

    /// The address of this client as the server sees it.
    pub fn client_ip(&self) -> Option<String> {
        self.core().info().client_ip().map(str::to_owned)
    }

    /// This end of the socket in use.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.core().life().present().and_then(|link| link.local)
    }

    /// The server's end of the socket in use.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.core().life().present().and_then(|link| link.peer)
    }

    /// Since when the connection in use has been established; none while there is none. Its
    /// [`elapsed`](Instant::elapsed) is the time that it has lasted; the time by the wall clock is
    /// in the event.
    pub fn connected_since(&self) -> Option<Instant> {
        let life = self.core().life();
        life.present().and(life.connected_at)
    }

    /// The name that the options gave the connection.
    pub fn name(&self) -> Option<&str> {
        self.core().config.name.as_deref()
    }

    /// Whether messages may have headers: the server in use (or the last one) knows them, and
    /// [`no_headers`](crate::OptionsBuilder::no_headers) was not set.
    pub fn supports_headers(&self) -> bool {
        self.core().server_limits(&self.core().info()).headers
    }

    /// The most bytes of payload and headers that the server accepts; 0 if it did not say. Over
    /// TLS, with a server before 2.12, see
    /// [`ServerInfo::max_payload`](crate::ServerInfo::max_payload).
    pub fn max_payload(&self) -> usize {
        self.core().info().max_payload()
    }

    /// The last failure that was handled or that the server reported. It stays over reconnects
    /// until the next one, or [`clear_last_error`](Self::clear_last_error).
    pub fn last_error(&self) -> Option<Error> {
        self.core().life().last_error.clone()
    }

    /// Forgets the last error, so that [`last_error`](Self::last_error) tells of later ones only.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// # let events = connection.events();
    /// server.send_error("Something Odd");
    /// # events.next_timeout(std::time::Duration::from_secs(10));
    /// assert!(connection.last_error().is_some());
    /// connection.clear_last_error();
    /// assert!(connection.last_error().is_none());
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn clear_last_error(&self) {
        self.core().life().last_error = None;
    }

    /// Why the connection is closed: none if the program closed or drained it, and none before it
    /// is closed. [`Closed`](crate::ConnectionEventKind::Closed) carries the same.
    pub fn close_cause(&self) -> Option<Error> {
        let life = self.core().life();
        let closed = life.status == ConnectionStatus::Closed;
        life.close_cause.clone().filter(|_| closed)
    }

    /// Messages, and bytes of frames, that wait to be written.
    pub fn pending_out(&self) -> (u64, usize) {
        self.core().outbox.pending()
    }

    /// What the connection has counted so far.
    pub fn statistics(&self) -> Statistics {
        self.core().statistics()
    }

    /// Live subscriptions, the one for replies included.
    pub fn subscription_count(&self) -> usize {
        self.core().registry.len()
    }

    /// Requests that wait for their reply.
    pub fn pending_requests(&self) -> usize {
        self.core().requests.len()
    }
}
