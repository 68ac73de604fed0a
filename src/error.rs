//! The one error type of this crate.
//!
//! An [`Error`] is a pointer: small, cheap to clone, with a [`kind`](Error::kind) to decide by, a
//! text for people and a chain of sources. No user name, password, token or payload ever enters
//! one; texts name the offending part and nothing else.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::server_error::ServerError;

/// The result of every call of this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, to decide by.
///
/// The kinds are grouped by who can mend the fault: the caller, the server, the network, or nobody
/// but time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A server URL cannot be used.
    InvalidUrl,
    /// A subject or reply subject is empty or holds something that a subject cannot hold.
    InvalidSubject,
    /// A queue group name is empty or holds something that it cannot hold.
    InvalidQueueGroup,
    /// A header name or value cannot be written.
    InvalidHeader,
    /// An option, or a combination of options, makes no sense.
    InvalidOption,
    /// The call makes no sense here: the text says why and what to do instead.
    Misuse,
    /// A payload is asked for as text and is no UTF-8.
    NotText,
    /// Payload and headers together are larger than the server accepts.
    MaxPayload,
    /// The protocol line of a message or subscription would be longer than the control line.
    MaxControlLine,
    /// The message has headers, and they are switched off at the server or by `no_headers`.
    HeadersUnsupported,
    /// The connection is up, but its outbox stayed full for as long as a publisher may wait.
    OutboxFull,
    /// The connection is down and the reconnect buffer is full, or switched off.
    ReconnectBufferFull,
    /// The deadline of the call passed.
    Timeout,
    /// Nobody listens to the subject of a request.
    NoResponders,
    /// The connection was lost, or is not there.
    Disconnected,
    /// The connection, subscription or dispatcher has ended.
    Closed,
    /// The connection or subscription is draining and takes no new work.
    Draining,
    /// The server does not permit this user the subject.
    PermissionsViolation,
    /// Who we are could not be said: a credentials file that cannot be read, a seed or a JWT that
    /// is malformed, a source of credentials that failed, a server that sends no nonce to sign.
    Credentials,
    /// The server refused who we say we are.
    Authorization,
    /// The server said something else with `-ERR`.
    Server,
    /// The server broke the protocol.
    Protocol,
    /// The operating system refused or broke something: a socket, a thread.
    Io,
    /// A host name could not be resolved.
    Dns,
    /// TLS is wanted and cannot be had: the text says which check failed, or which file.
    Tls,
    /// No server accepted the connection; [`Error::attempts`] has the cause for each.
    Connect,
    /// The server stopped answering pings.
    StaleConnection,
    /// A write to the socket did not finish within the write time-out.
    WriteTimeout,
    /// The program asked for a new connection with `force_reconnect`.
    ForcedReconnect,
    /// The server announced its end, and the connection left it: `reconnect_on_lame_duck`.
    LameDuck,
    /// A handler or listener of the program panicked.
    UserPanic,
    /// A promise that this crate makes to itself was broken. Please report it.
    Internal,
}

/// One failed attempt to connect: the server and why.
#[derive(Debug, Clone)]
pub struct ConnectAttempt {
    server: String,
    cause: Error,
}

impl ConnectAttempt {
    pub(crate) fn new(server: String, cause: Error) -> Self {
        Self { server, cause }
    }

    /// The URL of the server that was tried, without user information.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Why the attempt failed.
    pub fn cause(&self) -> &Error {
        &self.cause
    }
}

/// An error of this crate: small, `Clone`, with a [`kind`](Self::kind) to decide by.
///
/// [`Display`](fmt::Display) gives one line for people, without the source; the source is in the
/// chain of [`std::error::Error::source`].
///
/// ```
/// use nats_blocking::ErrorKind;
///
/// let error = nats_blocking::connect("nats://").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidUrl);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    text: String,
    source: Option<Source>,
    attempts: Vec<ConnectAttempt>,
}

