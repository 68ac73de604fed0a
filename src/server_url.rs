//! Server URLs: reading, printing without user information, and comparing.
//!
//! [`ServerUrl`] is the only place that sees the `url` crate. User information is kept apart from
//! the address and is never printed.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, ErrorKind, Result};

/// The port of a URL that names none.
pub(crate) const DEFAULT_PORT: u16 = 4222;

/// Whether a server is spoken to in clear or over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Nats,
    Tls,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Tls => "tls",
        }
    }
}

/// Who the URL says we are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum UserInfo {
    UserPassword { user: String, password: String },
    Token(String),
}

impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserInfo(redacted)")
    }
}

/// The address of a server and who to be there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    scheme: Scheme,
    host: String,
    port: u16,
    user_info: Option<UserInfo>,
}

impl ServerUrl {
    /// Reads `[scheme://][user[:password]@]host[:port]`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidUrl, "invalid server URL: it is empty"));
        }
        let full = with_scheme(text);
        Self::parse_full(&full, &redact(&full))
    }

    /// Reads a URL that has a scheme; an error shows it as `shown`.
    fn parse_full(full: &str, shown: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(ErrorKind::InvalidUrl, format!("invalid server URL '{shown}': {why}"))
        };
        if full.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad("it holds white space or a control character"));
        }
        let url = url::Url::parse(full).map_err(|error| bad(&error.to_string()))?;
        let scheme = match url.scheme() {
            "nats" => Scheme::Nats,
            "tls" => Scheme::Tls,
            other => {
                return Err(bad(&format!("the scheme '{other}' is not one of nats, tls")));
            }
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("no host"))?;
        // A non-special URL keeps an opaque host: percent codes would reach the resolver as they
        // are.
        if host.contains('%') {
            return Err(bad("the host holds a character that a host name cannot hold"));
        }
        // Seen in the text itself: a path such as `/@/..`, which may be the rest of a password,
        // resolves to none.
        let behind = full.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        let has_path = behind.is_some_and(|(_, path)| !path.is_empty());
        if has_path || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("a path, query or fragment means nothing here"));
        }
        if url.port() == Some(0) {
            return Err(bad("port 0 cannot be connected to"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let user_info = user_info(&url).map_err(|why| bad(&why))?;
        Ok(Self { scheme, host, port: url.port().unwrap_or(DEFAULT_PORT), user_info })
    }

    /// Reads a comma-separated list; empty entries are skipped.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>> {
        let mut urls = Vec::new();
        let mut rest = Some(text);
        while let Some(list) = rest {
            let (part, behind) = match list.split_once(',') {
                Some((part, behind)) => (part.trim(), Some(behind)),
                None => (list.trim(), None),
            };
            rest = behind;
            if part.is_empty() {
                continue;
            }
            let full = with_scheme(part);
            // The comma may be one of a password, of which this is the beginning.
            let cut = !part.contains('@') && behind.is_some_and(|behind| behind.contains('@'));
            let shown = if cut { HIDDEN.to_owned() } else { redact(&full) };
            urls.push(Self::parse_full(&full, &shown)?);
        }
        Ok(urls)
    }

    /// The address that a server announced, as `host:port`, with the scheme and the user
    /// information of the URL through which it was learned.
    pub(crate) fn discovered(address: &str, through: &Self) -> Result<Self> {
        let mut url = Self::parse(address)?;
        url.scheme = through.scheme;
        url.user_info.clone_from(&through.user_info);
        Ok(url)
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The host as an address, if it is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.scheme == Scheme::Tls
    }

    pub(crate) fn user_info(&self) -> Option<&UserInfo> {
        self.user_info.as_ref()
    }

    /// Whether both name the same host and port, whatever the scheme and the user.
    pub(crate) fn same_address(&self, other: &Self) -> bool {
        self.port == other.port && self.host == other.host
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.scheme.as_str(), self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
        }
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `user:password@` or `token@`, percent-decoded.
fn user_info(url: &url::Url) -> std::result::Result<Option<UserInfo>, String> {
    let user = decode(url.username()).ok_or("the user name is not UTF-8 once decoded")?;
    match url.password() {
        None if user.is_empty() => Ok(None),
        None => Ok(Some(UserInfo::Token(user))),
        Some(password) => {
            let password = decode(password).ok_or("the password is not UTF-8 once decoded")?;
            Ok(Some(UserInfo::UserPassword { user, password }))
        }
    }
}

/// Undoes percent coding; a plus sign stays a plus sign. `None` if the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'%').then(|| tail.get(..2).and_then(hex)).flatten();
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.contains('+'))?;
    u8::from_str_radix(text, 16).ok()
}

