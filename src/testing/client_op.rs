//! The operations that a client sends, read from bytes.
//!
//! [`ClientOpParser`] is fed any chunking of a client's stream and gives whole operations. It does
//! no IO, knows no session and decides nothing about what an operation may do.
//!
//! It is stricter than `nats-server`, because it also checks what clients write: a line ends with
//! CRLF, arguments stand one space or tab apart, lengths are plain decimal numbers, a header block
//! begins with its version line and ends with an empty line. Whatever is not exactly right is an
//! error, and after an error the parser gives that error for ever.
//!
//! It holds at most one chunk more than one operation; an announced length reserves nothing. Error
//! texts name the operation and the fault, never a subject, a credential or a payload.

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};

/// One message as a client publishes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Publication {
    /// The subject, with wildcards and empty tokens as the client wrote it.
    pub subject: String,
    /// Where answers go.
    pub reply: Option<String>,
    /// The whole header block of an HPUB, version line and final empty line included.
    pub headers: Option<Bytes>,
    /// The payload without its line end.
    pub payload: Bytes,
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publication")
            .field("subject", &self.subject)
            .field("reply", &self.reply)
            .field("header_bytes", &self.headers.as_ref().map(Bytes::len))
            .field("payload_bytes", &self.payload.len())
            .finish()
    }
}

/// One operation of a client.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientOp {
    /// The fields of a CONNECT.
    Connect(Map<String, Value>),
    /// A PING, to be answered with PONG.
    Ping,
    /// The answer to a PING of the server.
    Pong,
    /// A PUB or HPUB.
    Publish(Publication),
    /// A SUB.
    Subscribe {
        /// The subject, possibly with wildcards.
        subject: String,
        /// The queue group.
        queue: Option<String>,
        /// The number (or any token) by which the client knows the subscription.
        sid: String,
    },
    /// An UNSUB.
    Unsubscribe {
        /// The subscription that ends.
        sid: String,
        /// After how many messages since it began; at once if absent.
        max: Option<u64>,
    },
}

impl fmt::Debug for ClientOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The values hold passwords and tokens.
            Self::Connect(fields) => {
                f.debug_tuple("Connect").field(&fields.keys().collect::<Vec<_>>()).finish()
            }
            Self::Ping => f.write_str("Ping"),
            Self::Pong => f.write_str("Pong"),
            Self::Publish(publication) => publication.fmt(f),
            Self::Subscribe { subject, queue, sid } => f
                .debug_struct("Subscribe")
                .field("subject", subject)
                .field("queue", queue)
                .field("sid", sid)
                .finish(),
            Self::Unsubscribe { sid, max } => {
                f.debug_struct("Unsubscribe").field("sid", sid).field("max", max).finish()
            }
        }
    }
}

/// An incremental, bounded parser of the operations of one client.
#[derive(Debug)]
pub struct ClientOpParser {
    unread: Unread,
    /// A PUB or HPUB whose line was read and whose payload is still to come.
    head: Option<Head>,
    failed: Option<String>,
    max_control_line: usize,
    max_payload: usize,
}

/// The line of a PUB or HPUB.
struct Head {
    subject: String,
    reply: Option<String>,
    header_length: Option<usize>,
    total_length: usize,
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("total_length", &self.total_length).finish_non_exhaustive()
    }
}

enum Line {
    Whole(ClientOp),
    Head(Head),
}

impl Default for ClientOpParser {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientOpParser {
    /// A parser with the limits that `nats-server` has by default.
    pub fn new() -> Self {
        Self::with_limits(DEFAULT_MAX_CONTROL_LINE, DEFAULT_MAX_PAYLOAD)
    }

    /// A parser with its own limits, in bytes: for the arguments of a line, and for headers and
    /// payload together.
    pub fn with_limits(max_control_line: usize, max_payload: usize) -> Self {
        Self { unread: Unread::default(), head: None, failed: None, max_control_line, max_payload }
    }

    /// Changes the limit for headers and payload; it holds for lines read from now on.
    pub fn set_max_payload(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// Takes the next bytes of the stream. Ask [`next`](Self::next) until it gives `None` before
    /// the next call: that is what bounds the memory.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.unread.push(bytes);
        }
    }

