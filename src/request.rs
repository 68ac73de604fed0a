//! Requests: one message out, one reply back.
//!
//! All replies of a connection come to one inbox. A request ends exactly once: with its reply, with
//! no responders, at its deadline, or at the end of the connection.

use std::fmt;
use std::time::Duration;

use crate::clock;
use crate::connection::Connection;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::{Outgoing, Urgency};
use crate::protocol::{Headers, Message};
use crate::subscriptions::Slot;
use crate::sync::Arc;

/// A request that was sent and not answered yet; see [`Connection::send_request`].
///
/// Dropping it forgets the request; a reply that comes later is dropped too.
#[must_use = "dropping it forgets the request"]
pub struct PendingReply {
    core: Arc<Core>,
    slot: Arc<Slot>,
}

impl PendingReply {
    /// Waits for the reply. May be called again after a time-out.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout): the reply may still come;
    /// [`NoResponders`](ErrorKind::NoResponders);
    /// [`PermissionsViolation`](ErrorKind::PermissionsViolation) if the server refused the request;
    /// [`Disconnected`](ErrorKind::Disconnected) if the connection was lost and requests end then
    /// (by option, or by `force_reconnect`); [`Closed`](ErrorKind::Closed).
    pub fn wait(&self, timeout: Duration) -> Result<Message> {
        // Before it sleeps this thread writes what is unsent, and not before each reply that is
        // there: a pipeline of requests goes out in one write.
        if !self.slot.outcome().is_there() {
            self.core.write(self.core.outbox.kick(), Urgency::Now);
        }
        self.wait_sent(timeout)
    }

    /// Waits for the reply to what was written, or is being written by another thread.
    fn wait_sent(&self, timeout: Duration) -> Result<Message> {
        self.slot.outcome().wait(clock::after(timeout)).unwrap_or_else(|| Err(timed_out(timeout)))
    }

    /// The reply or error if it is there, otherwise `None`. Does not wait.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait), without the time-out.
    pub fn try_wait(&self) -> Option<Result<Message>> {
        self.slot.outcome().get()
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.core.requests.release();
        // What has its outcome is not registered any more.
        if !self.slot.outcome().is_there() {
            self.core.requests.forget(self.slot.token());
        }
    }
}

impl fmt::Debug for PendingReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingReply").finish_non_exhaustive()
    }
}

impl Connection {
    /// Sends a request and waits for its first reply.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`, and for room in the outbox like [`publish`](Self::publish). Across a loss
    /// of the connection it goes on waiting: its reply may still come.
    ///
    /// # Errors
    ///
    /// Those of [`publish`](Self::publish) and [`PendingReply::wait`].
    ///
    /// ```no_run
    /// # let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
    /// let reply = connection.request("time", "", std::time::Duration::from_secs(1))?;
    /// println!("{:?}", reply.payload());
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn request(
        &self,
        subject: impl AsRef<str>,
        payload: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Message> {
        let (subject, payload) = (subject.as_ref(), payload.as_ref());
        let outgoing = Outgoing { subject, reply: None, headers: None, payload };
        self.send(outgoing, Urgency::Now)?.wait_sent(timeout)
    }

    /// Sends a request with headers; otherwise like [`request`](Self::request).
    ///
    /// # Blocking
    ///
    /// Up to `timeout`. May be called from listeners and handlers.
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request), and
    /// [`HeadersUnsupported`](ErrorKind::HeadersUnsupported).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use nats_blocking::{Headers, testing::Server};
    ///
    /// let server = Server::start()?;
    /// let connection = nats_blocking::connect(server.url())?;
    /// let dispatcher = connection.dispatcher(|connection, message| {
    ///     // The answer carries the headers of the question.
    ///     let _ = connection.respond_with_headers(&message, message.headers(), "pong");
    /// })?;
    /// dispatcher.subscribe("ping")?;
    /// let headers = Headers::try_from_iter([("Trace", "7")])?;
    /// let reply = connection.request_with_headers("ping", &headers, "", Duration::from_secs(5))?;
    /// assert_eq!(reply.headers().get("Trace"), Some("7"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn request_with_headers(
        &self,
        subject: impl AsRef<str>,
        headers: &Headers,
        payload: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Message> {
        let (subject, payload) = (subject.as_ref(), payload.as_ref());
        let outgoing = Outgoing { subject, reply: None, headers: Some(headers), payload };
        self.send(outgoing, Urgency::Now)?.wait_sent(timeout)
    }

