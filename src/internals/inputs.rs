//! Everything that reads bytes or text from outside, and the writers that answer it, in plain
//! types: for fuzzing, and for tests that compare them with a second, slower reading.
//!
//! Pure: no socket, no thread, no lock. Errors are their texts.

use crate::auth::check_public_user;
#[cfg(feature = "nkeys")]
use crate::auth::{Creds, UserKey};
use crate::options::parse_property_text;
use crate::protocol::headers::{Headers, Status, read};
use crate::protocol::{
    ConnectFields, Handshake, Limits, Parser, ServerInfo, ServerInfoUpdate, ServerOp, Step,
    encode_connect, encode_publish, publish_len,
};
use crate::server_error::ServerError;
use crate::server_url::{ServerUrl, UserInfo};

/// What is wrong with an input.
type Fault = String;

/// One operation of a server. INFO and `-ERR` are shown as what was understood of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Info(String),
    Message(Box<Received>),
    Ping,
    Pong,
    Ok,
    Err(String),
}

/// A message as the parser gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub sid: u64,
    pub subject: String,
    pub reply: Option<String>,
    /// The header block as it came.
    pub block: Option<Vec<u8>>,
    /// What was read of it.
    pub headers: HeaderBlock,
    pub payload: Vec<u8>,
    pub wire_len: usize,
}

/// What was read of a header block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderBlock {
    pub lines: Vec<(String, String)>,
    pub status: Option<(u16, String)>,
    pub is_faulty: bool,
}

impl HeaderBlock {
    fn new(headers: &Headers, status: Option<&Status>, is_faulty: bool) -> Self {
        let lines = headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let status = status.map(|status| (status.code(), status.description().to_owned()));
        Self { lines: lines.collect(), status, is_faulty }
    }
}

impl From<ServerOp> for Op {
    fn from(op: ServerOp) -> Self {
        let delivery = match op {
            ServerOp::Info(update) => return Self::Info(format!("{update:?}")),
            ServerOp::Ping => return Self::Ping,
            ServerOp::Pong => return Self::Pong,
            ServerOp::Ok => return Self::Ok,
            ServerOp::Err(error) => return Self::Err(format!("{error:?}")),
            ServerOp::Message(delivery) => delivery,
        };
        let message = delivery.message;
        let is_faulty = delivery.header_fault.is_some();
        Self::Message(Box::new(Received {
            sid: delivery.sid,
            subject: message.subject().to_owned(),
            reply: message.reply().map(str::to_owned),
            block: message.raw_headers().map(<[u8]>::to_vec),
            headers: HeaderBlock::new(message.headers(), message.status(), is_faulty),
            payload: message.payload().to_vec(),
            wire_len: delivery.wire_len,
        }))
    }
}

/// The parser of a server's bytes.
pub struct Reading(Parser);

