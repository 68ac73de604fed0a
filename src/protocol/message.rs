//! A message: plain data that holds no connection.
//!
//! A received message is two slices of one allocation: the head (subject, reply subject and raw
//! header block, one behind the other) and the payload. A clone counts up references and copies
//! nothing. Nothing is validated here: publishing does that. Invariants: the first two parts of
//! the head are UTF-8, and the lengths lie inside the head.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::headers::{self, Headers, Status};

static NO_HEADERS: Headers = Headers::new();

/// A message, received or to be published: subject, reply subject, headers and payload.
///
/// Plain data: cheap to clone, and free to go to other threads. A subject is checked when the
/// message is published, not here.
///
/// ```
/// use nats_blocking::Message;
///
/// let message = Message::new("greet.joe", "hello").with_reply("answers");
/// assert_eq!(message.subject(), "greet.joe");
/// assert_eq!(message.reply(), Some("answers"));
/// assert_eq!(message.payload(), b"hello");
/// ```
#[derive(Clone)]
pub struct Message {
    head: Bytes,
    payload: Bytes,
    subject_len: usize,
    /// Zero without a reply subject.
    reply_len: usize,
    has_reply: bool,
    /// Whether the rest of the head is a header block as it was received.
    has_block: bool,
    parsed: Option<Arc<Parsed>>,
}

struct Parsed {
    headers: Headers,
    status: Option<Status>,
}

impl Message {
    /// A message without reply subject and headers.
    pub fn new(subject: impl AsRef<str>, payload: impl Into<Bytes>) -> Self {
        let head = Bytes::copy_from_slice(subject.as_ref().as_bytes());
        Self {
            subject_len: head.len(),
            head,
            payload: payload.into(),
            reply_len: 0,
            has_reply: false,
            has_block: false,
            parsed: None,
        }
    }

    /// The same message with this reply subject.
    #[must_use]
    pub fn with_reply(mut self, reply: impl AsRef<str>) -> Self {
        let reply = reply.as_ref();
        let block = self.raw_headers().unwrap_or_default();
        self.head = [self.subject().as_bytes(), reply.as_bytes(), block].concat().into();
        self.reply_len = reply.len();
        self.has_reply = true;
        self
    }

