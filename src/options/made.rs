//! Options: what a connection is to be, checked before anything is sent, and how it is made.

use std::fmt;

use crate::connection::Connection;
use crate::core::{Config, Core};
use crate::error::Result;
use crate::listener::Sink;
use crate::sync::Arc;
use crate::transport::{Dial, Resolution, TcpConnector};

/// What a connection is to be; made by [`Options::builder`], used any number of times.
///
/// `Debug` shows everything but secrets.
#[derive(Clone)]
pub struct Options {
    pub(crate) config: Config,
    pub(crate) sinks: Vec<Sink>,
}

impl Options {
    /// Connects: tries each server once, in random order unless told otherwise; with
    /// [`retry_on_failed_connect`](crate::OptionsBuilder::retry_on_failed_connect) again and again.
    ///
    /// # Blocking
    ///
    /// Up to the connect time-out for each server, or with `RetryConnect::Within` up to that limit;
    /// with `RetryConnect::InBackground` not at all; where all fail also up to the close time-out,
    /// for listeners that are slow to hear of it. Must not be called from a listener or handler of
    /// another connection that is needed for it.
    ///
    /// # Errors
    ///
    /// [`Connect`](crate::ErrorKind::Connect) with the cause for each server in
    /// [`Error::attempts`](crate::Error::attempts);
    /// [`Io`](crate::ErrorKind::Io) if a thread cannot be started;
    /// [`Timeout`](crate::ErrorKind::Timeout) if a callback of the program does not return.
    pub fn connect(&self) -> Result<Connection> {
        let tcp = TcpConnector::new(self.config.tcp.clone(), Resolution::new());
        self.connect_over(Box::new(tcp))
    }

    /// Connects by way of `dial`.
    pub(crate) fn connect_over(&self, dial: Box<dyn Dial>) -> Result<Connection> {
        let core = Core::new(self.config.clone(), dial)?;
        for sink in &self.sinks {
            core.hub.add(Arc::clone(sink));
        }
        if let Err(error) = core.connect() {
            // The connection has ended already: the handle goes without closing it once more.
            core.drop_handle();
            return Err(error);
        }
        Ok(Connection::first(core))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("listeners", &self.sinks.len())
            .finish()
    }
}
