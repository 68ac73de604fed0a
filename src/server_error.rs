//! What a server says with `-ERR`, typed.
//!
//! Plain strings and numbers, so that [`Error`](crate::Error) can hold one. The texts are those of
//! `nats-server` 2.9 to 2.15; case, quotes and trailing words differ between versions, so matching
//! ignores case and looks for the part that all of them share. A subject keeps its own case.

use std::fmt;

/// What the server refused, in a [`ServerErrorKind::PermissionsViolation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedOperation {
    /// Publishing to the subject.
    Publish,
    /// Publishing with the subject as the reply subject.
    Reply,
    /// Subscribing to the subject.
    Subscribe,
}

/// Which error a server reported.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerErrorKind {
    /// The user, password, token, key or JWT was refused.
    AuthorizationViolation,
    /// The client did not say who it is in the time that the server allows.
    AuthenticationTimeout,
    /// The credentials of the user have expired.
    UserAuthenticationExpired,
    /// The credentials of the user were revoked.
    UserAuthenticationRevoked,
    /// The account has expired.
    AccountAuthenticationExpired,
    /// The user may not do this with the subject. The connection stays.
    PermissionsViolation {
        /// What was refused.
        operation: RefusedOperation,
        /// The refused subject, or empty if the server did not name one.
        subject: String,
        /// The queue group of a refused subscription.
        queue: Option<String>,
        /// The sid of a refused subscription, where the server names it (2.14 and later do for
        /// some).
        sid: Option<u64>,
    },
    /// The server got no answer to its pings.
    StaleConnection,
    /// The server has as many connections as it allows.
    MaximumConnections,
    /// The account has as many connections as it allows.
    MaximumAccountConnections,
    /// The server is admitting connections slowly.
    ConnectionThrottled,
    /// The user has as many subscriptions as are allowed. The connection stays.
    MaximumSubscriptions,
    /// A message was larger than the server accepts.
    MaximumPayload,
    /// A protocol line was longer than the server accepts.
    MaximumControlLine,
    /// The server could not read what was sent.
    UnknownProtocolOperation,
    /// The server could not read what was sent (texts of old servers).
    ParserError,
    /// The client announced a protocol version that the server does not know.
    InvalidClientProtocol,
    /// No-responders replies were asked for without headers.
    NoRespondersRequiresHeaders,
    /// Headers were sent to a server that has them switched off.
    HeadersUnsupported,
    /// A header block was malformed.
    BadMessageHeader,
    /// The server takes no connection in clear.
    TlsRequired,
    /// The port belongs to routes, gateways or leaf nodes.
    WrongPort,
    /// The server cut the connection because this client read too slowly (texts of old servers).
    SlowConsumer,
    /// The account could not be registered.
    FailedAccountRegistration,
    /// A subscription's subject was refused (pedantic mode). The connection stays.
    InvalidSubject,
    /// A message's subject was refused (pedantic mode). The connection stays.
    InvalidPublishSubject,
    /// Any other text.
    Other,
}

/// An `-ERR` of the server: its [`kind`](Self::kind), the server's own [`text`](Self::text), and
/// whether the server closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerError {
    kind: ServerErrorKind,
    text: String,
}

/// The longest text of an `-ERR` that is kept, in characters: real ones are far shorter, a hostile
/// one must not fill a log.
const TEXT_LIMIT: usize = 1024;

impl ServerError {
    /// Reads the rest of an `-ERR` line, with or without its quotes.
    pub(crate) fn parse(line: &str) -> Self {
        let trimmed = line.trim();
        let text = trimmed
            .strip_prefix('\'')
            .map(|rest| rest.strip_suffix('\'').unwrap_or(rest))
            .unwrap_or(trimmed)
            .trim();
        let kind = classify(text);
        let text = text.chars().filter(|c| !c.is_control()).take(TEXT_LIMIT).collect();
        Self { kind, text }
    }

    /// Which error it is.
    pub fn kind(&self) -> &ServerErrorKind {
        &self.kind
    }

    /// The server's own words, without quotes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the server ends the connection after this error.
    pub fn closes_connection(&self) -> bool {
        !matches!(
            self.kind,
            ServerErrorKind::PermissionsViolation { .. }
                | ServerErrorKind::MaximumSubscriptions
                | ServerErrorKind::InvalidSubject
                | ServerErrorKind::InvalidPublishSubject
        )
    }

    /// Whether the server refused who we say we are: the same refusal twice from one server gives
    /// that server up.
    ///
    /// An authentication time-out is not among them: an overloaded server is no reason to give up.
    pub fn is_authorization(&self) -> bool {
        matches!(
            self.kind,
            ServerErrorKind::AuthorizationViolation
                | ServerErrorKind::UserAuthenticationExpired
                | ServerErrorKind::UserAuthenticationRevoked
                | ServerErrorKind::AccountAuthenticationExpired
        )
    }