impl Reading {
    /// A parser with these limits in bytes; no limit of the payload is 0.
    pub fn new(control_line: usize, info_line: usize, payload: usize) -> Self {
        Self(Parser::new(Limits { control_line, info_line, payload }))
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    #[allow(clippy::should_implement_trait, reason = "an iterator ends, this waits for bytes")]
    pub fn next(&mut self) -> Result<Option<Op>, Fault> {
        self.0.next().map(|op| op.map(Op::from)).map_err(|error| error.to_string())
    }

    /// What it holds on to, in bytes.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the login wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginStep {
    NeedBytes,
    Info,
    Pong,
    Ready,
}

/// The login as a machine, with a parser of its own.
pub struct Login(Parser, Handshake);

impl Login {
    pub fn new() -> Self {
        Self(Parser::new(Limits::default()), Handshake::new())
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// The next step, and the operations that were read on the way to it.
    pub fn advance(&mut self) -> Result<(LoginStep, usize), Fault> {
        let mut seen = 0;
        let step = self.1.advance(&mut self.0, |_| seen += 1);
        let step = match step.map_err(|error| error.to_string())? {
            Step::NeedBytes => LoginStep::NeedBytes,
            Step::Info => LoginStep::Info,
            Step::Pong => LoginStep::Pong,
            Step::Ready => LoginStep::Ready,
        };
        Ok((step, seen))
    }

    pub fn connect_sent(&mut self) {
        self.1.connect_sent();
    }

    /// Whether something was read behind the operations.
    pub fn holds_more(&self) -> bool {
        !self.0.is_empty()
    }

    /// TLS begins behind INFO.
    pub fn upgrade(&mut self) -> Result<(), Fault> {
        self.1.upgrade(&mut self.0).map_err(|error| error.to_string())
    }

    /// What the server has said about itself.
    pub fn info(&self) -> &ServerInfo {
        self.1.info()
    }
}

impl Default for Login {
    fn default() -> Self {
        Self::new()
    }
}

pub fn read_headers(block: &[u8]) -> HeaderBlock {
    let read = read(block);
    HeaderBlock::new(&read.headers, read.status.as_ref(), read.fault.is_some())
}

/// The number of lines, without a copy of each: for what is about time and memory.
pub fn count_header_lines(block: &[u8]) -> usize {
    read(block).headers.len()
}

pub fn read_info(json: &[u8]) -> Result<(ServerInfo, String), Fault> {
    let update = ServerInfoUpdate::parse(json).map_err(|error| error.to_string())?;
    let shown = format!("{update:?}");
    let mut info = ServerInfo::default();
    info.merge(update);
    Ok((info, shown))
}

pub fn read_server_error(text: &str) -> String {
    format!("{:?}", ServerError::parse(text))
}

/// One server of a list of URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
    /// User and password, or a token alone.
    pub user_info: Option<(String, Option<String>)>,
    /// As it is shown to people: without user information.
    pub shown: String,
}

pub fn read_urls(text: &str) -> Result<Vec<Url>, Fault> {
    let urls = ServerUrl::parse_list(text).map_err(|error| error.to_string())?;
    Ok(urls.iter().map(Url::from).collect())
}

impl From<&ServerUrl> for Url {
    fn from(url: &ServerUrl) -> Self {
        let user_info = url.user_info().map(|info| match info {
            UserInfo::UserPassword { user, password } => (user.clone(), Some(password.clone())),
            UserInfo::Token(token) => (token.clone(), None),
        });
        let (host, port) = (url.host().to_owned(), url.port());
        Self { host, port, is_tls: url.is_tls(), user_info, shown: url.to_string() }
    }
}

/// Keys and values in their order.
pub fn read_properties(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let properties = parse_property_text(text, "text").map_err(|error| error.to_string())?;
    Ok(properties.into_iter().map(|property| (property.key, property.value)).collect())
}

pub fn read_public_key(text: &str) -> Result<(), Fault> {
    check_public_user(text)
}

/// The public key of a user's seed.
#[cfg(feature = "nkeys")]
pub fn read_seed(text: &str) -> Result<String, Fault> {
    UserKey::from_seed(text).map(|key| key.public())
}

/// The public key of a credentials file.
#[cfg(feature = "nkeys")]
pub fn read_creds(text: &str) -> Result<String, Fault> {
    Creds::parse(text).map(|creds| creds.key.public())
}

/// A PUB or HPUB, unchecked.
pub fn publish_frame(subject: &str, headers: Option<&Headers>, payload: &[u8]) -> Vec<u8> {
    let len = publish_len(subject, None, headers, payload.len());
    let mut out = vec![0; len.frame];
    encode_publish(&mut out, len, subject, None, headers, payload);
    out
}

/// A CONNECT with this text in each of its fields that a program, a file or a server can fill.
pub fn connect_line(text: &str) -> Result<Vec<u8>, Fault> {
    let text = Some(text);
    let fields = ConnectFields {
        name: text,
        user: text,
        pass: text,
        auth_token: text,
        jwt: text,
        nkey: text,
        sig: text,
        ..ConnectFields::default()
    };
    let mut out = Vec::new();
    encode_connect(&mut out, &fields).map_err(|error| error.to_string())?;
    Ok(out)
}
