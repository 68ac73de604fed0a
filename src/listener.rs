//! The listener traits, and how a listener becomes a sink of the core.
//!
//! Everything here runs on the connection's one callback thread, in the order in which things
//! happened, one call at a time.

use log::{error, info, warn};

use crate::connection::Connection;
use crate::core::{ConnectionEvent, ConnectionEventKind, Core, ErrorNotice, ListenerId, Notice};
use crate::error::Error;
use crate::protocol::Message;
use crate::server_error::ServerError;
use crate::subscriptions::Consumer;
use crate::sync::Arc;

/// Hears what happens to a connection.
///
/// Called on the connection's callback thread, one call at a time, in the order in which things
/// happened. It may block, panic, and call anything on the connection, `close`, `drain`, `flush`
/// and `request` included; it never delays reading or writing. The handle that it is lent keeps
/// nothing open; a clone of it does.
///
/// Closures of the same shape are listeners;
/// [`OptionsBuilder::on_event`](crate::OptionsBuilder::on_event) takes one without type
/// annotations. An `Arc` of a listener is a listener.
///
/// ```
/// use nats_blocking::{Connection, ConnectionEvent, ConnectionListener};
///
/// struct Printer;
///
/// impl ConnectionListener for Printer {
///     fn connection_event(&self, connection: &Connection, event: &ConnectionEvent) {
///         println!("{} {event}", connection.status());
///     }
/// }
/// ```
pub trait ConnectionListener: Send + Sync + 'static {
    /// Something happened. [`Closed`](ConnectionEventKind::Closed) is the last call.
    fn connection_event(&self, connection: &Connection, event: &ConnectionEvent);
}

impl<F> ConnectionListener for F
where
    F: Fn(&Connection, &ConnectionEvent) + Send + Sync + 'static,
{
    fn connection_event(&self, connection: &Connection, event: &ConnectionEvent) {
        self(connection, event);
    }
}

impl<L: ConnectionListener + ?Sized> ConnectionListener for Arc<L> {
    fn connection_event(&self, connection: &Connection, event: &ConnectionEvent) {
        (**self).connection_event(connection, event);
    }
}

/// Hears of errors along the way, those that a call returns too among them: each server at which a
/// first connect failed, a refused subscription or request.
///
/// Called like a [`ConnectionListener`]. Every method has a default that logs, so that a listener
/// only says what it wants to do differently.
///
/// ```
/// use nats_blocking::{Connection, ErrorListener, ServerError};
///
/// struct Printer;
///
/// impl ErrorListener for Printer {
///     fn error_occurred(&self, _: &Connection, error: &ServerError) {
///         println!("server said: {error}");
///     }
/// }
/// ```
pub trait ErrorListener: Send + Sync + 'static {
    /// The server sent `-ERR`, while connecting or later.
    fn error_occurred(&self, connection: &Connection, error: &ServerError) {
        error!("{connection:?}: the server said: {error}");
    }

    /// The library met a failure and handled it: a failed attempt to connect, a broken socket, a
    /// panic of a handler or listener, odd headers.
    fn exception_occurred(&self, connection: &Connection, error: &Error) {
        error!("{connection:?}: {error}");
    }

    /// The consumer is at its limit and its newest messages are dropped; once per episode.
    fn slow_consumer_detected(&self, connection: &Connection, consumer: &dyn Consumer) {
        warn!("{connection:?}: slow consumer: {consumer:?}");
    }

    /// The consumer has worked off half of its limit, which ends the episode.
    fn slow_consumer_recovered(&self, connection: &Connection, consumer: &dyn Consumer) {
        info!("{connection:?}: slow consumer recovered: {consumer:?}");
    }

    /// An outgoing message was dropped, because the outbox is full and
    /// [`DropNewest`](crate::OutboxPolicy::DropNewest) is chosen.
    fn message_discarded(&self, connection: &Connection, message: &Message) {
        info!("{connection:?}: message discarded: {message:?}");
    }

    /// A write to the socket took longer than the write time-out; the connection is replaced.
    fn socket_write_timeout(&self, connection: &Connection) {
        error!("{connection:?}: socket write timeout");
    }
}

impl<L: ErrorListener + ?Sized> ErrorListener for Arc<L> {
    fn error_occurred(&self, connection: &Connection, error: &ServerError) {
        (**self).error_occurred(connection, error);
    }

    fn exception_occurred(&self, connection: &Connection, error: &Error) {
        (**self).exception_occurred(connection, error);
    }

    fn slow_consumer_detected(&self, connection: &Connection, consumer: &dyn Consumer) {
        (**self).slow_consumer_detected(connection, consumer);
    }