    /// Gives the next whole operation, or `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// The text for the `-ERR` line if the stream is not what a client may send. It is the end:
    /// every later call gives the same error.
    #[allow(clippy::should_implement_trait, reason = "an iterator ends, this waits for bytes")]
    pub fn next(&mut self) -> Result<Option<ClientOp>, String> {
        if let Some(text) = &self.failed {
            return Err(text.clone());
        }
        let step = self.step();
        if let Err(text) = &step {
            self.failed = Some(text.clone());
            self.unread = Unread::default();
            self.head = None;
        }
        step
    }

    /// Whether the stream stands between two operations, so that an end here loses nothing.
    pub fn is_at_boundary(&self) -> bool {
        self.failed.is_none() && self.head.is_none() && self.unread.bytes().is_empty()
    }

    fn step(&mut self) -> Result<Option<ClientOp>, String> {
        let head = match self.head.take() {
            Some(head) => head,
            None => match self.line()? {
                Some(Line::Whole(op)) => return Ok(Some(op)),
                Some(Line::Head(head)) => head,
                None => return Ok(None),
            },
        };
        self.body(head)
    }

    fn line(&mut self) -> Result<Option<Line>, String> {
        let Some(length) = self.unread.line_length() else {
            let limit = self.max_control_line.saturating_add(LONGEST_OPERATION);
            return if self.unread.bytes().len() > limit { Err(too_long()) } else { Ok(None) };
        };
        let line = self.unread.bytes().get(..length).unwrap_or_default();
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(fault("a line does not end with CRLF"));
        };
        let read = read_line(line, self.max_control_line, self.max_payload)?;
        self.unread.consume(length);
        Ok(Some(read))
    }

    fn body(&mut self, head: Head) -> Result<Option<ClientOp>, String> {
        let Some((body, rest)) = self.unread.bytes().split_at_checked(head.total_length) else {
            self.head = Some(head);
            return Ok(None);
        };
        let Some((end, _)) = rest.split_at_checked(2) else {
            if rest.first().is_some_and(|byte| *byte != b'\r') {
                return Err(fault("a payload is longer than its length"));
            }
            self.head = Some(head);
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(fault("a payload is longer than its length"));
        }
        let (headers, payload) = match head.header_length {
            None => (None, body),
            Some(length) => {
                let Some((headers, payload)) = body.split_at_checked(length) else {
                    return Err(fault("HPUB has more headers than bytes"));
                };
                if !headers.starts_with(b"NATS/1.0") || !headers.ends_with(b"\r\n\r\n") {
                    return Err("bad message header".to_owned());
                }
                (Some(Bytes::copy_from_slice(headers)), payload)
            }
        };
        let payload = Bytes::copy_from_slice(payload);
        self.unread.consume(head.total_length.saturating_add(2));
        let Head { subject, reply, .. } = head;
        Ok(Some(ClientOp::Publish(Publication { subject, reply, headers, payload })))
    }
}

fn read_line(line: &[u8], max_line: usize, max_payload: usize) -> Result<Line, String> {
    let (name, rest) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
        Some(at) => (line.get(..at), line.get(at.saturating_add(1)..)),
        None => (Some(line), None),
    };
    let name = name.unwrap_or_default();
    let Some(operation) = OPERATIONS.iter().find(|(text, _)| name.eq_ignore_ascii_case(text))
    else {
        return Err("Unknown Protocol Operation".to_owned());
    };
    if rest.is_some_and(|rest| rest.len() > max_line) {
        return Err(too_long());
    }
    if line.contains(&b'\r') {
        return Err(fault("a carriage return inside a line"));
    }
    match operation.1 {
        Operation::Connect => connect(rest.unwrap_or_default()).map(Line::Whole),
        Operation::Ping | Operation::Pong if rest.is_some() => {
            Err(fault("PING and PONG take no arguments"))
        }
        Operation::Ping => Ok(Line::Whole(ClientOp::Ping)),
        Operation::Pong => Ok(Line::Whole(ClientOp::Pong)),
        Operation::Publish => Arguments::split(rest)?.publish(max_payload).map(Line::Head),
        Operation::PublishHeaders => {
            Arguments::split(rest)?.publish_headers(max_payload).map(Line::Head)
        }
        Operation::Subscribe => Arguments::split(rest)?.subscribe().map(Line::Whole),
        Operation::Unsubscribe => Arguments::split(rest)?.unsubscribe().map(Line::Whole),
    }
}