    /// The same message with these headers in place of its own.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.head.truncate(self.subject_len.saturating_add(self.reply_len));
        self.has_block = false;
        let status = self.status().cloned();
        self.parsed = if headers.is_empty() && status.is_none() {
            None
        } else {
            Some(Arc::new(Parsed { headers, status }))
        };
        self
    }

    /// The same message with one more header line.
    ///
    /// # Errors
    ///
    /// As [`Headers::append`].
    pub fn with_header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self> {
        let mut headers = self.headers().clone();
        headers.append(name, value)?;
        Ok(self.with_headers(headers))
    }

    /// The subject. Where a received one was no UTF-8, the wrong bytes are replaced by U+FFFD.
    pub fn subject(&self) -> &str {
        self.text_at(0, self.subject_len)
    }

    /// The subject to answer to.
    pub fn reply(&self) -> Option<&str> {
        self.has_reply.then(|| self.text_at(self.subject_len, self.reply_len))
    }

    /// The headers; empty if there are none.
    pub fn headers(&self) -> &Headers {
        self.parsed.as_ref().map_or(&NO_HEADERS, |parsed| &parsed.headers)
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload as a counted reference, without a copy.
    pub fn payload_bytes(&self) -> Bytes {
        self.payload.clone()
    }

    /// The payload as text.
    ///
    /// # Errors
    ///
    /// [`NotText`](crate::ErrorKind::NotText) with the place of the first byte that is no UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.payload).map_err(|error| {
            let text = format!("the payload is no text: {error}");
            Error::with_source(ErrorKind::NotText, text, error)
        })
    }

    /// The status, if the server made this message in place of a publisher.
    pub fn status(&self) -> Option<&Status> {
        self.parsed.as_ref()?.status.as_ref()
    }

    /// The header block byte for byte as it was received; `None` for a message made here.
    pub fn raw_headers(&self) -> Option<&[u8]> {
        if !self.has_block {
            return None;
        }
        self.head.get(self.subject_len.saturating_add(self.reply_len)..)
    }

    /// What the message counts against limits of pending bytes: payload and header block.
    pub fn size(&self) -> usize {
        let block = match self.raw_headers() {
            Some(block) => block.len(),
            None if self.headers().is_empty() => 0,
            None => self.headers().encoded_len(),
        };
        block.saturating_add(self.payload.len())
    }

    #[cfg(test)]
    /// A received message from its parts, and the first fault of its header block.
    pub(crate) fn received(
        subject: Bytes,
        reply: Option<Bytes>,
        header_block: Option<Bytes>,
        payload: Bytes,
    ) -> (Self, Option<String>) {
        let reply_len = reply.as_ref().map(Bytes::len);
        let header_len = header_block.as_ref().map(Bytes::len);
        let subject_len = subject.len();
        let reply = reply.unwrap_or_default();
        let block = header_block.unwrap_or_default();
        let head = [subject, reply, block].concat().into();
        Self::assemble(head, payload, subject_len, reply_len, header_len)
    }

    /// A received message from one slice that holds subject, reply, headers and payload.
    pub(crate) fn received_frame(
        mut frame: Bytes,
        subject_len: usize,
        reply_len: Option<usize>,
        header_len: Option<usize>,
    ) -> (Self, Option<String>) {
        let head_len = subject_len + reply_len.unwrap_or(0) + header_len.unwrap_or(0);
        let head = frame.split_to(head_len.min(frame.len()));
        Self::assemble(head, frame, subject_len, reply_len, header_len)
    }

    fn assemble(
        head: Bytes,
        payload: Bytes,
        subject_len: usize,
        reply_len: Option<usize>,
        header_len: Option<usize>,
    ) -> (Self, Option<String>) {
        let mut message = Self {
            head,
            payload,
            subject_len,
            reply_len: reply_len.unwrap_or(0),
            has_reply: reply_len.is_some(),
            has_block: header_len.is_some(),
            parsed: None,
        };
        message.make_text();
        let Some(block) = message.raw_headers() else { return (message, None) };
        let read = headers::read(block);
        if !read.headers.is_empty() || read.status.is_some() {
            message.parsed = Some(Arc::new(Parsed { headers: read.headers, status: read.status }));
        }
        (message, read.fault)
    }

    /// Replaces what is no UTF-8 in the subjects, so that the first invariant holds.
    fn make_text(&mut self) {
        let (subject, rest) = self.head.split_at_checked(self.subject_len).unwrap_or_default();
        let (reply, block) = rest.split_at_checked(self.reply_len).unwrap_or_default();
        if std::str::from_utf8(subject).is_ok() && std::str::from_utf8(reply).is_ok() {
            return;
        }
        let subject = String::from_utf8_lossy(subject);
        let reply = String::from_utf8_lossy(reply);
        let (subject_len, reply_len) = (subject.len(), reply.len());
        let head = [subject.as_bytes(), reply.as_bytes(), block].concat();
        self.head = head.into();
        self.subject_len = subject_len;
        self.reply_len = reply_len;
    }

    fn text_at(&self, start: usize, len: usize) -> &str {
        let part = self.head.get(start..start.saturating_add(len)).unwrap_or_default();
        std::str::from_utf8(part).unwrap_or_default()
    }
}