    /// Sends a message as a request, with its headers; its own reply subject is not used. Otherwise
    /// like [`request`](Self::request).
    ///
    /// # Blocking
    ///
    /// Like [`request`](Self::request).
    ///
    /// # Errors
    ///
    /// Those of [`request`](Self::request).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use std::time::Duration;
    ///
    /// use nats_blocking::Message;
    ///
    /// let doubling = connection.dispatcher(|connection, message| {
    ///     let _ = connection.respond(&message, message.text().unwrap_or("").repeat(2));
    /// })?;
    /// doubling.subscribe("double")?;
    /// let request = Message::new("double", "ab").with_header("Trace", "7")?;
    /// let reply = connection.request_message(&request, Duration::from_secs(10))?;
    /// assert_eq!(reply.payload(), b"abab");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn request_message(&self, message: &Message, timeout: Duration) -> Result<Message> {
        let headers: Option<&Headers> = Some(message.headers());
        let (subject, payload) = (message.subject(), message.payload());
        let outgoing = Outgoing { subject, reply: None, headers, payload };
        self.send(outgoing, Urgency::Now)?.wait_sent(timeout)
    }

    /// Sends a request and returns at once; the reply is waited for with the [`PendingReply`], so
    /// that one thread can have many requests under way.
    ///
    /// # Blocking
    ///
    /// Like [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Those of [`publish`](Self::publish).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use std::time::Duration;
    ///
    /// use nats_blocking::PendingReply;
    ///
    /// let echo = connection.dispatcher(|connection, message| {
    ///     let _ = connection.respond(&message, message.payload());
    /// })?;
    /// echo.subscribe("echo")?;
    /// let first: PendingReply = connection.send_request("echo", "1")?;
    /// let second = connection.send_request("echo", "2")?;
    /// assert_eq!(second.wait(Duration::from_secs(10))?.payload(), b"2");
    /// let first = match first.try_wait() {
    ///     Some(reply) => reply?,
    ///     None => first.wait(Duration::from_secs(10))?,
    /// };
    /// assert_eq!(first.payload(), b"1");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn send_request(
        &self,
        subject: impl AsRef<str>,
        payload: impl AsRef<[u8]>,
    ) -> Result<PendingReply> {
        let (subject, payload) = (subject.as_ref(), payload.as_ref());
        let outgoing = Outgoing { subject, reply: None, headers: None, payload };
        self.send(outgoing, Urgency::Idle)
    }

    /// Sends a message as a request, with its headers, and returns at once; its own reply subject
    /// is not used. Otherwise like [`send_request`](Self::send_request).
    ///
    /// # Errors
    ///
    /// Those of [`send_request`](Self::send_request), and
    /// [`HeadersUnsupported`](ErrorKind::HeadersUnsupported).
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use nats_blocking::Message;
    ///
    /// # let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
    /// let question = Message::new("ask", "why").with_header("Trace", "7")?;
    /// let pending = connection.send_request_message(&question)?;
    /// println!("{:?}", pending.wait(Duration::from_secs(1))?.payload());
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn send_request_message(&self, message: &Message) -> Result<PendingReply> {
        let headers = Some(message.headers());
        let (subject, payload) = (message.subject(), message.payload());
        self.send(Outgoing { subject, reply: None, headers, payload }, Urgency::Idle)
    }

    fn send(&self, outgoing: Outgoing<'_>, urgency: Urgency) -> Result<PendingReply> {
        let core = self.core();
        let pipeline = core.requests.hold() > 0;
        // In a pipeline the next request is about to follow, or this thread is about to wait, which
        // writes: to write one by one would keep the replies one by one, too.
        let urgency = if pipeline && urgency == Urgency::Idle { Urgency::Soon } else { urgency };
        match core.request(outgoing, urgency) {
            Ok(slot) => Ok(PendingReply { core: Arc::clone(core), slot }),
            Err(error) => {
                core.requests.release();
                Err(error)
            }
        }
    }
}

fn timed_out(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no reply came within {timeout:?}"))
}