    fn slow_consumer_recovered(&self, connection: &Connection, consumer: &dyn Consumer) {
        (**self).slow_consumer_recovered(connection, consumer);
    }

    fn message_discarded(&self, connection: &Connection, message: &Message) {
        (**self).message_discarded(connection, message);
    }

    fn socket_write_timeout(&self, connection: &Connection) {
        (**self).socket_write_timeout(connection);
    }
}

/// The error listener of a connection that was given none: it logs.
pub(crate) struct LoggingErrorListener;

impl ErrorListener for LoggingErrorListener {}

/// A listener as the core calls it.
pub(crate) type Sink = Arc<dyn Fn(&Arc<Core>, &Notice) + Send + Sync>;

/// Calls a connection listener.
pub(crate) fn connection_sink(listener: impl ConnectionListener) -> Sink {
    Arc::new(move |core, notice| {
        if let Notice::Event(event) = notice {
            listener.connection_event(&Connection::lend(core), event);
        }
    })
}

/// Calls an error listener.
pub(crate) fn error_sink(listener: impl ErrorListener) -> Sink {
    notice_sink(move |connection, notice| match notice {
        ErrorNotice::ServerError(error) => listener.error_occurred(connection, error),
        ErrorNotice::Exception(error) => listener.exception_occurred(connection, error),
        ErrorNotice::SlowConsumer(view) => listener.slow_consumer_detected(connection, &**view),
        ErrorNotice::SlowConsumerRecovered(view) => {
            listener.slow_consumer_recovered(connection, &**view);
        }
        ErrorNotice::MessageDiscarded(message) => listener.message_discarded(connection, message),
        ErrorNotice::SocketWriteTimeout => listener.socket_write_timeout(connection),
    })
}

/// Calls a closure for every error notice.
pub(crate) fn notice_sink(
    call: impl Fn(&Connection, &ErrorNotice) + Send + Sync + 'static,
) -> Sink {
    Arc::new(move |core, notice| {
        if let Notice::Error { notice, .. } = notice {
            call(&Connection::lend(core), notice);
        }
    })
}

/// Calls a closure for events of one kind.
pub(crate) fn kind_sink(
    wanted: fn(&ConnectionEventKind) -> bool,
    call: impl Fn(&Connection, &ConnectionEvent) + Send + Sync + 'static,
) -> Sink {
    connection_sink(move |connection: &Connection, event: &ConnectionEvent| {
        if wanted(event.kind()) {
            call(connection, event);
        }
    })
}

impl Connection {
    /// Adds a listener; it hears what happens from now on. The same object may be added more than
    /// once and is then called once for each.
    pub fn add_connection_listener(&self, listener: impl ConnectionListener) -> ListenerId {
        self.core().hub.add(connection_sink(listener))
    }

    /// Adds a closure that is called for every event from now on.
    pub fn on_event<F>(&self, call: F) -> ListenerId
    where
        F: Fn(&Self, &ConnectionEvent) + Send + Sync + 'static,
    {
        self.core().hub.add(connection_sink(call))
    }

    /// Adds a closure that is called for every error that an [`ErrorListener`] hears of, from now
    /// on.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// let events = connection.on_event(|connection, event| {
    ///     println!("{:?} {event}", connection.name());
    /// });
    /// connection.on_error(|_, notice| eprintln!("{notice}"));
    /// assert!(connection.remove_listener(events));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn on_error<F>(&self, call: F) -> ListenerId
    where
        F: Fn(&Self, &ErrorNotice) + Send + Sync + 'static,
    {
        self.core().hub.add(notice_sink(call))
    }

    /// Adds an error listener; it hears what happens from now on.
    pub fn add_error_listener(&self, listener: impl ErrorListener) -> ListenerId {
        self.core().hub.add(error_sink(listener))
    }

    /// Removes a listener of either kind. A call that is under way, or just begins, still ends; no
    /// other follows, and [`barrier`](Self::barrier) waits for it. Returns whether it was there.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use nats_blocking::{Connection, ConnectionEvent, ErrorListener, ListenerId};
    ///
    /// struct Quiet;
    ///
    /// impl ErrorListener for Quiet {}
    ///
    /// let printer = |_: &Connection, event: &ConnectionEvent| println!("{event}");
    /// let events: ListenerId = connection.add_connection_listener(printer);
    /// let errors = connection.add_error_listener(Quiet);
    /// assert!(connection.remove_listener(events) && connection.remove_listener(errors));
    /// assert!(!connection.remove_listener(events), "it is gone");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn remove_listener(&self, listener: ListenerId) -> bool {
        self.core().hub.remove(listener)
    }
}
