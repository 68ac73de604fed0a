//! Listeners and closures that are there from the beginning.

use super::builder::OptionsBuilder;
use crate::connection::Connection;
use crate::core::{ConnectionEvent, ConnectionEventKind as Kind, ErrorNotice};
use crate::listener::{
    ConnectionListener, ErrorListener, Sink, connection_sink, error_sink, kind_sink, notice_sink,
};

/// Listeners.
impl OptionsBuilder {
    /// Adds a listener for the events of the connection.
    pub fn connection_listener(self, listener: impl ConnectionListener) -> Self {
        self.sink(connection_sink(listener))
    }

    /// Adds a listener for errors along the way; see [`ErrorListener`]. Without any, they are
    /// logged. A [`connect`](Self::connect) that fails tells each failed server, and `Closed` at
    /// the end.
    pub fn error_listener(mut self, listener: impl ErrorListener) -> Self {
        self.hears_errors = true;
        self.sink(error_sink(listener))
    }

    /// Adds a closure that is called for every event.
    ///
    /// ```
    /// let options = nats_blocking::Options::builder()
    ///     .on_event(|connection, event| println!("{} {event}", connection.status()))
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn on_event<F>(self, call: F) -> Self
    where
        F: Fn(&Connection, &ConnectionEvent) + Send + Sync + 'static,
    {
        self.sink(connection_sink(call))
    }

    /// Adds a closure that is called for every error that an [`ErrorListener`] hears of.
    pub fn on_error<F>(mut self, call: F) -> Self
    where
        F: Fn(&Connection, &ErrorNotice) + Send + Sync + 'static,
    {
        self.hears_errors = true;
        self.sink(notice_sink(call))
    }

    /// After the program's own end of the connection (`close`, `drain` once it is over, the drop of
    /// the last handle) no listener is called any more, `Closed` included; what waits is thrown
    /// away, and [`events`](Connection::events) ends. A listener that runs at that moment is not
    /// cut off. [`wait_closed`](Connection::wait_closed) waits as always.
    pub fn no_events_after_close(mut self) -> Self {
        self.config.no_events_after_close = true;
        self
    }

    /// When the program itself ends an established connection, listeners hear
    /// [`Disconnected`](Kind::Disconnected), with an error of kind
    /// [`Closed`](crate::ErrorKind::Closed), and then [`Closed`](Kind::Closed); by default `Closed`
    /// alone.
    pub fn disconnected_on_close(mut self) -> Self {
        self.config.disconnected_on_close = true;
        self
    }

    fn sink(mut self, sink: Sink) -> Self {
        self.sinks.push(sink);
        self
    }
}

macro_rules! on_event {
    ($($(#[$doc:meta])* $name:ident: $pattern:pat,)+) => {
        /// Closures for single kinds of events; each adds a listener.
        impl OptionsBuilder {
            $($(#[$doc])*
            pub fn $name<F>(self, call: F) -> Self
            where
                F: Fn(&Connection, &ConnectionEvent) + Send + Sync + 'static,
            {
                self.sink(kind_sink(|kind| matches!(kind, $pattern), call))
            })+
        }
    };
}

on_event! {
    /// Calls the closure when the first handshake completed.
    on_connected: Kind::Connected,
    /// Calls the closure when an established connection was lost.
    on_disconnected: Kind::Disconnected { .. },
    /// Calls the closure when an attempt to reconnect begins.
    on_reconnecting: Kind::Reconnecting { .. },
    /// Calls the closure when an attempt to reconnect failed.
    on_reconnect_failed: Kind::ReconnectFailed { .. },
    /// Calls the closure when the connection is back.
    on_reconnected: Kind::Reconnected { .. },
    /// Calls the closure when the subscriptions are known to the new server.
    on_resubscribed: Kind::Resubscribed { .. },
    /// Calls the closure when the cluster's list of servers changed.
    on_discovered_servers: Kind::DiscoveredServers { .. },
    /// Calls the closure when the server is about to shut down.
    on_lame_duck: Kind::LameDuck,
    /// Calls the closure when the server stopped answering pings.
    on_stale_connection: Kind::StaleConnection { .. },
    /// Calls the closure when `force_reconnect` was called.
    on_forced_reconnect: Kind::ForcedReconnect,
    /// Calls the closure when `drain` began.
    on_draining: Kind::Draining,
    /// Calls the closure at the end, as the last call of all.
    on_closed: Kind::Closed { .. },
}
