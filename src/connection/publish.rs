//! Publishing and flushing.

use std::time::Duration;

use super::handle::Connection;
use crate::clock;
use crate::error::{Error, Result};
use crate::outbox::{Outgoing, Urgency};
use crate::protocol::{Headers, Message};
use crate::random;

/// What [`Connection::flush`] waits at most.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Publishing.
impl Connection {
    /// Publishes a message: it is queued in call order and written by the connection.
    ///
    /// Delivery is at most once; [`flush`](Self::flush) tells that the server has the message.
    ///
    /// # Blocking
    ///
    /// Not on the socket. When the outbox is full, what the
    /// [`OutboxPolicy`](crate::OutboxPolicy) says, and when it fills: by default up to 2 s.
    ///
    /// # Errors
    ///
    /// [`InvalidSubject`](crate::ErrorKind::InvalidSubject), for a wildcard or an empty token with
    /// [`strict_subjects`](crate::OptionsBuilder::strict_subjects) alone,
    /// [`MaxPayload`](crate::ErrorKind::MaxPayload),
    /// [`MaxControlLine`](crate::ErrorKind::MaxControlLine),
    /// [`OutboxFull`](crate::ErrorKind::OutboxFull) while connected,
    /// [`ReconnectBufferFull`](crate::ErrorKind::ReconnectBufferFull) while not,
    /// [`Draining`](crate::ErrorKind::Draining), [`Closed`](crate::ErrorKind::Closed).
    pub fn publish(&self, subject: impl AsRef<str>, payload: impl AsRef<[u8]>) -> Result<()> {
        self.core().publish_plain(subject.as_ref(), payload.as_ref())
    }

    /// Publishes a message with a reply subject; otherwise like [`publish`](Self::publish).
    ///
    /// # Blocking
    ///
    /// Like [`publish`](Self::publish).
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

    /// Publishes a message with headers; otherwise like [`publish`](Self::publish).
    ///
    /// # Blocking
    ///
    /// Like [`publish`](Self::publish).
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

