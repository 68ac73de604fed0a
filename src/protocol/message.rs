//! A message: plain data that holds no connection.
//!
//! A received message is one piece of memory: subject, reply subject, raw header block and
//! payload, with what stood between them in the control line. A clone counts up references and
//! copies nothing. What was made or changed here has its payload and headers beside it.
//! Nothing is validated here: publishing does that. Invariants: subject and reply subject are
//! UTF-8, and the lengths lie inside the frame.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::frame::Frame;
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
    frame: Frame,
    layout: Layout,
    extra: Option<Arc<Extra>>,
}

/// Where the parts of a message lie in its frame, one behind the other.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Layout {
    pub(crate) subject: u32,
    /// Zero without a reply subject.
    pub(crate) reply: u32,
    /// The header block as it was received; zero without one.
    pub(crate) block: u32,
    /// Bytes of the control line between subject and reply subject.
    pub(crate) between: u8,
    /// Bytes of the control line behind the names.
    pub(crate) behind: u8,
    /// Of [`REPLY`](Self::REPLY) and [`BLOCK`](Self::BLOCK), those that are there.
    pub(crate) parts: u8,
}

/// What is there of a received message.
pub(crate) fn parts(reply: bool, block: bool) -> u8 {
    (u8::from(reply) * Layout::REPLY) | (u8::from(block) * Layout::BLOCK)
}