impl fmt::Debug for Message {
    /// Neither header values nor payload: both may be secrets, and long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject())
            .field("reply", &self.reply())
            .field("headers", &self.headers().len())
            .field("payload_len", &self.payload.len())
            .field("status", &self.status())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static [u8]) -> Bytes {
        Bytes::from_static(text)
    }

    #[test]
    fn a_message_is_plain_data_for_any_thread() {
        fn plain<T: Send + Sync + Clone + 'static>() {}
        plain::<Message>();
        assert!(size_of::<Message>() <= 96, "{}", size_of::<Message>());
    }

    #[test]
    fn a_built_message_gives_back_what_it_was_built_from() {
        let message =
            Message::new("a.b", vec![1, 2]).with_reply("r").with_header("N", "v").unwrap();
        assert_eq!((message.subject(), message.reply()), ("a.b", Some("r")));
        assert_eq!(message.headers().get("N"), Some("v"));
        assert_eq!(message.raw_headers(), None);
        assert_eq!(message.size(), 2 + b"NATS/1.0\r\nN: v\r\n\r\n".len());
        let bare = message.with_headers(Headers::new());
        assert_eq!((bare.subject(), bare.reply(), bare.size()), ("a.b", Some("r"), 2));
        assert_eq!(Message::new("a", "x").reply(), None);
        assert_eq!(Message::new("a", "x").with_reply("").reply(), Some(""));
    }

    #[test]
    fn the_payload_is_shared_and_not_copied() {
        let payload = Bytes::from(vec![7; 100]);
        let message = Message::new("a", payload.clone());
        assert_eq!(message.payload_bytes().as_ptr(), payload.as_ptr());
        assert_eq!(message.clone().payload().as_ptr(), payload.as_ptr());
    }

    #[test]
    fn a_received_message_keeps_the_block_as_it_was() {
        let block = b"NATS/1.0 503 No\r\nA: b \r\n\r\n";
        let (message, fault) =
            Message::received(bytes(b"s"), Some(bytes(b"r")), Some(bytes(block)), bytes(b"hi"));
        assert_eq!(fault, None);
        assert_eq!(message.raw_headers(), Some(&block[..]));
        assert_eq!((message.subject(), message.reply()), ("s", Some("r")));
        assert!(message.status().unwrap().is_no_responders());
        assert_eq!(message.size(), block.len() + 2);
        let other = message.with_reply("longer").with_header("C", "d").unwrap();
        assert_eq!((other.subject(), other.reply()), ("s", Some("longer")));
        assert_eq!(other.headers().len(), 2);
        assert_eq!(other.raw_headers(), None);
        assert_eq!(other.text().expect("text"), "hi");
    }

    #[test]
    fn a_subject_that_is_no_text_is_replaced_and_the_rest_survives() {
        let block = b"NATS/1.0\r\nA: b\r\n\r\n";
        let frame = [&b"s\xffr\xc3"[..], block, b"pay\xff"].concat();
        let (message, fault) = Message::received_frame(frame.into(), 2, Some(2), Some(block.len()));
        assert_eq!(fault, None);
        assert_eq!((message.subject(), message.reply()), ("s\u{fffd}", Some("r\u{fffd}")));
        assert_eq!(message.headers().get("A"), Some("b"));
        assert_eq!(message.payload(), b"pay\xff");
        assert!(message.text().is_err());
    }

    #[test]
    fn a_character_cut_in_two_by_the_border_of_subject_and_reply_is_replaced_in_both() {
        let (message, _) = Message::received_frame(bytes(b"\xc3\xbc"), 1, Some(1), None);
        assert_eq!((message.subject(), message.reply()), ("\u{fffd}", Some("\u{fffd}")));
    }

    #[test]
    fn a_faulty_header_block_is_told_and_costs_nothing_else() {
        let (message, fault) =
            Message::received(bytes(b"s"), None, Some(bytes(b"garbage")), bytes(b"hi"));
        assert!(fault.is_some());
        assert!(message.headers().is_empty());
        assert_eq!(message.raw_headers(), Some(&b"garbage"[..]));
        assert_eq!(message.payload(), b"hi");
    }

    #[test]
    fn debug_shows_neither_payload_nor_header_values() {
        let message = Message::new("s", "hidden").with_header("N", "hidden").unwrap();
        let shown = format!("{message:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(shown.contains("payload_len: 6"), "{shown}");
    }
}