fn connect(json: &[u8]) -> Result<ClientOp, String> {
    // The text of serde_json's error quotes nothing of the input, but it says nothing of use here.
    match serde_json::from_slice(json) {
        Ok(Value::Object(fields)) => Ok(ClientOp::Connect(fields)),
        _ => Err(fault("CONNECT is not a JSON object")),
    }
}

/// The arguments of one line: at most four, none of them empty.
struct Arguments<'a> {
    list: [&'a str; 4],
    count: usize,
}

impl<'a> Arguments<'a> {
    fn split(rest: Option<&'a [u8]>) -> Result<Self, String> {
        let Ok(rest) = std::str::from_utf8(rest.unwrap_or_default()) else {
            return Err(fault("a line is not UTF-8"));
        };
        let mut arguments = Self { list: [""; 4], count: 0 };
        for token in rest.split([' ', '\t']) {
            let Some(place) = arguments.list.get_mut(arguments.count) else {
                return Err(fault("too many arguments"));
            };
            if token.is_empty() {
                return Err(fault("an argument is missing, or two separators stand together"));
            }
            *place = token;
            arguments.count = arguments.count.saturating_add(1);
        }
        Ok(arguments)
    }

    fn list(&self) -> &[&'a str] {
        self.list.get(..self.count).unwrap_or_default()
    }

    fn publish(&self, max_payload: usize) -> Result<Head, String> {
        let (subject, reply, total) = match self.list() {
            [subject, total] => (subject, None, total),
            [subject, reply, total] => (subject, Some(reply), total),
            _ => return Err(fault("PUB takes a subject, perhaps a reply subject, and a length")),
        };
        Ok(Head {
            subject: (*subject).to_owned(),
            reply: reply.map(|reply| (*reply).to_owned()),
            header_length: None,
            total_length: length(total, max_payload)?,
        })
    }

    fn publish_headers(&self, max_payload: usize) -> Result<Head, String> {
        let (subject, reply, headers, total) = match self.list() {
            [subject, headers, total] => (subject, None, headers, total),
            [subject, reply, headers, total] => (subject, Some(reply), headers, total),
            _ => {
                return Err(fault(
                    "HPUB takes a subject, perhaps a reply subject, and two lengths",
                ));
            }
        };
        let total_length = length(total, max_payload)?;
        let header_length = length(headers, max_payload)?;
        if header_length > total_length {
            return Err(fault("HPUB has more headers than bytes"));
        }
        Ok(Head {
            subject: (*subject).to_owned(),
            reply: reply.map(|reply| (*reply).to_owned()),
            header_length: Some(header_length),
            total_length,
        })
    }

    fn subscribe(&self) -> Result<ClientOp, String> {
        let (subject, queue, sid) = match self.list() {
            [subject, sid] => (subject, None, sid),
            [subject, queue, sid] => (subject, Some(queue), sid),
            _ => return Err(fault("SUB takes a subject, perhaps a queue group, and a sid")),
        };
        Ok(ClientOp::Subscribe {
            subject: (*subject).to_owned(),
            queue: queue.map(|queue| (*queue).to_owned()),
            sid: (*sid).to_owned(),
        })
    }

    fn unsubscribe(&self) -> Result<ClientOp, String> {
        let (sid, max) = match self.list() {
            [sid] => (sid, None),
            [sid, max] => (sid, Some(number(max)?)),
            _ => return Err(fault("UNSUB takes a sid and perhaps a number of messages")),
        };
        Ok(ClientOp::Unsubscribe { sid: (*sid).to_owned(), max })
    }
}

fn length(text: &str, limit: usize) -> Result<usize, String> {
    match usize::try_from(number(text)?) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err("Maximum Payload Violation".to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(fault("a number is not a plain decimal number"));
    }
    text.parse().map_err(|_| fault("a number is too large"))
}

fn fault(what: &str) -> String {
    format!("Parser Error: {what}")
}

fn too_long() -> String {
    "maximum control line exceeded".to_owned()
}

