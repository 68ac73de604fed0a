//! The handle of a connection: what a program calls.
//!
//! Every [`Connection`] is a cheap handle to one core. Handles are counted apart from the core's
//! own references: dropping the last counted handle closes the connection, while its threads still
//! hold the core and deliver `Closed`. The threads lend listeners and handlers an uncounted handle.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock;
use crate::core::{ConnectionStatus, Core, Notice, Tap, Tapped};
use crate::error::{Error, Result};
use crate::outbox::{Outgoing, Urgency};
use crate::protocol::{Headers, Message, ServerInfo};
use crate::random;
use crate::statistics::Statistics;
use crate::sync::{Arc, Weak};

/// A connection to a NATS server, or to one server of a cluster.
///
/// A cheap handle: `Clone` gives another handle to the same connection, usable from any thread.
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

/// What [`Connection::flush`] waits at most.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

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

    // Publishing

    /// Publishes a message: it is queued in call order and written by the connection.
    ///
    /// Delivery is at most once; [`flush`](Self::flush) tells that the server has the message.
    ///
    /// # Blocking
    ///
    /// Not on the socket. When the outbox is full, what the
    /// [`OutboxPolicy`](crate::OutboxPolicy) says: by default up to 2 s.
    ///
    /// # Errors
    ///
    /// [`InvalidSubject`](crate::ErrorKind::InvalidSubject),
    /// [`MaxPayload`](crate::ErrorKind::MaxPayload),
    /// [`MaxControlLine`](crate::ErrorKind::MaxControlLine),
    /// [`OutboxFull`](crate::ErrorKind::OutboxFull) while connected,
    /// [`ReconnectBufferFull`](crate::ErrorKind::ReconnectBufferFull) while not,
    /// [`Draining`](crate::ErrorKind::Draining), [`Closed`](crate::ErrorKind::Closed).
    pub fn publish(&self, subject: impl AsRef<str>, payload: impl AsRef<[u8]>) -> Result<()> {
        self.publish_parts(subject.as_ref(), None, None, payload.as_ref())
    }

    /// Publishes a message with a reply subject; otherwise, in blocking too, like
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Those of [`publish`](Self::publish).
    pub fn publish_with_reply(
        &self,
        subject: impl AsRef<str>,
        reply: impl AsRef<str>,
        payload: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.publish_parts(subject.as_ref(), Some(reply.as_ref()), None, payload.as_ref())
    }

    /// Publishes a message with headers; otherwise, in blocking too, like
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Those of [`publish`](Self::publish), and
    /// [`HeadersUnsupported`](crate::ErrorKind::HeadersUnsupported).
    pub fn publish_with_headers(
        &self,
        subject: impl AsRef<str>,
        headers: &Headers,
        payload: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.publish_parts(subject.as_ref(), None, Some(headers), payload.as_ref())
    }

    /// Publishes a message as it is: subject, reply subject, headers and payload. Blocks like
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Those of [`publish_with_headers`](Self::publish_with_headers).
    pub fn publish_message(&self, message: &Message) -> Result<()> {
        let headers = Some(message.headers());
        self.publish_parts(message.subject(), message.reply(), headers, message.payload())
    }

    /// Answers a request: publishes to the message's reply subject. Blocks like
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`Misuse`](crate::ErrorKind::Misuse) if the message has no reply subject; otherwise those of
    /// [`publish`](Self::publish).
    pub fn respond(&self, message: &Message, payload: impl AsRef<[u8]>) -> Result<()> {
        let Some(reply) = message.reply() else {
            let text = "the message has no reply subject: nobody waits for an answer";
            return Err(Error::new(crate::error::ErrorKind::Misuse, text));
        };
        self.publish_parts(reply, None, None, payload.as_ref())
    }

    fn publish_parts(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&Headers>,
        payload: &[u8],
    ) -> Result<()> {
        self.core.publish(Outgoing { subject, reply, headers, payload }, Urgency::Idle)
    }

    /// Waits until the server has taken in everything that this thread published and subscribed
    /// before.
    ///
    /// # Blocking
    ///
    /// Up to 10 s.
    ///
    /// # Errors
    ///
    /// Those of [`flush_timeout`](Self::flush_timeout).
    pub fn flush(&self) -> Result<()> {
        self.flush_timeout(FLUSH_TIMEOUT)
    }

    /// Waits until the server has taken in everything that this thread published and subscribed
    /// before: a PING, and its own PONG. Any number of threads may flush at once.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`. While the connection is down it waits for the next one. May be called from
    /// listeners and handlers.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout);
    /// [`Disconnected`](crate::ErrorKind::Disconnected) at once if the connection is lost
    /// meanwhile: what was published before may or may not have arrived;
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        self.core.flush(clock::after(timeout))
    }

    /// The time of one round trip to the server, through the outbox.
    ///
    /// # Blocking
    ///
    /// Up to 10 s.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](crate::ErrorKind::Disconnected) if no server is there; otherwise those of
    /// [`flush`](Self::flush).
    pub fn rtt(&self) -> Result<Duration> {
        self.core.rtt(clock::after(FLUSH_TIMEOUT))
    }

    /// A subject that nobody else uses: the inbox prefix and 22 random letters and digits.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the system gives no random numbers.
    pub fn new_inbox(&self) -> Result<String> {
        Ok(format!("{}.{}", self.core.config.inbox_prefix, random::unique()?))
    }

    // The end

    /// Closes the connection. What is queued is written first, for at most half of the close
    /// time-out; [`flush`](Self::flush) or [`drain`](Self::drain) before it make sure. What could
    /// not be written is counted in [`Statistics::discarded`].
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
    pub fn wait_for_status(&self, status: ConnectionStatus, timeout: Duration) -> Result<()> {
        self.core.wait_for_status(status, clock::after(timeout))
    }

    /// Leaves the present server for another one, or for itself if there is no other. While the
    /// connection is down it cuts the wait for the next attempt short. Requests under way end with
    /// [`Disconnected`](crate::ErrorKind::Disconnected); those made afterwards go to the next
    /// server.
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

    // Looking

    /// Where the connection is in its life.
    pub fn status(&self) -> ConnectionStatus {
        self.core.status()
    }

    /// Whether a server is there (also while draining).
    pub fn is_connected(&self) -> bool {
        matches!(self.status(), ConnectionStatus::Connected | ConnectionStatus::Draining)
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
        self.core.life().pool.urls()
    }

    /// The URLs of the servers that were discovered through the cluster.
    pub fn discovered_servers(&self) -> Vec<String> {
        self.core.life().pool.discovered_urls()
    }

    /// The URL of the server in use, without user information.
    pub fn connected_url(&self) -> Option<String> {
        self.core.life().present().map(|link| link.url.to_string())
    }

    /// What the server in use, or the last one, said about itself.
    pub fn server_info(&self) -> ServerInfo {
        (*self.core.info()).clone()
    }

    /// The number that the server gave this connection.
    pub fn client_id(&self) -> Option<u64> {
        self.core.info().client_id()
    }

    /// The address of this client as the server sees it.
    pub fn client_ip(&self) -> Option<String> {
        self.core.info().client_ip().map(str::to_owned)
    }

    /// This end of the socket in use.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.core.life().present().and_then(|link| link.local)
    }

    /// The server's end of the socket in use.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.core.life().present().and_then(|link| link.peer)
    }

    /// The most bytes of payload and headers that the server accepts; 0 if it did not say.
    pub fn max_payload(&self) -> usize {
        self.core.info().max_payload()
    }

    /// The last failure that was handled or that the server reported.
    pub fn last_error(&self) -> Option<Error> {
        self.core.life().last_error.clone()
    }

    /// Messages, and bytes of frames, that wait to be written.
    pub fn pending_out(&self) -> (u64, usize) {
        self.core.outbox.pending()
    }

    /// What the connection has counted so far.
    pub fn statistics(&self) -> Statistics {
        self.core.statistics()
    }

    /// Live subscriptions, the one for replies included.
    pub fn subscription_count(&self) -> usize {
        self.core.registry.len()
    }

    /// Requests that wait for their reply.
    pub fn pending_requests(&self) -> usize {
        self.core.requests.len()
    }

    /// A handle that does not keep the connection open.
    pub fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.core))
    }

    /// Everything that happens from now on, events and errors in order, as an iterator.
    ///
    /// It ends after [`Closed`](crate::ConnectionEventKind::Closed). Each call gives an independent
    /// iterator with a queue of its own, bounded like that of the listeners; it does not keep the
    /// connection open.
    ///
    /// ```no_run
    /// # let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
    /// let events = connection.events();
    /// std::thread::spawn(move || {
    ///     for notice in events {
    ///         println!("{notice}");
    ///     }
    /// });
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn events(&self) -> Events {
        Events(self.core.hub.tap())
    }
}

impl Clone for Connection {
    /// Another counted handle. Once the last counted handle is gone the clone is a closed one.
    fn clone(&self) -> Self {
        Self { counted: self.core.take_handle(), core: Arc::clone(&self.core) }
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

/// The events and errors of a connection; see [`Connection::events`].
///
/// `next` waits for the next notice without a deadline and gives `None` after `Closed`.
#[derive(Debug)]
pub struct Events(Arc<Tap>);

impl Events {
    /// The next notice if one comes in time, otherwise `None`: then
    /// [`is_finished`](Self::is_finished) tells whether more may come.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    pub fn next_timeout(&self, timeout: Duration) -> Option<Notice> {
        match self.0.next(Some(clock::after(timeout))) {
            Tapped::Notice(notice) => Some(notice),
            Tapped::Timeout | Tapped::Finished => None,
        }
    }

    /// Whether `Closed` has been given out.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Iterator for Events {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        match self.0.next(None) {
            Tapped::Notice(notice) => Some(notice),
            Tapped::Timeout | Tapped::Finished => None,
        }
    }
}

impl std::iter::FusedIterator for Events {}