    /// Whether the user may not do something with a subject.
    pub fn is_permissions_violation(&self) -> bool {
        matches!(self.kind, ServerErrorKind::PermissionsViolation { .. })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "(no text)" } else { &self.text })
    }
}

impl std::error::Error for ServerError {}

/// The parts of the known texts, in lower case, in the order in which they are looked for.
const TEXTS: &[(&str, ServerErrorKind)] = &[
    ("authorization violation", ServerErrorKind::AuthorizationViolation),
    ("authentication timeout", ServerErrorKind::AuthenticationTimeout),
    ("authorization timeout", ServerErrorKind::AuthenticationTimeout),
    ("user authentication expired", ServerErrorKind::UserAuthenticationExpired),
    ("user authentication revoked", ServerErrorKind::UserAuthenticationRevoked),
    ("account authentication expired", ServerErrorKind::AccountAuthenticationExpired),
    ("stale connection", ServerErrorKind::StaleConnection),
    ("maximum account active connections exceeded", ServerErrorKind::MaximumAccountConnections),
    ("maximum connections exceeded", ServerErrorKind::MaximumConnections),
    ("connection throttling is active", ServerErrorKind::ConnectionThrottled),
    ("maximum subscriptions exceeded", ServerErrorKind::MaximumSubscriptions),
    ("maximum payload", ServerErrorKind::MaximumPayload),
    ("maximum control line exceeded", ServerErrorKind::MaximumControlLine),
    ("unknown protocol operation", ServerErrorKind::UnknownProtocolOperation),
    ("parser error", ServerErrorKind::ParserError),
    ("invalid client protocol", ServerErrorKind::InvalidClientProtocol),
    ("no responders requires headers", ServerErrorKind::NoRespondersRequiresHeaders),
    ("message headers not supported", ServerErrorKind::HeadersUnsupported),
    ("bad message header", ServerErrorKind::BadMessageHeader),
    ("secure connection - tls required", ServerErrorKind::TlsRequired),
    ("attempted to connect to", ServerErrorKind::WrongPort),
    ("slow consumer", ServerErrorKind::SlowConsumer),
    ("failed account registration", ServerErrorKind::FailedAccountRegistration),
    ("invalid publish subject", ServerErrorKind::InvalidPublishSubject),
    ("invalid subject", ServerErrorKind::InvalidSubject),
];

fn classify(text: &str) -> ServerErrorKind {
    let lower = text.to_ascii_lowercase();
    // Before the table: a violation quotes a subject, which may spell any of the other texts.
    if lower.starts_with("permissions violation") {
        return violation(text, &lower);
    }
    TEXTS
        .iter()
        .find(|(part, _)| lower.starts_with(part))
        .or_else(|| TEXTS.iter().find(|(part, _)| lower.contains(part)))
        .map_or(ServerErrorKind::Other, |(_, kind)| kind.clone())
}

fn violation(text: &str, lower: &str) -> ServerErrorKind {
    let operation = if lower.contains("for subscription to") {
        RefusedOperation::Subscribe
    } else if lower.contains("with reply of") {
        RefusedOperation::Reply
    } else {
        RefusedOperation::Publish
    };
    let marker = match operation {
        RefusedOperation::Subscribe => "for subscription to",
        RefusedOperation::Reply => "with reply of",
        RefusedOperation::Publish => "for publish to",
    };
    let (subject, rest) = quoted_after(text, lower, marker).unwrap_or_default();
    let rest_lower = rest.to_ascii_lowercase();
    let queue = quoted_after(&rest, &rest_lower, "using queue").map(|(queue, _)| queue);
    let sid = quoted_after(&rest, &rest_lower, "sid").and_then(|(sid, _)| sid.parse().ok());
    ServerErrorKind::PermissionsViolation { operation, subject, queue, sid }
}

/// The quoted word (double or single quotes) that follows `marker`, and what stands behind it. In
/// double quotes the server escapes as Go does.
fn quoted_after(text: &str, lower: &str, marker: &str) -> Option<(String, String)> {
    // Lower-casing ASCII keeps every byte in its place, so an index into one is an index into the
    // other.
    let rest = text.get(lower.find(marker)?.checked_add(marker.len())?..)?;
    let rest = rest.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = rest.get(1..)?;
    let mut word = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            c if c == quote => return Some((word, chars.as_str().to_owned())),
            '\\' if quote == '"' => word.push(unescape(&mut chars)?),
            c => word.push(c),
        }
    }
}

