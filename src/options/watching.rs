//! Looking at what the connection does inside, for debugging.

use super::builder::OptionsBuilder;
use crate::read_listener::{ReadListener, ReadOperation};
use crate::sync::Arc;
use crate::trace::TraceStep;

/// Debugging.
impl OptionsBuilder {
    /// Lets the listener hear every operation that is read, on the reader thread, which it slows
    /// down; see [`ReadListener`]. A connection has one at most: the last one set.
    pub fn read_listener(mut self, listener: impl ReadListener) -> Self {
        self.config.watch.read = Some(Arc::new(listener));
        self
    }

    /// Calls the closure for every operation that is read, as
    /// [`read_listener`](Self::read_listener) does.
    ///
    /// ```
    /// let options = nats_blocking::Options::builder()
    ///     .on_read(|operation| eprintln!("<- {operation}"))
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn on_read<F>(self, call: F) -> Self
    where
        F: Fn(&ReadOperation<'_>) + Send + Sync + 'static,
    {
        self.read_listener(call)
    }

    /// Calls the closure for each step of each attempt to connect, the first pass over the servers
    /// included, with the time since the attempt began. The last one set counts.
    ///
    /// It is called on the reader thread, with no lock held; the attempt waits for it, and its
    /// connect time-out goes on. A panic is caught and counted, and the first told to
    /// `exception_occurred`. No step shows user information or what a CONNECT holds. The closure
    /// lives as long as the connection's last handle: one that needs a handle holds a
    /// [`WeakConnection`](crate::WeakConnection).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = nats_blocking::testing::Server::start()?;
    /// let connection = nats_blocking::Options::builder()
    ///     .server(server.url())
    ///     // nats://127.0.0.1:40321 +0.184 ms: connected from 127.0.0.1:51112 to …
    ///     .trace_connection(|step| println!("{step}"))
    ///     .connect()?;
    /// # connection.close();
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn trace_connection<F>(mut self, call: F) -> Self
    where
        F: Fn(&TraceStep) + Send + Sync + 'static,
    {
        self.config.watch.trace = Some(Arc::new(call));
        self
    }
}