enum Source {
    Foreign(Box<dyn StdError + Send + Sync>),
    Own(Error),
    Server(ServerError),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self::build(kind, text.into(), None)
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        text: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::build(kind, text.into(), Some(Source::Foreign(source.into())))
    }

    pub(crate) fn caused_by(kind: ErrorKind, text: impl Into<String>, cause: Self) -> Self {
        Self::build(kind, text.into(), Some(Source::Own(cause)))
    }

    /// A failed read or write. What a stream explains with an error of this crate keeps its kind.
    pub(crate) fn io(doing: &str, error: io::Error) -> Self {
        let own = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        if let Some(own) = own {
            return Self::caused_by(own.kind(), format!("{doing}: {own}"), own.clone());
        }
        Self::with_source(ErrorKind::Io, format!("{doing}: {error}"), error)
    }

    pub(crate) fn connect(attempts: Vec<ConnectAttempt>) -> Self {
        let mut text = String::from("no server accepted the connection");
        for (index, attempt) in attempts.iter().enumerate() {
            text.push_str(if index == 0 { ": " } else { "; " });
            text.push_str(&attempt.server);
            text.push_str(": ");
            text.push_str(&attempt.cause.0.text);
        }
        let source = attempts.last().map(|last| Source::Own(last.cause.clone()));
        Self(Arc::new(Inner { kind: ErrorKind::Connect, text, source, attempts }))
    }

    fn build(kind: ErrorKind, text: String, source: Option<Source>) -> Self {
        Self(Arc::new(Inner { kind, text, source, attempts: Vec::new() }))
    }

    /// What went wrong, to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// For a failed connect: each server that was tried, in order, with its own cause. Otherwise
    /// empty.
    pub fn attempts(&self) -> &[ConnectAttempt] {
        &self.0.attempts
    }

    /// What the server said, if an `-ERR` of the server is the cause or among the causes.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self.0.source.as_ref()? {
            Source::Server(error) => Some(error),
            Source::Own(error) => error.server_error(),
            Source::Foreign(_) => None,
        }
    }

    /// Whether the deadline of the call passed.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Whether the connection, subscription or dispatcher has ended.
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }

    /// Whether the connection was lost, or is not there, and may come back.
    pub fn is_disconnected(&self) -> bool {
        self.kind() == ErrorKind::Disconnected
    }

    /// Whether nobody listens to the subject of a request.
    pub fn is_no_responders(&self) -> bool {
        self.kind() == ErrorKind::NoResponders
    }

    /// Whether the server refused who we say we are, here or in one of the causes.
    pub fn is_authorization(&self) -> bool {
        if self.kind() == ErrorKind::Authorization {
            return true;
        }
        self.0.attempts.iter().any(|attempt| attempt.cause.is_authorization())
            || matches!(&self.0.source, Some(Source::Own(cause)) if cause.is_authorization())
    }
}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        let kind = if error.is_authorization() {
            ErrorKind::Authorization
        } else if error.is_permissions_violation() {
            ErrorKind::PermissionsViolation
        } else {
            ErrorKind::Server
        };
        Self::build(kind, format!("the server said: {error}"), Some(Source::Server(error)))
    }
}

/// `Timeout` and `WriteTimeout` become `TimedOut`; `Disconnected` and `Closed` `NotConnected`;
/// `Authorization` and `PermissionsViolation` `PermissionDenied`; the kinds that begin with
/// `Invalid` `InvalidInput`; `Protocol` `InvalidData`; all others `Other`.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Timeout | ErrorKind::WriteTimeout => io::ErrorKind::TimedOut,
            ErrorKind::Disconnected | ErrorKind::Closed => io::ErrorKind::NotConnected,
            ErrorKind::Authorization | ErrorKind::PermissionsViolation => {
                io::ErrorKind::PermissionDenied
            }
            ErrorKind::InvalidUrl
            | ErrorKind::InvalidSubject
            | ErrorKind::InvalidQueueGroup
            | ErrorKind::InvalidHeader
            | ErrorKind::InvalidOption => io::ErrorKind::InvalidInput,
            ErrorKind::Protocol => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// An error never changes once it is made.
impl UnwindSafe for Error {}
impl RefUnwindSafe for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// One line of kind and text, as `main` and `unwrap` print it; with `{:#?}` the whole structure.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return write!(f, "{:?}: {}", self.0.kind, self.0.text);
        }
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("text", &self.0.text);
        if let Some(source) = self.source() {
            debug.field("source", &source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0.source.as_ref()? {
            Source::Foreign(error) => Some(&**error),
            Source::Own(error) => Some(error),
            Source::Server(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connect_names_every_server_with_its_cause() {
        let refused = Error::new(ErrorKind::Io, "connection refused");
        let denied = Error::from(ServerError::parse("Authorization Violation"));
        let error = Error::connect(vec![
            ConnectAttempt::new("nats://a:4222".to_owned(), refused),
            ConnectAttempt::new("nats://b:4222".to_owned(), denied),
        ]);
        assert_eq!(
            error.to_string(),
            "no server accepted the connection: nats://a:4222: connection refused; \
             nats://b:4222: the server said: Authorization Violation"
        );
        assert!(error.is_authorization());
        assert_eq!(error.attempts().len(), 2);
        assert!(error.server_error().is_some());
    }

    #[test]
    fn an_error_is_printed_in_one_line_and_whole_when_asked() {
        let cause = Error::new(ErrorKind::Io, "connection refused");
        let error = Error::caused_by(ErrorKind::Connect, "no server".to_owned(), cause);
        assert_eq!(format!("{error:?}"), "Connect: no server");
        assert!(format!("{error:#?}").contains("text: \"connection refused\""), "{error:#?}");
    }

    #[test]
    fn an_error_is_one_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