/// The bytes that were pushed and not yet read.
#[derive(Default)]
struct Unread {
    buffer: Vec<u8>,
    start: usize,
    /// How many of the unread bytes are known to hold no line end.
    searched: usize,
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("length", &self.bytes().len()).finish_non_exhaustive()
    }
}

impl Unread {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.start >= self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            self.buffer.shrink_to(KEPT_CAPACITY);
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The length of the first line with its line end, if it is all there.
    fn line_length(&mut self) -> Option<usize> {
        let bytes = self.bytes();
        let found = memchr::memchr(b'\n', bytes.get(self.searched..).unwrap_or_default());
        match found {
            Some(at) => self.searched.checked_add(at)?.checked_add(1),
            None => {
                self.searched = bytes.len();
                None
            }
        }
    }

    fn consume(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.buffer.len());
        self.searched = 0;
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Connect,
    Ping,
    Pong,
    Publish,
    PublishHeaders,
    Subscribe,
    Unsubscribe,
}

/// The most frequent first.
const OPERATIONS: &[(&[u8], Operation)] = &[
    (b"PUB", Operation::Publish),
    (b"HPUB", Operation::PublishHeaders),
    (b"PING", Operation::Ping),
    (b"PONG", Operation::Pong),
    (b"SUB", Operation::Subscribe),
    (b"UNSUB", Operation::Unsubscribe),
    (b"CONNECT", Operation::Connect),
];