/// A length in a layout. What is longer than 4 GiB is cut: no control line takes such a name, and
/// no server such headers.
pub(crate) fn narrow(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Layout {
    const NOTHING: Self = Self { subject: 0, reply: 0, block: 0, between: 0, behind: 0, parts: 0 };

    /// There is a reply subject.
    pub(crate) const REPLY: u8 = 1;
    /// There is a header block.
    pub(crate) const BLOCK: u8 = 2;

    #[inline]
    fn has(&self, part: u8) -> bool {
        self.parts & part != 0
    }

    #[inline]
    fn reply_at(&self) -> usize {
        (self.subject as usize).wrapping_add(usize::from(self.between))
    }

    #[inline]
    fn names_end(&self) -> usize {
        self.reply_at().wrapping_add(self.reply as usize)
    }

    #[inline]
    fn block_at(&self) -> usize {
        self.names_end().wrapping_add(usize::from(self.behind))
    }

    #[inline]
    fn payload_at(&self) -> usize {
        self.block_at().wrapping_add(self.block as usize)
    }
}

/// What is not in the frame.
#[derive(Clone, Default)]
struct Extra {
    /// In place of the end of the frame.
    payload: Option<Bytes>,
    headers: Headers,
    status: Option<Status>,
}

impl Message {
    /// A message without reply subject and headers.
    pub fn new(subject: impl AsRef<str>, payload: impl Into<Bytes>) -> Self {
        let frame = Bytes::copy_from_slice(subject.as_ref().as_bytes());
        let layout = Layout { subject: narrow(frame.len()), ..Layout::default() };
        let payload = Some(payload.into()).filter(|payload: &Bytes| !payload.is_empty());
        let extra = payload.map(|payload| {
            Arc::new(Extra { payload: Some(payload), headers: Headers::new(), status: None })
        });
        Self { frame: frame.into(), layout, extra }
    }

    /// The same message with this reply subject.
    #[must_use]
    pub fn with_reply(mut self, reply: impl AsRef<str>) -> Self {
        let reply = reply.as_ref();
        self.payload_out();
        let block = self.raw_headers().unwrap_or_default();
        self.frame = [self.subject().as_bytes(), reply.as_bytes(), block].concat().into();
        self.layout = Layout {
            reply: narrow(reply.len()),
            between: 0,
            behind: 0,
            parts: self.layout.parts | Layout::REPLY,
            ..self.layout
        };
        self
    }

    /// The same message with these headers in place of its own.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.payload_out().headers = headers;
        self.frame.truncate(self.layout.names_end());
        let parts = self.layout.parts & !Layout::BLOCK;
        self.layout = Layout { block: 0, behind: 0, parts, ..self.layout };
        self
    }

    /// Takes the payload out of the frame, if it is there.
    fn payload_out(&mut self) -> &mut Extra {
        let payload = self.payload_bytes();
        let extra = Arc::make_mut(self.extra.get_or_insert_default());
        extra.payload = Some(payload);
        extra
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
        self.text_at(0, self.layout.subject as usize)
    }

    /// The subject to answer to.
    pub fn reply(&self) -> Option<&str> {
        self.layout
            .has(Layout::REPLY)
            .then(|| self.text_at(self.layout.reply_at(), self.layout.reply as usize))
    }

    /// The headers; empty if there are none.
    pub fn headers(&self) -> &Headers {
        self.extra.as_ref().map_or(&NO_HEADERS, |extra| &extra.headers)
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        match self.made_payload() {
            Some(payload) => payload,
            None => self.frame.get(self.layout.payload_at()..).unwrap_or_default(),
        }
    }

    fn made_payload(&self) -> Option<&Bytes> {
        self.extra.as_ref()?.payload.as_ref()
    }

    /// The payload as a counted reference, without a copy.
    pub fn payload_bytes(&self) -> Bytes {
        match self.made_payload() {
            Some(payload) => payload.clone(),
            None => self.frame.end(self.layout.payload_at()),
        }
    }

    /// The payload as text.
    ///
    /// # Errors
    ///
    /// [`NotText`](crate::ErrorKind::NotText) with the place of the first byte that is no UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.payload()).map_err(|error| {
            let text = format!("the payload is no text: {error}");
            Error::with_source(ErrorKind::NotText, text, error)
        })
    }

    /// The status, if the server made this message in place of a publisher.
    pub fn status(&self) -> Option<&Status> {
        self.extra.as_ref()?.status.as_ref()
    }

    /// The header block byte for byte as it was received; `None` for a message made here.
    pub fn raw_headers(&self) -> Option<&[u8]> {
        if !self.layout.has(Layout::BLOCK) {
            return None;
        }
        self.frame.get(self.layout.block_at()..self.layout.payload_at())
    }

    /// What the message counts against limits of pending bytes: payload and header block.
    #[inline]
    pub fn size(&self) -> usize {
        let Some(extra) = &self.extra else {
            // The header block and the payload are the end of the frame.
            return self.frame.len().saturating_sub(self.layout.block_at());
        };
        let block = if self.layout.has(Layout::BLOCK) || extra.headers.is_empty() {
            self.layout.block as usize
        } else {
            extra.headers.encoded_len()
        };
        block.saturating_add(self.payload().len())
    }

    #[cfg(test)]
    /// A received message from its parts, and the first fault of its header block.
    pub(crate) fn received(
        subject: Bytes,
        reply: Option<Bytes>,
        header_block: Option<Bytes>,
        payload: Bytes,
    ) -> (Self, Option<String>) {
        let layout = Layout {
            subject: narrow(subject.len()),
            reply: narrow(reply.as_ref().map_or(0, Bytes::len)),
            block: narrow(header_block.as_ref().map_or(0, Bytes::len)),
            parts: parts(reply.is_some(), header_block.is_some()),
            ..Layout::default()
        };
        let reply = reply.unwrap_or_default();
        let block = header_block.unwrap_or_default();
        Self::received_frame([subject, reply, block, payload].concat().into(), layout)
    }

    /// The place of a message.
    pub(crate) const NOTHING: Self =
        Self { frame: Frame::NOTHING, layout: Layout::NOTHING, extra: None };

    /// Becomes, in its place, a received message whose names are ASCII, and which has no header
    /// block: one that is moved about costs more than the rest of what is done for it.
    #[inline(always)]
    pub(crate) fn receive_plain(&mut self, frame: Frame, layout: Layout) {
        self.frame = frame;
        self.layout = layout;
        self.extra = None;
    }

    /// A received message, and the first fault of its header block.
    pub(crate) fn received_frame(frame: Frame, layout: Layout) -> (Self, Option<String>) {
        let mut message = Self { frame, layout, extra: None };
        message.make_text();
        let Some(block) = message.raw_headers() else { return (message, None) };
        let read = headers::read(block);
        if !read.headers.is_empty() || read.status.is_some() {
            let extra = Extra { payload: None, headers: read.headers, status: read.status };
            message.extra = Some(Arc::new(extra));
        }
        (message, read.fault)
    }

    /// Replaces what is no UTF-8 in the subjects, so that the first invariant holds.
    fn make_text(&mut self) {
        let layout = self.layout;
        let part = |from, to| self.frame.get(from..to).unwrap_or_default();
        let subject = part(0, layout.subject as usize);
        let reply = part(layout.reply_at(), layout.names_end());
        if std::str::from_utf8(subject).is_ok() && std::str::from_utf8(reply).is_ok() {
            return;
        }
        let subject = String::from_utf8_lossy(subject);
        let reply = String::from_utf8_lossy(reply);
        let rest = part(layout.block_at(), self.frame.len());
        let frame = [subject.as_bytes(), reply.as_bytes(), rest].concat();
        self.layout = Layout {
            subject: narrow(subject.len()),
            reply: narrow(reply.len()),
            between: 0,
            behind: 0,
            ..layout
        };
        self.frame = frame.into();
    }

    fn text_at(&self, start: usize, len: usize) -> &str {
        let part = self.frame.get(start..start.saturating_add(len)).unwrap_or_default();
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
            .field("payload_len", &self.payload().len())
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
        assert!(size_of::<Message>() <= 56, "{}", size_of::<Message>());
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
        let frame = [&b"s\xff 1 r\xc3 5\n"[..], block, b"pay\xff"].concat();
        let layout = Layout {
            subject: 2,
            reply: 2,
            block: narrow(block.len()),
            between: 3,
            behind: 3,
            parts: Layout::REPLY | Layout::BLOCK,
        };
        let (message, fault) = Message::received_frame(frame.into(), layout);
        assert_eq!(fault, None);
        assert_eq!((message.subject(), message.reply()), ("s\u{fffd}", Some("r\u{fffd}")));
        assert_eq!(message.headers().get("A"), Some("b"));
        assert_eq!(message.payload(), b"pay\xff");
        assert!(message.text().is_err());
    }

    #[test]
    fn a_character_cut_in_two_by_the_border_of_subject_and_reply_is_replaced_in_both() {
        let (message, _) =
            Message::received(bytes(b"\xc3"), Some(bytes(b"\xbc")), None, bytes(b""));
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
