//! Which servers, and who to be there.

use super::builder::OptionsBuilder;
use super::server_list::ServerList;
use crate::auth::Secret;

/// Servers and who to be there.
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

    /// The name of the connection, as the server's monitoring and the thread names show it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// User and password, for servers whose URL has none.
    pub fn user_and_password(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.config.credentials.user = Some((Secret::new(user), Secret::new(password)));
        self
    }

    /// A token, for servers whose URL has none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.config.credentials.token = Some(Secret::new(token));
        self
    }

    /// Uses the servers in the given order instead of a random one.
    pub fn no_randomize(mut self) -> Self {
        self.config.pool.keep_order = true;
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
