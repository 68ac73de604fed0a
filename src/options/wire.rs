//! How the protocol is spoken.

use super::builder::OptionsBuilder;

/// The protocol.
impl OptionsBuilder {
    /// What inbox subjects begin with, without a dot at the end. Default `_INBOX`.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        // Java's option has the dot at the end; both spellings mean the same.
        self.config.inbox_prefix = prefix.strip_suffix('.').unwrap_or(&prefix).to_owned();
        self
    }

    /// Refuses to publish to a subject, or with a reply subject, that has a wildcard or an empty
    /// token: such a message reaches nobody who means it. Costs a second look at each subject.
    ///
    /// Without this, such messages are sent, as the server permits it. What would break the
    /// protocol (blanks, line ends, an empty subject) is always refused.
    pub fn strict_subjects(mut self) -> Self {
        self.config.strict_subjects = true;
        self
    }

    /// The server does not send this connection what it published itself. A server of protocol 0,
    /// which cannot do this, is refused with [`Misuse`](crate::ErrorKind::Misuse).
    pub fn no_echo(mut self) -> Self {
        self.config.echo = false;
        self
    }

    /// Tells the server not to use headers with this connection. Then there are no no-responders
    /// replies either.
    pub fn no_headers(mut self) -> Self {
        self.config.headers = false;
        self
    }

    /// A request that nobody listens to waits out its time instead of failing at once.
    pub fn no_no_responders(mut self) -> Self {
        self.config.no_responders = false;
        self
    }

    /// The server confirms each operation with `+OK`, which is counted: as many lines back as
    /// operations sent.
    pub fn verbose(mut self) -> Self {
        self.config.verbose = true;
        self
    }

    /// The server checks subjects strictly, which costs it time for every message.
    pub fn pedantic(mut self) -> Self {
        self.config.pedantic = true;
        self
    }
}