/// The character behind a backslash, as Go writes it.
fn unescape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let digits = match chars.next()? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        other => return Some(other),
    };
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_text_has_its_kind() {
        use ServerErrorKind as K;
        let cases = [
            ("'Unknown Protocol Operation'", K::UnknownProtocolOperation, true),
            ("'Attempted To Connect To Route Port'", K::WrongPort, true),
            ("'attempted to connect to leaf node port'", K::WrongPort, true),
            ("'Authorization Violation'", K::AuthorizationViolation, true),
            ("'Authentication Timeout'", K::AuthenticationTimeout, true),
            ("'Authorization Timeout'", K::AuthenticationTimeout, true),
            ("'User Authentication Expired'", K::UserAuthenticationExpired, true),
            ("'User Authentication Revoked'", K::UserAuthenticationRevoked, true),
            ("'Account Authentication Expired'", K::AccountAuthenticationExpired, true),
            ("'invalid client protocol'", K::InvalidClientProtocol, true),
            ("'no responders requires headers support'", K::NoRespondersRequiresHeaders, true),
            ("'maximum control line exceeded'", K::MaximumControlLine, true),
            ("'Parser Error'", K::ParserError, true),
            ("'Secure Connection - TLS Required'", K::TlsRequired, true),
            ("'Stale Connection'", K::StaleConnection, true),
            ("'maximum connections exceeded'", K::MaximumConnections, true),
            ("'maximum account active connections exceeded'", K::MaximumAccountConnections, true),
            (
                "'Connection throttling is active. Please try again later.'",
                K::ConnectionThrottled,
                true,
            ),
            ("'Slow Consumer'", K::SlowConsumer, true),
            ("'Maximum Payload Violation'", K::MaximumPayload, true),
            ("'Failed Account Registration'", K::FailedAccountRegistration, true),
            ("'message headers not supported'", K::HeadersUnsupported, true),
            ("'bad message header'", K::BadMessageHeader, true),
            ("'maximum subscriptions exceeded'", K::MaximumSubscriptions, false),
            ("'Invalid Subject'", K::InvalidSubject, false),
            ("'Invalid Publish Subject'", K::InvalidPublishSubject, false),
            ("'what is this'", K::Other, true),
            ("", K::Other, true),
        ];
        for (line, kind, closes) in cases {
            let error = ServerError::parse(line);
            assert_eq!(error.kind(), &kind, "{line}");
            assert_eq!(error.closes_connection(), closes, "{line}");
            let shouting = ServerError::parse(&line.to_ascii_uppercase());
            assert_eq!(shouting.kind(), &kind, "{line} in capitals");
        }
    }

    #[test]
    fn an_overloaded_server_does_not_refuse_who_we_are() {
        assert!(!ServerError::parse("'Authentication Timeout'").is_authorization());
        for text in ["Authorization Violation", "User Authentication Expired"] {
            assert!(ServerError::parse(text).is_authorization(), "{text}");
        }
    }

    #[test]
    fn a_violation_names_its_parts() {
        let parse = |text: &str| ServerError::parse(text).kind().clone();
        let violation = |operation, subject: &str, queue: Option<&str>, sid| {
            ServerErrorKind::PermissionsViolation {
                operation,
                subject: subject.to_owned(),
                queue: queue.map(str::to_owned),
                sid,
            }
        };
        assert_eq!(
            parse("'Permissions Violation for Publish to \"Foo.Bar\"'"),
            violation(RefusedOperation::Publish, "Foo.Bar", None, None)
        );
        assert_eq!(
            parse("'Permissions Violation for Publish with Reply of \"r\"'"),
            violation(RefusedOperation::Reply, "r", None, None)
        );
        assert_eq!(
            parse(
                "'Permissions Violation for Subscription to \"a.>\" using queue \"Q\" (sid \"7\")'"
            ),
            violation(RefusedOperation::Subscribe, "a.>", Some("Q"), Some(7))
        );
        assert_eq!(
            parse("'Permissions Violation for Subscription to \"stale connection\"'"),
            violation(RefusedOperation::Subscribe, "stale connection", None, None)
        );
        assert_eq!(
            parse(r#"'Permissions Violation for Publish to "s.a\"b\\c\u00e9"'"#),
            violation(RefusedOperation::Publish, "s.a\"b\\cé", None, None)
        );
        let long = "x".repeat(3 * TEXT_LIMIT);
        assert_eq!(
            parse(&format!("'Permissions Violation for Publish to \"{long}\"'")),
            violation(RefusedOperation::Publish, &long, None, None)
        );
        assert_eq!(
            parse(r#"'Permissions Violation for Publish to "a\"#),
            violation(RefusedOperation::Publish, "", None, None)
        );
        assert_eq!(
            parse("permissions violation"),
            violation(RefusedOperation::Publish, "", None, None)
        );
    }

    #[test]
    fn a_hostile_text_is_cut_and_has_no_control_characters() {
        let error = ServerError::parse(&format!("'a\u{7}\u{1b}[31m{}'", "b".repeat(5000)));
        assert!(error.text().len() <= TEXT_LIMIT);
        assert!(!error.text().contains('\u{1b}'));
    }
}
