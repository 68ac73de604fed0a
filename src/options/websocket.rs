//! WebSocket.

use super::builder::OptionsBuilder;

/// WebSocket (feature `websocket`).
///
/// `ws://host` and `wss://host` (over TLS) in the URL of a server reach it on its WebSocket port,
/// through whatever lets only HTTP pass. The port is 80 and 443 unless the URL names it; a path and
/// a query go into the request. A server that is discovered through such a URL is spoken to in the
/// same way. Both kinds of URLs may stand in one list: whichever server is connected to announces
/// those of its own kind.
impl OptionsBuilder {
    /// Adds a header to the request that begins each WebSocket, such as `Authorization` for a
    /// proxy or `Origin` for a server that looks at it; the value counts as a secret, and no
    /// output of this crate shows it. May be called more than once, also with the same name.
    ///
    /// It goes to every server with `ws://` or `wss://`, the discovered ones too, and with `ws://`
    /// in clear. A name that is none, one that the upgrade itself uses (`Host`, `Connection`,
    /// `Upgrade`, `Sec-WebSocket-…`) or a value with a control character is refused by
    /// [`build`](Self::build).
    ///
    /// ```
    /// let options = nats_blocking::Options::builder()
    ///     .server("wss://example.com/nats")
    ///     .websocket_header("Authorization", "Bearer 0123")
    ///     .build()?;
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn websocket_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.websocket.add(name, value);
        self
    }
}