    /// Publishes a message as it is: subject, reply subject, headers and payload.
    ///
    /// # Blocking
    ///
    /// Like [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Those of [`publish_with_headers`](Self::publish_with_headers).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use nats_blocking::{Headers, Message};
    ///
    /// let subscription = connection.subscribe("orders.>")?;
    /// let order = Message::new("orders.eu", "apples").with_header("Trace", "7")?;
    /// connection.publish_message(&order)?;
    /// # let timeout = std::time::Duration::from_secs(10);
    /// let received = subscription.next_timeout(timeout)?;
    /// assert_eq!((received.text()?, received.headers().get("Trace")), ("apples", Some("7")));
    ///
    /// // The same in single calls; answers come to a subject of one's own.
    /// let inbox = connection.new_inbox()?;
    /// let answers = connection.subscribe(&inbox)?;
    /// connection.publish_with_reply("orders.us", &inbox, "pears")?;
    /// connection.respond(&subscription.next_timeout(timeout)?, "thanks")?;
    /// assert_eq!(answers.next_timeout(timeout)?.payload(), b"thanks");
    /// let mut headers = Headers::new();
    /// headers.append("Trace", "8")?;
    /// connection.publish_with_headers("orders.us", &headers, "plums")?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn publish_message(&self, message: &Message) -> Result<()> {
        let headers = Some(message.headers());
        self.publish_parts(message.subject(), message.reply(), headers, message.payload())
    }

    /// Answers a request: publishes to the message's reply subject.
    ///
    /// # Blocking
    ///
    /// Like [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`Misuse`](crate::ErrorKind::Misuse) if the message has no reply subject; otherwise those of
    /// [`publish`](Self::publish).
    pub fn respond(&self, message: &Message, payload: impl AsRef<[u8]>) -> Result<()> {
        self.publish_parts(reply_of(message)?, None, None, payload.as_ref())
    }

    /// Answers a request, with headers. Otherwise like [`respond`](Self::respond).
    ///
    /// # Errors
    ///
    /// Those of [`respond`](Self::respond), and
    /// [`HeadersUnsupported`](crate::ErrorKind::HeadersUnsupported).
    pub fn respond_with_headers(
        &self,
        message: &Message,
        headers: &Headers,
        payload: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.publish_parts(reply_of(message)?, None, Some(headers), payload.as_ref())
    }

    #[inline]
    fn publish_parts(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&Headers>,
        payload: &[u8],
    ) -> Result<()> {
        self.core().publish(Outgoing { subject, reply, headers, payload }, Urgency::Idle)
    }

    /// Waits until the server has taken in everything that this thread published and subscribed
    /// before on this server; see [`flush_timeout`](Self::flush_timeout).
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
    /// What a connection had taken that was lost before this call may be lost with it, and no later
    /// server knows: [`Disconnected`](crate::ConnectionEventKind::Disconnected) tells of that.
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
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// connection.publish("greet.joe", "hello")?;
    /// connection.flush_timeout(std::time::Duration::from_secs(5))?;
    /// println!("the server has it; a round trip takes {:?}", connection.rtt()?);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        self.core().flush(clock::after(timeout))
    }

    /// Waits until every handler has returned for all messages that had arrived before this call,
    /// and every listener for all that it had been told. Messages that arrive later, and those of
    /// pull subscriptions, are not waited for. A [`flush`](Self::flush) before it makes sure that
    /// all that the server had sent has arrived.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`. Not for listeners and handlers of this connection.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout); [`Closed`](crate::ErrorKind::Closed) if the
    /// connection has ended, or ends meanwhile; [`Misuse`](crate::ErrorKind::Misuse) in a listener
    /// or handler, which would wait for itself.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use std::time::Duration;
    ///
    /// use nats_blocking::testing::Server;
    ///
    /// let server = Server::start()?;
    /// let connection = nats_blocking::connect(server.url())?;
    /// let handled = Arc::new(AtomicU32::new(0));
    /// let counter = Arc::clone(&handled);
    /// let dispatcher = connection.dispatcher(move |_, _| {
    ///     counter.fetch_add(1, Ordering::SeqCst);
    /// })?;
    /// dispatcher.subscribe("jobs")?;
    /// connection.publish("jobs", "one")?;
    /// connection.flush()?;
    /// connection.barrier(Duration::from_secs(5))?;
    /// assert_eq!(handled.load(Ordering::SeqCst), 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn barrier(&self, timeout: Duration) -> Result<()> {
        self.core().barrier(clock::after(timeout))
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
        self.core().rtt(clock::after(FLUSH_TIMEOUT))
    }

    /// A subject that nobody else uses: the
    /// [inbox prefix](crate::OptionsBuilder::inbox_prefix), `_INBOX` by default, and 22 random
    /// letters and digits. Subscribe to it to get replies by hand.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use nats_blocking::{Options, testing::Server};
    ///
    /// let server = Server::start()?;
    /// let connection = Options::builder().server(server.url()).inbox_prefix("mine").connect()?;
    /// let inbox = connection.new_inbox()?;
    /// assert!(inbox.starts_with("mine.") && inbox != connection.new_inbox()?);
    /// let replies = connection.subscribe(&inbox)?;
    /// connection.publish_with_reply("who.is.there", &inbox, "")?;
    /// # drop(replies);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the system gives no random numbers.
    pub fn new_inbox(&self) -> Result<String> {
        Ok(format!("{}.{}", self.core().config.inbox_prefix, random::unique()?))
    }
}

/// The subject to answer to.
fn reply_of(message: &Message) -> Result<&str> {
    message.reply().ok_or_else(|| {
        let text = "the message has no reply subject: nobody waits for an answer";
        Error::new(crate::error::ErrorKind::Misuse, text)
    })
}