/// How an error shows an entry of a list that may be a piece of a password.
const HIDDEN: &str = "… (hidden; a comma in a password is written %2C)";

/// The text itself if it has a scheme. What stands before `://` in a password is none.
fn with_scheme(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    match text.split_once("://") {
        Some((scheme, _)) if scheme.chars().all(plain) => text.to_owned(),
        _ => format!("nats://{text}"),
    }
}

/// The text with whatever may be user information cut out, for error messages about texts that
/// could not be read: everything before the last `@` counts, and without one a port that is none.
fn redact(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !c.is_control()).collect();
    match (visible.find("://"), visible.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            let head = visible.get(..scheme).unwrap_or_default();
            let tail = visible.get(at..).unwrap_or_default();
            format!("{head}://…{tail}")
        }
        (_, Some(at)) => format!("…{}", visible.get(at..).unwrap_or_default()),
        _ => match visible.rsplit_once(':') {
            Some((head, port))
                if !port.starts_with("//") && !port.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                format!("{head}:…")
            }
            _ => visible,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_form() {
        let cases = [
            ("localhost", "nats://localhost:4222"),
            ("localhost:1", "nats://localhost:1"),
            ("127.0.0.1", "nats://127.0.0.1:4222"),
            ("NATS://Host", "nats://host:4222"),
            ("nats://host:4333/", "nats://host:4333"),
            ("tls://host", "tls://host:4222"),
            ("[::1]", "nats://[::1]:4222"),
            ("nats://[::1]:5", "nats://[::1]:5"),
            ("user:secret@host", "nats://host:4222"),
            (" host ", "nats://host:4222"),
        ];
        for (text, shown) in cases {
            let url = ServerUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), shown, "{text}");
        }
        assert_eq!(ServerUrl::parse("[::1]").expect("v6").ip(), Some("::1".parse().expect("ip")));
    }

    #[test]
    fn user_information_is_decoded_and_never_printed() {
        let url = ServerUrl::parse("nats://us%40er:pa%2Fss%+w@host").expect("url");
        let expected =
            UserInfo::UserPassword { user: "us@er".to_owned(), password: "pa/ss%+w".to_owned() };
        assert!(url.user_info() == Some(&expected));
        assert!(!format!("{url} {url:?} {:?}", url.user_info()).contains("pa"));
        let token = ServerUrl::parse("s3cr3t@host").expect("url");
        assert!(token.user_info() == Some(&UserInfo::Token("s3cr3t".to_owned())));
    }

    #[test]
    fn a_bad_url_is_named_without_its_secrets() {
        let cases = [
            ("", "empty"),
            ("nats://", "host"),
            ("http://host", "scheme 'http'"),
            ("host:99999", "port"),
            ("host:0", "port 0"),
            ("ho st", "white space"),
            ("host/path", "path"),
            ("ho\r\nst", "control"),
        ];
        for (text, part) in cases {
            let error = ServerUrl::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidUrl);
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        let error = ServerUrl::parse("nats://joe:hunter2@host:port").expect_err("bad port");
        assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("joe"));
        assert!(!format!("{error:?}").contains("hunter2"));
        for text in [
            "nats://joe:hunter2",
            "joe:hunter2://x@host",
            "joe:hunter2,x@host",
            "hunter2/@/..",
            "nats://joe:/hunter2/../@/..",
        ] {
            let error = ServerUrl::parse_list(text).expect_err(text);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_list_skips_empty_entries_and_a_discovered_server_inherits() {
        let list = ServerUrl::parse_list("a, ,tls://u:p@b:1,").expect("list");
        assert_eq!(list.len(), 2);
        let learned = ServerUrl::discovered("10.0.0.1:4222", &list[1]).expect("address");
        assert_eq!(learned.to_string(), "tls://10.0.0.1:4222");
        assert!(learned.user_info().is_some());
        assert!(ServerUrl::discovered("bad host", &list[1]).is_err());
    }
}
