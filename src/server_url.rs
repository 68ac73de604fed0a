//! Server URLs: reading, printing without user information, and comparing.
//!
//! [`ServerUrl`] is the only place that sees the `url` crate. User information is kept apart from
//! the address and is never printed.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, ErrorKind, Result};

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Nats,
    Tls,
    /// WebSocket in clear.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The port of a URL that names none: for WebSocket that of HTTP, as every browser has it.
    fn default_port(self) -> u16 {
        match self {
            Self::Nats | Self::Tls => 4222,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
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
    /// What a WebSocket request asks for: path and query, empty for none. Never printed, for a
    /// query may hold a token.
    path: String,
    user_info: Option<UserInfo>,
    /// The name that the server's certificate must be for, where it is not the host.
    tls_name: Option<String>,
}

impl ServerUrl {
    /// Reads `[scheme://][user[:password]@]host[:port]`, for WebSocket also `/path[?query]`.
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
            "ws" if cfg!(feature = "websocket") => Scheme::Ws,
            "wss" if cfg!(feature = "websocket") => Scheme::Wss,
            "ws" | "wss" => {
                return Err(bad("WebSocket needs the feature `websocket` of this crate"));
            }
            other => {
                return Err(bad(&format!("the scheme '{other}' is not one of nats, tls, ws, wss")));
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
        let (_, behind) = split_authority(full, ends_authority(scheme.is_websocket()));
        if scheme.is_websocket() && behind.contains('@') {
            return Err(bad("an @ behind the host may belong to a password: %40 says it does not"));
        }
        let path = path(&url);
        let more = !matches!(behind, "" | "/");
        if url.fragment().is_some() || (!scheme.is_websocket() && more) {
            return Err(bad("a path, query or fragment means nothing here"));
        }
        if url.port() == Some(0) {
            return Err(bad("port 0 cannot be connected to"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let user_info = user_info(&url, full).map_err(|why| bad(&why))?;
        Ok(Self {
            scheme,
            host,
            port: url.port().unwrap_or_else(|| scheme.default_port()),
            path,
            user_info,
            tls_name: None,
        })
    }

    /// Reads a comma-separated list; empty entries are skipped.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>> {
        let mut urls = Vec::new();
        // Whether the entry before has a query.
        let mut query = false;
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
            // Or one of a query, of which this is the rest.
            let rest = query && !part.contains("://");
            if rest {
                let text = format!("invalid server URL '{HIDDEN}': it has no scheme");
                return Err(Error::new(ErrorKind::InvalidUrl, text));
            }
            let shown = if cut { HIDDEN.to_owned() } else { redact(&full) };
            urls.push(Self::parse_full(&full, &shown)?);
            query = part.contains('?');
        }
        Ok(urls)
    }

    /// The address that a server announced, as `host:port`, with what it inherits from the URL
    /// through which it was learned: the scheme and the path; over TLS, for a bare address, the
    /// name that was verified; and the user information and the query of the path, which may hold
    /// a token, over TLS only if the same name will be verified.
    pub(crate) fn discovered(address: &str, through: &Self) -> Result<Self> {
        let text = address.trim();
        let bare = if text.contains("://") { text.to_owned() } else { with(through.scheme, text) };
        let mut url = Self::parse(&bare)?;
        url.scheme = through.scheme;
        let verified = through.tls_name();
        if url.is_tls() && url.ip().is_some() && verified.parse::<IpAddr>().is_err() {
            url.tls_name = Some(verified.to_owned());
        }
        let inherits = !url.is_tls() || url.tls_name() == verified;
        url.user_info = through.user_info.clone().filter(|_| inherits);
        let (plain, _) = through.path.split_once('?').unwrap_or((&through.path, ""));
        // A path that is no more than a slash is written as none.
        let without_query = if plain == "/" { "" } else { plain };
        let path = if inherits { &through.path } else { without_query };
        path.clone_into(&mut url.path);
        Ok(url)
    }

    /// The same server, spoken to over TLS.
    pub(crate) fn over_tls(&self) -> Self {
        let scheme = if self.is_websocket() { Scheme::Wss } else { Scheme::Tls };
        Self { scheme, ..self.clone() }
    }

    /// Takes over the user information of another URL of the same server.
    pub(crate) fn be_user_of(&mut self, other: &Self) {
        self.user_info.clone_from(&other.user_info);
    }

    /// The name, or the address, that the server's certificate must be for.
    pub(crate) fn tls_name(&self) -> &str {
        // A name may end with the dot of the root, a certificate does not have it.
        let name = self.tls_name.as_deref().unwrap_or(&self.host);
        name.strip_suffix('.').unwrap_or(name)
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
        matches!(self.scheme, Scheme::Tls | Scheme::Wss)
    }

    pub(crate) fn is_websocket(&self) -> bool {
        self.scheme.is_websocket()
    }

    /// What a WebSocket request asks for: path and query, empty for none.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as an HTTP request names them: without the port that the scheme has anyway.
    #[cfg_attr(not(feature = "websocket"), allow(dead_code))]
    pub(crate) fn authority(&self) -> String {
        let (left, right) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        if self.port == self.scheme.default_port() {
            format!("{left}{}{right}", self.host)
        } else {
            format!("{left}{}{right}:{}", self.host, self.port)
        }
    }

    pub(crate) fn user_info(&self) -> Option<&UserInfo> {
        self.user_info.as_ref()
    }

    /// Whether both name the same host, port and path, whatever the scheme and the user.
    pub(crate) fn same_address(&self, other: &Self) -> bool {
        self.port == other.port && self.host == other.host && self.path == other.path
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

/// Path and query as an HTTP request has them; empty for none.
fn path(url: &url::Url) -> String {
    match (url.path(), url.query()) {
        ("" | "/", None) => String::new(),
        (path, None) => path.to_owned(),
        (path, Some(query)) => format!("{path}?{query}"),
    }
}

/// The address with a scheme before it.
fn with(scheme: Scheme, address: &str) -> String {
    format!("{}://{address}", scheme.as_str())
}

/// What ends the authority of a URL: where its scheme is one of the web a backslash does too.
fn ends_authority(of_web: bool) -> &'static [char] {
    if of_web { &['/', '?', '#', '\\'] } else { &['/', '?', '#'] }
}

/// What stands between the scheme and the path or query, and these.
fn split_authority<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let end = rest.find(ends).unwrap_or(rest.len());
    rest.split_at_checked(end).unwrap_or((rest, ""))
}

/// `user:password@` or `token@`, percent-decoded.
fn user_info(url: &url::Url, text: &str) -> std::result::Result<Option<UserInfo>, String> {
    let user = decode(url.username()).ok_or("the user name is not UTF-8 once decoded")?;
    // The library does not tell an empty password from none, which makes a token of the user.
    let of_web = matches!(url.scheme(), "ws" | "wss");
    let (authority, _) = split_authority(text, ends_authority(of_web));
    let has_empty = authority.rsplit_once('@').is_some_and(|(info, _)| info.ends_with(':'));
    match url.password() {
        None if user.is_empty() => Ok(None),
        None if has_empty => Ok(Some(UserInfo::UserPassword { user, password: String::new() })),
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
const HIDDEN: &str = "… (hidden; a comma in a password or a query is written %2C)";

/// The text itself if it has a scheme. What stands before `://` in a password is none.
fn with_scheme(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    match text.split_once("://") {
        Some((scheme, _)) if scheme.chars().all(plain) => text.to_owned(),
        _ => with(Scheme::Nats, text),
    }
}

/// The text with whatever may be user information cut out, for error messages about texts that
/// could not be read: everything before the last `@` counts, and without one a port that is none.
fn redact(text: &str) -> String {
    let shown = redact_user(text);
    // A path or a query may hold a token, also where neither means anything.
    let (_, behind) = split_authority(&shown, ends_authority(true));
    if behind.len() > 1 {
        let head = shown.len() - behind.len();
        return format!("{}/…", shown.get(..head).unwrap_or_default());
    }
    shown
}

fn redact_user(text: &str) -> String {
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

    #[test]
    fn a_comma_in_a_password_is_told_how_to_be_written_and_nothing_of_it_is_shown() {
        for text in ["nats://u:hu7,q9x@h", "u:hu7,q9x@h:1", "nats://a,tls://u:hu7,x,q9x@h"] {
            let error = ServerUrl::parse_list(text).expect_err(text);
            assert!(error.to_string().contains("a comma in a password or a query"), "{error}");
            let shown = format!("{error} {error:?}");
            assert!(["hu7", "q9x"].iter().all(|piece| !shown.contains(piece)), "{shown}");
        }
        let list = ServerUrl::parse_list("nats://u:hun%2Cter2@h,b").expect("a list");
        let Some(UserInfo::UserPassword { password, .. }) = list[0].user_info() else {
            panic!("{list:?}")
        };
        assert_eq!((password.as_str(), list.len()), ("hun,ter2", 2));
    }

    #[test]
    #[cfg(feature = "websocket")]
    fn a_query_goes_to_a_discovered_server_where_the_user_information_does() {
        for (through, announced, path) in [
            ("wss://b/a?token=c", "10.0.0.1:1", "/a?token=c"),
            ("wss://b/a?token=c", "b:1", "/a?token=c"),
            ("wss://b/a?token=c", "c:1", "/a"),
            ("wss://b?token=c", "c:1", ""),
            ("wss://10.0.0.1/a?token=c", "10.0.0.2:1", "/a"),
            ("ws://b/a?token=c", "c:1", "/a?token=c"),
        ] {
            let through = ServerUrl::parse(through).expect("url");
            let url = ServerUrl::discovered(announced, &through).expect("address");
            assert_eq!(url.path(), path, "{through} {announced}");
        }
    }

    #[test]
    #[cfg(feature = "websocket")]
    fn a_websocket_url_has_the_port_of_http_and_a_path_that_is_not_shown() {
        for (text, shown, path) in [
            ("ws://host", "ws://host:80", ""),
            ("WSS://Host/", "wss://host:443", ""),
            ("wss://u:p@host:8443/a/b?token=c", "wss://host:8443", "/a/b?token=c"),
            ("ws://[::1]:81", "ws://[::1]:81", ""),
            ("wss://host:80", "wss://host:80", ""),
        ] {
            let url = ServerUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.path()), (shown, path));
            assert!(url.is_websocket() && url.is_tls() == shown.starts_with("wss"));
        }
        for bad in ["ws://host/#a", "ws://host/a b", "ws://", "ws://host:0", "http://host"] {
            assert_eq!(ServerUrl::parse(bad).expect_err(bad).kind(), ErrorKind::InvalidUrl);
        }
        for bad in [
            "ws://host:x/?token=hunter2",
            "wss://host?hunter2 x",
            "ws://host/#hunter2",
            "wss://h/p?token=c,hunter2",
        ] {
            let error = ServerUrl::parse_list(bad).expect_err(bad);
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error}");
        }
        let list = ServerUrl::parse_list("wss://h/p?token=c,ws://i").expect("two servers");
        assert_eq!((list[0].path(), list[1].path()), ("/p?token=c", ""));
        let through = ServerUrl::parse("wss://u:p@host:8443/a").expect("url");
        let learned = ServerUrl::discovered("10.0.0.1:9222", &through).expect("address");
        assert_eq!((learned.to_string().as_str(), learned.path()), ("wss://10.0.0.1:9222", "/a"));
        assert_eq!(learned.tls_name(), "host");
        let other = ServerUrl::parse("wss://host:8443/b").expect("url");
        assert!(!through.same_address(&other) && through.same_address(&through.over_tls()));
    }

    #[test]
    fn a_password_that_ends_the_authority_is_refused_and_nothing_of_it_is_shown() {
        for scheme in ["ws", "wss", "nats", "tls", "http"] {
            for (user, rest) in [("hu7:12", "q9x"), ("hu7", "q9x"), ("joe:1", "hu7/q9x")] {
                for end in ['/', '?', '#', '\\'] {
                    let text = format!("{scheme}://{user}{end}{rest}@host");
                    // Where it cannot be mistaken it is read: then the host is the host.
                    let shown = match ServerUrl::parse_list(&text) {
                        Ok(urls) => format!("{urls:?}"),
                        Err(error) => format!("{error} {error:?}"),
                    };
                    let hidden = ["hu7", "q9x", "joe"].iter().all(|piece| !shown.contains(piece));
                    assert!(hidden, "{text}: {shown}");
                }
            }
        }
        let plain =
            ServerUrl::parse("nats://joe:pa\\ss@host").expect("a backslash is a letter here");
        let (user, password) = ("joe".to_owned(), "pa\\ss".to_owned());
        assert!(plain.user_info() == Some(&UserInfo::UserPassword { user, password }));
        for text in ["https://host/?token=hunter2", "nats://host?hunter2", "tls://host/hunter2"] {
            let error = ServerUrl::parse(text).expect_err(text);
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "websocket")]
    fn no_path_and_no_query_becomes_a_second_line_or_word_of_the_request() {
        for code in (0..=0x2FF).chain([0x2028, 0xFEFF, 0x1F600]) {
            let Some(c) = char::from_u32(code) else { continue };
            for text in [format!("ws://host/a{c}b"), format!("wss://host/?a{c}b")] {
                let Ok(url) = ServerUrl::parse(&text) else { continue };
                let whole = url.path().bytes().all(|byte| byte.is_ascii_graphic());
                assert!(whole && url.host() == "host", "{text:?}: {:?}", url.path());
            }
        }
    }

    #[test]
    #[cfg(not(feature = "websocket"))]
    fn a_websocket_url_in_a_build_without_it_names_the_feature() {
        for text in ["ws://host", "wss://u:hunter2@host/a"] {
            let error = ServerUrl::parse(text).expect_err(text);
            assert!(error.to_string().contains("feature `websocket`"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_password_that_a_comma_cuts_is_hidden_and_the_error_says_how_to_write_it() {
        for list in ["nats://joe:hunter,2@host", "joe:hunter,2@host", "a,nats://joe:hunter,2@b,c"] {
            let error = ServerUrl::parse_list(list).unwrap_err().to_string();
            assert!(error.contains("%2C") && !error.contains("hunter"), "{error}");
        }
        let coded = ServerUrl::parse_list("nats://joe:hunter%2C2@host").unwrap();
        let Some(UserInfo::UserPassword { password, .. }) = coded[0].user_info() else { panic!() };
        assert_eq!(password, "hunter,2");
    }

    #[test]
    fn over_tls_a_bare_address_inherits_the_verified_name_and_user_information_goes_with_it() {
        // through, announced: the name to verify, and whether the user information goes along.
        for (through, announced, name, inherits) in [
            ("tls://u:p@b:1", "10.0.0.1:4222", "b", true),
            ("tls://u:p@b.", "[::2]:4222", "b", true),
            ("tls://u:p@b", "b:4333", "b", true),
            ("tls://u:p@b", "c:4222", "c", false),
            ("tls://u:p@10.0.0.1", "10.0.0.2:1", "10.0.0.2", false),
            ("tls://u:p@10.0.0.1", "10.0.0.1:1", "10.0.0.1", true),
            ("tls://u:p@10.0.0.1", "c:1", "c", false),
            ("nats://u:p@b", "10.0.0.1:1", "10.0.0.1", true),
            ("nats://u:p@b", "c:1", "c", true),
        ] {
            let through = ServerUrl::parse(through).expect("url");
            let url = ServerUrl::discovered(announced, &through).expect("address");
            let seen = (url.tls_name(), url.user_info().is_some());
            assert_eq!(seen, (name, inherits), "{through} {announced}");
            assert_eq!(url.is_tls(), through.is_tls());
            // A third server, learned through the second.
            let third = ServerUrl::discovered("10.0.0.9:1", &url).expect("address");
            assert!(inherits || third.user_info().is_none());
        }
    }
}