/// Room for the name of an operation, a separator and the line end, beside the arguments.
const LONGEST_OPERATION: usize = 10;
/// What `nats-server` allows for the arguments of a line if nothing else is configured.
pub(crate) const DEFAULT_MAX_CONTROL_LINE: usize = 4096;
/// What `nats-server` allows for headers and payload if nothing else is configured.
pub(crate) const DEFAULT_MAX_PAYLOAD: usize = 1024 * 1024;
/// The capacity that is kept between messages: a large one must not pin its size for ever.
const KEPT_CAPACITY: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Vec<ClientOp>, String> {
        let mut parser = ClientOpParser::new();
        parser.push(bytes);
        drain(&mut parser)
    }

    fn drain(parser: &mut ClientOpParser) -> Result<Vec<ClientOp>, String> {
        let mut ops = Vec::new();
        while let Some(op) = parser.next()? {
            ops.push(op);
        }
        Ok(ops)
    }

    fn publication(
        subject: &str,
        reply: Option<&str>,
        headers: Option<&'static [u8]>,
        payload: &'static [u8],
    ) -> ClientOp {
        ClientOp::Publish(Publication {
            subject: subject.to_owned(),
            reply: reply.map(str::to_owned),
            headers: headers.map(Bytes::from_static),
            payload: Bytes::from_static(payload),
        })
    }

    const STREAM: &[u8] = b"CONNECT {\"verbose\":false}\r\nPING\r\npOnG\r\nSUB a.* 1\r\n\
        SUB\tb\tworkers\t22\r\nUNSUB 1\r\nUNSUB 22 5\r\nPUB a 0\r\n\r\n\
        PUB a.b r.x 7\r\nhe\r\nllo\r\n\
        HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\nhpub a r 12 12\r\nNATS/1.0\r\n\r\n\r\n";

    fn stream_ops() -> Vec<ClientOp> {
        let mut fields = Map::new();
        fields.insert("verbose".to_owned(), Value::Bool(false));
        let subscribe = |subject: &str, queue: Option<&str>, sid: &str| ClientOp::Subscribe {
            subject: subject.to_owned(),
            queue: queue.map(str::to_owned),
            sid: sid.to_owned(),
        };
        vec![
            ClientOp::Connect(fields),
            ClientOp::Ping,
            ClientOp::Pong,
            subscribe("a.*", None, "1"),
            subscribe("b", Some("workers"), "22"),
            ClientOp::Unsubscribe { sid: "1".to_owned(), max: None },
            ClientOp::Unsubscribe { sid: "22".to_owned(), max: Some(5) },
            publication("a", None, None, b""),
            publication("a.b", Some("r.x"), None, b"he\r\nllo"),
            publication("a", None, Some(b"NATS/1.0\r\n\r\n"), b"hi"),
            publication("a", Some("r"), Some(b"NATS/1.0\r\n\r\n"), b""),
        ]
    }

    #[test]
    fn every_operation_is_read() {
        assert_eq!(parse(STREAM), Ok(stream_ops()));
    }

    #[test]
    fn the_chunking_makes_no_difference() {
        for size in 1..=STREAM.len() {
            let mut parser = ClientOpParser::new();
            let mut ops = Vec::new();
            for chunk in STREAM.chunks(size) {
                parser.push(chunk);
                ops.extend(drain(&mut parser).expect("a valid stream"));
            }
            assert_eq!(ops, stream_ops(), "chunks of {size}");
            assert!(parser.is_at_boundary());
        }
    }

    #[test]
    fn a_frame_that_is_not_exactly_right_is_refused_for_ever() {
        let wrong: &[&[u8]] = &[
            b"PING\n",
            b"PING \r\n",
            b"PI\rNG\r\n",
            b"\r\n",
            b"FOO\r\n",
            b"+OK\r\n",
            b"CONNECT\r\n",
            b"CONNECT []\r\n",
            b"CONNECT {\r\n",
            b"PUB\r\n",
            b"PUB a\r\n",
            b"PUB a  1\r\nx\r\n",
            b"PUB a 1 \r\nx\r\n",
            b"PUB  a 1\r\nx\r\n",
            b"PUB a b c 1\r\nx\r\n",
            b"PUB a +1\r\nx\r\n",
            b"PUB a -1\r\n",
            b"PUB a 01\r\nx\r\n",
            b"PUB a 1\r\nxy",
            b"PUB a 1\r\nx\rz",
            b"PUB a\rb 1\r\nx\r\n",
            b"PUB \xff 1\r\nx\r\n",
            b"PUB a 99999999999999999999\r\n",
            b"HPUB a 12\r\n",
            b"HPUB a 13 12\r\n",
            b"HPUB a 12 12\r\nNATS/1.1\r\n\r\n\r\n",
            b"HPUB a 10 12\r\nNATS/1.0\r\n\r\n\r\n",
            b"SUB a\r\n",
            b"SUB a b c d\r\n",
            b"UNSUB\r\n",
            b"UNSUB 1 x\r\n",
            b"UNSUB 1 2 3\r\n",
        ];
        for bytes in wrong {
            let mut parser = ClientOpParser::new();
            parser.push(bytes);
            let shown = String::from_utf8_lossy(bytes);
            let error = parser.next().expect_err(&shown);
            parser.push(b"PING\r\n");
            assert_eq!(parser.next(), Err(error), "{shown}");
            assert!(!parser.is_at_boundary());
        }
    }

    #[test]
    fn every_limit_holds_at_its_edge() {
        let mut parser = ClientOpParser::with_limits(8, 4);
        parser.push(b"PUB a 4\r\nabcd\r\nSUB abcdef 1\r\n");
        assert_eq!(drain(&mut parser).map(|ops| ops.len()), Ok(2));
        parser.push(b"SUB abcdefg 1\r\n");
        assert_eq!(parser.next(), Err("maximum control line exceeded".to_owned()));

        let mut parser = ClientOpParser::with_limits(8, 4);
        parser.push(b"PUB a 5\r\n");
        assert_eq!(parser.next(), Err("Maximum Payload Violation".to_owned()));

        let mut parser = ClientOpParser::with_limits(8, 4);
        parser.push(&[b'x'; 18]);
        assert_eq!(parser.next(), Ok(None));
        parser.push(b"x");
        assert_eq!(parser.next(), Err("maximum control line exceeded".to_owned()));
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut parser = ClientOpParser::with_limits(4096, usize::MAX);
        parser.push(b"PUB a 18446744073709551615\r\nx");
        assert_eq!(parser.next(), Ok(None));
        assert!(parser.unread.buffer.capacity() < 4096);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let ops = parse(b"CONNECT {\"pass\":\"s3cret\"}\r\nPUB a 6\r\ns3cret\r\n").expect("valid");
        assert!(!format!("{ops:?}").contains("s3cret"));
        let mut parser = ClientOpParser::new();
        parser.push(b"CONNECT {\"pass\":\"s3cret\"");
        assert_eq!(parser.next(), Ok(None));
        assert!(!format!("{parser:?}").contains("s3cret"));
        parser.push(b"\r\n");
        assert!(!parser.next().expect_err("bad JSON").contains("s3cret"));
    }
}
