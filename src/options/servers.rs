//! Which servers.

use super::builder::OptionsBuilder;
use crate::core::{SelectedServer, ServerChoice};
use crate::server_list::ServerList;
use crate::sync::Arc;

/// Servers.
impl OptionsBuilder {
    /// Adds a server, or a comma-separated list of servers.
    pub fn server(self, server: impl ServerList) -> Self {
        self.servers(server)
    }

    /// Adds servers. If none is given by any call, it is `nats://localhost:4222`; an empty list,
    /// and nothing else, is refused.
    pub fn servers(mut self, servers: impl ServerList) -> Self {
        let texts = servers.texts();
        if texts.is_empty() {
            // Whoever gives an empty list does not mean the default.
            self.servers.push(String::new());
        }
        self.servers.extend(texts);
        self
    }

    /// The name of the connection, as the server's monitoring and the thread names show it. Tools
    /// of Linux show the first 15 bytes of a thread's name, which do not reach it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Uses the servers in the given order instead of a random one.
    pub fn no_randomize(mut self) -> Self {
        self.config.pool.keep_order = true;
        self
    }

    /// Asks the program before every attempt of an outage, and of a
    /// [retried](Self::retry_on_failed_connect) first connect, which server comes next. It gets a
    /// copy of the pool and what the last server said about itself, and gives a server of the pool
    /// with a delay of its own, or none for the usual order and pauses.
    ///
    /// Without a delay the attempt is made at once: a closure that always gives the same dead
    /// server is asked again and again without a pause. A server that is not in the pool is told
    /// to `exception_occurred`, and the usual order holds. The closure runs on the reader thread,
    /// with the rules of [`reconnect_delay`](Self::reconnect_delay).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use nats_blocking::{Options, SelectedServer};
    ///
    /// // The one that has failed least often; later attempts wait longer.
    /// let options = Options::builder()
    ///     .servers("nats://a,nats://b")
    ///     .select_server(|choice| {
    ///         let best = choice.servers().iter().min_by_key(|server| server.failed_attempts())?;
    ///         let delay = Duration::from_millis(10) * (choice.attempt() - 1).min(100);
    ///         Some(SelectedServer::new(best.url()).with_delay(delay))
    ///     })
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn select_server<F>(mut self, select: F) -> Self
    where
        F: Fn(&ServerChoice) -> Option<SelectedServer> + Send + Sync + 'static,
    {
        self.config.deciders.select = Some(Arc::new(select));
        self
    }

    /// Uses the configured servers only, not those that the cluster announces.
    pub fn ignore_discovered_servers(mut self) -> Self {
        self.config.pool.ignore_discovered = true;
        self
    }

    /// Keeps trying a server that has refused us twice with the same text; by default it is given
    /// up.
    pub fn ignore_authorization_abort(mut self) -> Self {
        self.config.pool.keep_refusing = true;
        self
    }
}
