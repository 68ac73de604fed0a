//! The server's bytes, in any chunks, into operations.
//!
//! Control lines are read in one buffer, which the caller fills. A message that is not whole yet
//! leaves that buffer for an allocation of its own, into which the following reads go directly.
//! Whole small messages are copied into shared blocks of 4 KiB: about one allocation for forty
//! messages, and a message that the program keeps pins no more than such a block. Where messages
//! lie close together in the read buffer, such a block is one piece of it, control lines and all.
//! Called by the reading thread alone, holding nothing.
//!
//! A piece costs less than a copy of each message, and wastes what lies between those that somebody
//! wants. So the buffer is looked at in windows of about a block's length: only after a window of
//! which messages took at least half is the next one a piece.
//!
//! Invariants: `start <= scanned <= end <= buffer.len()`; the buffer is not read from while a
//! message is being filled directly. After an error nothing is parsed any more.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::body::{Body, LEAST_SPACE, Lengths};
use crate::protocol::frame::Frame;
use crate::protocol::info::ServerInfoUpdate;
use crate::protocol::message::{Layout, Message, narrow, parts};
use crate::protocol::op::{Delivery, ServerOp};
use crate::protocol::plain::{MOST_DIGITS, Plain};
use crate::protocol::subject::quote;
use crate::server_error::ServerError;

/// The size to which the buffer returns.
const BUFFER: usize = 64 * 1024;
/// The block that small messages share.
const BLOCK: usize = 4 * 1024;
/// The largest message that goes into a shared block: three of a kilobyte, with their lines, fit.
const SMALL: usize = (BLOCK - 2 * BETWEEN) / 3;
/// The largest message whose piece of the read buffer ends anywhere: of larger ones it has only as
/// many as fit, as what follows is often alike.
const TINY: usize = 512;
/// What stands between the parts of two messages that are kept.
const BETWEEN: usize = b"\r\nMSG ".len();

/// What the parser accepts, so that a hostile server cannot fill the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest control line but INFO, in bytes.
    pub(crate) control_line: usize,
    /// The longest INFO line, in bytes: a large cluster lists many servers in it.
    pub(crate) info_line: usize,
    /// The most bytes, headers and payload, that one message may announce; 0 is unlimited.
    ///
    /// The default is the most that a server can be configured to accept.
    pub(crate) payload: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { control_line: 64 * 1024, info_line: 1024 * 1024, payload: 64 * 1024 * 1024 }
    }
}

/// An incremental parser of what a server sends.
pub(crate) struct Parser {
    limits: Limits,
    buffer: Vec<u8>,
    start: usize,
    /// Up to here there is no line end: each byte is looked at once.
    scanned: usize,
    end: usize,
    body: Option<Body>,
    /// Where small messages go.
    block: BytesMut,
    /// A copy of the window, if it is one piece; none once the buffer is read into.
    piece: Option<Arc<[u8]>>,
    window_at: usize,
    window_end: usize,
    /// What messages took of the window; 0 before the first of a read.
    window_used: usize,
    /// Whether messages took most of the last window.
    dense: bool,
    failed: Option<Error>,
}

impl Parser {
    /// A parser that has read nothing; allocates nothing before the first read.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            end: 0,
            body: None,
            block: BytesMut::new(),
            piece: None,
            window_at: 0,
            window_end: 0,
            window_used: 0,
            dense: false,
            failed: None,
        }
    }

    /// Space to read into, at least 16 KiB.
    ///
    /// What is read belongs to the parser once [`filled`](Self::filled) was called.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.make_space();
        if self.fills_body() {
            if let Some(body) = &mut self.body {
                return body.frame.get_mut(body.held..).unwrap_or_default();
            }
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that the first `n` bytes of the space were filled.
    pub(crate) fn filled(&mut self, n: usize) {
        if self.fills_body() {
            if let Some(body) = &mut self.body {
                body.held = body.held.saturating_add(n).min(body.frame.len());
                return;
            }
        }
        self.end = self.end.saturating_add(n).min(self.buffer.len());
    }

    /// Takes bytes that are in memory already.
    #[cfg(any(test, feature = "internals", loom, shuttle, fuzzing))]
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let n = space.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
            if let Some(space) = space.get_mut(..n) {
                space.copy_from_slice(now);
            }
            self.filled(n);
            bytes = later;
        }
    }

    /// The next whole operation; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`], and the same again from every later call.
    pub(crate) fn next(&mut self) -> Result<Option<ServerOp>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let step = if self.body.is_some() {
            self.continue_body()
        } else if let Some(plain) = self.plain() {
            let mut message = Message::NOTHING;
            self.message(&plain, &mut message);
            let PlainMessage { sid, wire_len, .. } = plain;
            let delivery = Delivery { sid, message, wire_len, header_fault: None };
            return Ok(Some(ServerOp::Message(delivery)));
        } else {
            self.line()
        };
        if let Err(error) = &step {
            self.failed = Some(error.clone());
        }
        step
    }

    /// Whether no byte waits to be parsed: none of a line, and none of a message.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end && self.body.is_none()
    }

    /// Whether the next operation is an INFO, and all of it is there.
    pub(crate) fn holds_info(&self) -> bool {
        let unread = self.unread();
        let begins = unread.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"INFO "));
        begins && self.body.is_none() && memchr::memchr(b'\n', unread).is_some()
    }

    /// Whether the next read goes directly into the message that is being filled.
    ///
    /// The tail of a message comes through the buffer: so that a read is never tiny, and what
    /// follows comes with it.
    fn fills_body(&self) -> bool {
        let large = self.body.as_ref().is_some_and(|body| body.missing() >= LEAST_SPACE);
        large && self.start == self.end && self.failed.is_none()
    }

    fn make_space(&mut self) {
        // What the buffer holds changes or moves.
        self.piece = None;
        self.window_used = 0;
        if self.start == self.end {
            self.start = 0;
            self.scanned = 0;
            self.end = 0;
        }
        if self.fills_body() {
            if let Some(body) = &mut self.body {
                body.make_space();
            }
            return;
        }
        if self.failed.is_some() {
            // Nobody parses what is still read: one fixed space takes it.
            self.start = 0;
            self.scanned = 0;
            self.end = 0;
        }
        let unread = self.end - self.start;
        if self.buffer.len() < BUFFER {
            // Asked for zeroed: the system gives the pages when they are first written to.
            self.buffer = vec![0; BUFFER];
        } else if self.buffer.len() > BUFFER && unread <= BUFFER / 4 {
            let mut smaller = vec![0; BUFFER];
            if let Some(front) = smaller.get_mut(..unread) {
                front.copy_from_slice(self.unread());
            }
            self.buffer = smaller;
            self.move_to_front(unread);
        } else if self.buffer.len() - self.end < LEAST_SPACE && unread <= self.start {
            // At most as many bytes are moved as were parsed before: the sum stays linear.
            self.buffer.copy_within(self.start..self.end, 0);
            self.move_to_front(unread);
        }
        if self.buffer.len() - self.end < LEAST_SPACE {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    fn move_to_front(&mut self, unread: usize) {
        self.scanned -= self.start;
        self.start = 0;
        self.end = unread;
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes the next message if it is a whole MSG as servers write it: what most of a stream is.
    /// Everything else, odd, broken or not there yet, is none of this and changes nothing:
    /// [`next`](Self::next) knows what to do with it.
    #[inline(always)]
    pub(crate) fn plain(&mut self) -> Option<PlainMessage> {
        // While a message is being filled, the buffer holds its payload. A line that was looked at
        // had no end: what comes of it now is not looked at from its beginning again.
        if self.body.is_some() || self.failed.is_some() || self.scanned > self.start {
            return None;
        }
        let unread = self.buffer.get(self.start..self.end)?;
        let text = unread.strip_prefix(b"MSG ")?;
        let Plain { sid, total, line, layout } = Plain::read(text)?;
        let allowed = self.limits.payload == 0 || total <= self.limits.payload;
        if !allowed || b"MSG ".len() + line > self.limits.control_line {
            return None;
        }
        let len = line.checked_add(total)?;
        if text.get(len..)?.first_chunk()? != b"\r\n" {
            return None;
        }
        let from = self.start + b"MSG ".len();
        let wire_len = b"MSG ".len() + len + b"\r\n".len();
        self.consume(self.start + wire_len);
        Some(PlainMessage { sid, size: total, wire_len, from, to: from + len, layout })
    }

    /// Puts into its place what [`plain`](Self::plain) took, as long as nothing has been read
    /// behind it.
    #[inline(always)]
    pub(crate) fn message(&mut self, plain: &PlainMessage, place: &mut Message) {
        let PlainMessage { from, to, layout, .. } = *plain;
        if let Some(piece) = &self.piece {
            if from >= self.window_at && to <= self.window_at + piece.len() {
                self.window_used += to - from;
                let part = Frame::part(piece, from - self.window_at, to - from);
                return place.receive_plain(part, layout);
            }
        }
        self.message_beyond(from, to, layout, place);
    }

    /// The same of a message that is not in the present piece. The two ways do not meet again: what
    /// both made would go through memory, for each message.
    #[inline(never)]
    fn message_beyond(&mut self, from: usize, to: usize, layout: Layout, place: &mut Message) {
        place.receive_plain(self.frame_beyond(from, to), layout);
    }

    /// Copies a message that is not in the present piece out of the buffer.
    fn frame_beyond(&mut self, from: usize, to: usize) -> Frame {
        let frame = self.buffer.get(from..to).unwrap_or_default();
        if frame.len() > SMALL {
            return Bytes::copy_from_slice(frame).into();
        }
        let begins = self.window_used == 0 || to > self.window_end;
        if begins {
            if self.window_used > 0 {
                self.dense = self.window_used >= (self.window_end - self.window_at) / 2;
            }
            self.window_at = from;
            self.window_end = from + window_len(frame.len());
            self.window_used = 0;
            self.piece = None;
        }
        self.window_used += frame.len();
        let whole =
            self.buffer.get(from..self.end).and_then(|rest| rest.get(..self.window_end - from));
        if let Some(window) = whole.filter(|_| begins && self.dense) {
            let piece = self.piece.insert(Arc::from(window));
            return Frame::part(piece, 0, frame.len());
        }
        make_room(&mut self.block, frame.len());
        self.block.extend_from_slice(frame);
        self.block.split().freeze().into()
    }

    /// Parses the next line, and a message behind it.
    fn line(&mut self) -> Result<Option<ServerOp>> {
        let fresh = self.buffer.get(self.scanned..self.end).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', fresh) else {
            self.scanned = self.end;
            return check_line_len(self.unread(), &self.limits).map(|()| None);
        };
        let line_end = self.scanned + found;
        let line = self.buffer.get(self.start..line_end).unwrap_or_default();
        check_line_len(line, &self.limits)?;
        let wire_line = line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let op = match Line::read(line, wire_line, self.limits.payload)? {
            Line::Op(op) => op,
            Line::Message(lengths, subject, reply) => {
                let after = self.buffer.get(line_end + 1..self.end).unwrap_or_default();
                return if after.len() >= lengths.total + 2 {
                    let parts = [subject, reply, after.get(..lengths.total).unwrap_or_default()];
                    check_trailer(after.get(lengths.total..lengths.total + 2))?;
                    let frame = assemble(&mut self.block, parts);
                    self.consume(line_end + 1 + lengths.total + 2);
                    Ok(Some(deliver(lengths, frame)))
                } else {
                    let mut body = Body::new(lengths, subject, reply);
                    body.take(after);
                    self.body = Some(body);
                    self.consume(self.end);
                    Ok(None)
                };
            }
        };
        self.consume(line_end + 1);
        Ok(Some(op))
    }

    /// Takes what has arrived of the message that is being filled, and delivers it when whole.
    fn continue_body(&mut self) -> Result<Option<ServerOp>> {
        let Some(mut body) = self.body.take() else { return Ok(None) };
        let taken = body.take(self.buffer.get(self.start..self.end).unwrap_or_default());
        self.consume(self.start + taken);
        if body.missing() > 0 {
            self.body = Some(body);
            return Ok(None);
        }
        let payload_end = body.whole - 2;
        check_trailer(body.frame.get(payload_end..body.whole))?;
        body.frame.truncate(payload_end);
        let frame = if payload_end > SMALL {
            Bytes::from(body.frame)
        } else {
            assemble(&mut self.block, [&body.frame, &[], &[]])
        };
        Ok(Some(deliver(body.lengths, frame)))
    }

    fn consume(&mut self, to: usize) {
        self.start = to;
        self.scanned = to;
    }

    /// What the parser holds on to for reading, in bytes.
    #[cfg(any(test, feature = "internals", loom, shuttle, fuzzing))]
    pub(crate) fn capacity(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.frame.capacity());
        self.buffer.capacity() + body + self.block.capacity()
    }
}

/// A message with neither headers nor faults, which still lies in the buffer.
pub(crate) struct PlainMessage {
    pub(crate) sid: u64,
    /// What counts against limits of pending bytes.
    pub(crate) size: usize,
    /// The whole frame on the wire.
    pub(crate) wire_len: usize,
    from: usize,
    to: usize,
    layout: Layout,
}

/// What a control line is: a whole operation, or the head of a message with its names.
enum Line<'a> {
    Op(ServerOp),
    Message(Lengths, &'a [u8], &'a [u8]),
}

impl<'a> Line<'a> {
    fn read(line: &'a [u8], wire_line: usize, payload_limit: usize) -> Result<Self> {
        let (name, args) = split_token(line);
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        let op = if is(b"MSG") || is(b"HMSG") {
            let with_headers = name.len() == b"HMSG".len();
            return Self::message(args, with_headers, wire_line, payload_limit);
        } else if is(b"PING") {
            no_args(args, ServerOp::Ping)?
        } else if is(b"PONG") {
            no_args(args, ServerOp::Pong)?
        } else if is(b"+OK") {
            no_args(args, ServerOp::Ok)?
        } else if is(b"INFO") {
            ServerOp::Info(ServerInfoUpdate::parse(args)?)
        } else if let Some(text) = error_text(line) {
            ServerOp::Err(ServerError::parse(&String::from_utf8_lossy(text)))
        } else if line.is_empty() {
            return Err(broken("an empty line"));
        } else {
            return Err(broken(&format!("the unknown operation {}", quote(name))));
        };
        Ok(Self::Op(op))
    }

    /// `subject sid [reply] [header length] total`.
    fn message(
        args: &'a [u8],
        with_headers: bool,
        wire_line: usize,
        payload_limit: usize,
    ) -> Result<Self> {
        let name = if with_headers { "HMSG" } else { "MSG" };
        let fault = |what: &str| broken(&format!("{what} in {name} {}", quote(args)));
        let wanted = if with_headers { 4 } else { 3 };
        let (tokens, count) = tokens(args);
        let [subject, sid, third, fourth, fifth, _] = tokens;
        let (reply, numbers) = match (count.checked_sub(wanted), with_headers) {
            (Some(0), true) => (None, [Some(third), Some(fourth)]),
            (Some(0), false) => (None, [None, Some(third)]),
            (Some(1), true) => (Some(third), [Some(fourth), Some(fifth)]),
            (Some(1), false) => (Some(third), [None, Some(fourth)]),
            _ => return Err(fault("the wrong number of arguments")),
        };
        let sid = number(sid).ok_or_else(|| fault("a sid that is no number"))?;
        let [headers, total] =
            numbers.map(|token| token.map(|token| number(token).and_then(length)));
        let headers = match headers {
            Some(None) => return Err(fault("a header length that is no length")),
            Some(Some(headers)) => Some(headers),
            None => None,
        };
        let total = total.flatten().ok_or_else(|| fault("a total length that is no length"))?;
        if headers.is_some_and(|headers| headers > total) {
            return Err(fault("headers longer than the whole"));
        }
        if headers.is_some_and(|headers| u32::try_from(headers).is_err()) {
            return Err(fault("headers of more than 4 GiB"));
        }
        if payload_limit != 0 && total > payload_limit {
            return Err(fault(&format!("more than the {payload_limit} bytes accepted")));
        }
        // Names are part of the line: what is added to the total here is never more than twice it.
        let wire = total.checked_add(2).and_then(|body| body.checked_add(wire_line));
        let fits = wire.filter(|wire| wire.checked_add(wire_line).is_some());
        let wire = fits.ok_or_else(|| fault("more bytes than fit into memory"))?;
        let reply_len = reply.map(<[u8]>::len);
        let lengths =
            Lengths { sid, subject: subject.len(), reply: reply_len, headers, total, wire };
        Ok(Self::Message(lengths, subject, reply.unwrap_or_default()))
    }
}

/// How much of the buffer is looked at together, from a message of that length on.
fn window_len(len: usize) -> usize {
    let each = len + BETWEEN;
    if len <= TINY { BLOCK } else { (BLOCK + BETWEEN) / each * each - BETWEEN }
}

/// Makes room in the block, or a new one: for as many messages of this length as fit, with no odd
/// rest behind them. Those of a stream are often alike.
fn make_room(block: &mut BytesMut, len: usize) {
    if block.capacity() >= len {
        return;
    }
    let size = BLOCK - BLOCK % len.max(1);
    if !block.try_reclaim(size) {
        // Not `reserve`: it would carry the rest of the old block's size over to the new one.
        *block = BytesMut::with_capacity(size);
    }
}

/// Copies the parts of a message out of the read buffer, behind each other.
fn assemble(block: &mut BytesMut, parts: [&[u8]; 3]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum();
    if len > SMALL {
        let mut own = Vec::with_capacity(len);
        parts.iter().for_each(|part| own.extend_from_slice(part));
        return Bytes::from(own);
    }
    make_room(block, len);
    parts.iter().for_each(|part| block.extend_from_slice(part));
    block.split().freeze()
}

fn deliver(lengths: Lengths, frame: Bytes) -> ServerOp {
    let layout = Layout {
        subject: narrow(lengths.subject),
        reply: narrow(lengths.reply.unwrap_or(0)),
        block: narrow(lengths.headers.unwrap_or(0)),
        parts: parts(lengths.reply.is_some(), lengths.headers.is_some()),
        ..Layout::default()
    };
    let (message, header_fault) = Message::received_frame(frame.into(), layout);
    ServerOp::Message(Delivery { sid: lengths.sid, message, wire_len: lengths.wire, header_fault })
}

/// A line, whole or not, that is longer than its limit is an error before its end arrives.
fn check_line_len(line: &[u8], limits: &Limits) -> Result<()> {
    let is_info = line.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"INFO"));
    let limit = if is_info { limits.info_line } else { limits.control_line };
    if line.len() <= limit {
        return Ok(());
    }
    // Not more than the limit is shown: the text must not depend on how the bytes arrived.
    let name = split_token(line.get(..limit.min(32)).unwrap_or(line)).0;
    Err(broken(&format!("a line of more than {limit} bytes, beginning with {}", quote(name))))
}

fn check_trailer(trailer: Option<&[u8]>) -> Result<()> {
    // The bytes themselves are payload, most likely: they are not shown.
    let fault = || broken("a message whose payload does not end where its length says");
    if trailer == Some(b"\r\n") { Ok(()) } else { Err(fault()) }
}

fn no_args(args: &[u8], op: ServerOp) -> Result<ServerOp> {
    if args.is_empty() { Ok(op) } else { Err(broken(&format!("{op:?} with {}", quote(args)))) }
}

/// The text of an `-ERR`, which old servers and proxies glue to the name with its quote.
fn error_text(line: &[u8]) -> Option<&[u8]> {
    let (name, text) = line.split_at_checked(b"-ERR".len())?;
    let ends = matches!(text.first(), None | Some(b' ' | b'\t' | b'\'' | b'"'));
    (ends && name.eq_ignore_ascii_case(b"-ERR")).then_some(text)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The first token, and what follows behind the blanks.
fn split_token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| is_blank(*byte)).unwrap_or(text.len());
    let (token, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    let skip = rest.iter().position(|byte| !is_blank(*byte)).unwrap_or(rest.len());
    (token, rest.get(skip..).unwrap_or_default())
}

/// The first six tokens (one more than any operation has), and how many there are of them.
fn tokens(mut text: &[u8]) -> ([&[u8]; 6], usize) {
    let mut tokens: [&[u8]; 6] = [&[]; 6];
    let mut count = 0;
    for place in &mut tokens {
        if text.is_empty() {
            break;
        }
        (*place, text) = split_token(text);
        count += 1;
    }
    (tokens, count)
}

fn number(token: &[u8]) -> Option<u64> {
    if token.is_empty() || token.len() > MOST_DIGITS {
        return None;
    }
    token.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn length(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

#[cold]
fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the server broke the protocol: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// Everything about an operation that must not depend on how its bytes arrived.
    fn describe(op: &ServerOp) -> String {
        let ServerOp::Message(delivery) = op else { return format!("{op:?}") };
        let message = &delivery.message;
        let headers: Vec<_> = message.headers().iter().collect();
        format!("{delivery:?} {headers:?} {:?} {:?}", message.raw_headers(), message.payload())
    }

    /// All operations of the parser, and how it ended: waiting, or the error.
    fn drain(parser: &mut Parser, ops: &mut Vec<String>) -> Option<Error> {
        loop {
            match parser.next() {
                Ok(Some(op)) => ops.push(describe(&op)),
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }

    fn parse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
        let mut parser = Parser::new(small_limits());
        let mut ops = Vec::new();
        let mut fault = None;
        for chunk in chunks {
            parser.push(chunk);
            fault = drain(&mut parser, &mut ops);
        }
        (ops, fault.map(|error| error.to_string()))
    }

    fn small_limits() -> Limits {
        Limits { control_line: 100, info_line: 200, payload: 0 }
    }

    fn messages(bytes: &[u8]) -> Vec<Delivery> {
        let mut parser = Parser::new(Limits::default());
        parser.push(bytes);
        let mut messages = Vec::new();
        while let Some(op) = parser.next().unwrap() {
            match op {
                ServerOp::Message(delivery) => messages.push(delivery),
                other => panic!("{other:?}"),
            }
        }
        messages
    }

    fn fault(bytes: &[u8]) -> Option<Error> {
        let mut parser = Parser::new(Limits::default());
        parser.push(bytes);
        drain(&mut parser, &mut Vec::new())
    }

    fn next_random(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state >> 33).unwrap()
    }

    const STREAMS: &[&[u8]] = &[
        b"",
        b"PING\r\nPONG\r\n+OK\r\n",
        b"ping\nPonG \t\r\n+ok\n",
        b"INFO {\"server_id\":\"x\",\"max_payload\":5}\r\nPING\r\n",
        b"info\t {} \r\n",
        b"INFO {\"ldm\":tru\r\n",
        b"INFO\r\n",
        b"MSG a 1 2\r\nhi\r\nMSG a 1 0\r\n\r\n",
        b"MSG a.b 18 reply 5\r\nhello\r\n",
        b"msg \t a\t\t7   3  \r\na\r\n\r\nPING\r\n",
        b"MSG a 1 12\nPING\r\nPONG\r\n\r\n",
        b"MSG gr\xc3\xbc\xc3\x9fe 1 r\xff 1\r\nx\r\n",
        b"MSG a\0b 1 1\r\n\0\r\n",
        b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"HMSG a 1 r 20 20\r\nNATS/1.0\r\nA: b c\r\n\r\n\r\nPING\r\n",
        b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
        b"HMSG a 1 0 2\r\nhi\r\n",
        b"HMSG a 1 4 6\r\n\xff\xff\xff\xffhi\r\n",
        b"HMSG a 1 14 13\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"-ERR 'Authorization Violation'\r\n-ERR\r\n-err x\r\n-ERR'x'\r\nPING\r\n",
        b"-ERR \xff\r\n-ERRX\r\n",
        b"MSG a 1 2\r\nhiXX",
        b"MSG a 1 2\r\nhi\n\rPING\r\n",
        b"MSG a 1 2\r\nhello\r\nPING\r\n",
        b"MSG a 1 9\r\nhello\r\nPING\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 2 3 4\r\n",
        b"PING\r\n\r\nPING\r\n",
        b"PING x\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b" PING\r\n",
        b"PI\rNG\r\n",
        b"MSG aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
          aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1 1\r\nx\r\n",
        b"MSG a 1 9223372036854775807\r\nhello",
        b"MSG a 1 18446744073709551615\r\nhello",
    ];

    fn taken(parser: &mut Parser, plain: &PlainMessage) -> Message {
        let mut message = Message::NOTHING;
        parser.message(plain, &mut message);
        message
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_operations() {
        for stream in STREAMS {
            let shown = String::from_utf8_lossy(stream);
            let whole = parse([*stream]);
            for at in 0..=stream.len() {
                let (one, two) = stream.split_at(at);
                assert_eq!(parse([one, two]), whole, "{shown:?} at {at}");
            }
            assert_eq!(parse(stream.chunks(1)), whole, "{shown:?} by bytes");
            assert_eq!(parse(stream.chunks(3)), whole, "{shown:?} by threes");
        }
    }

    #[test]
    fn all_streams_in_random_pieces_with_large_messages_between_give_the_same_operations() {
        let mut stream = Vec::new();
        for (index, good) in STREAMS.iter().filter(|s| parse([**s]).1.is_none()).enumerate() {
            // A stream that waits for more would swallow what follows.
            if !good.starts_with(b"MSG a 1 9223") {
                stream.extend_from_slice(good);
            }
            let len = index * 7_000;
            stream.extend_from_slice(format!("MSG big {index} {len}\r\n").as_bytes());
            stream.extend((0..len).map(|at| at.to_le_bytes()[index % 2]));
            stream.extend_from_slice(b"\r\n");
        }
        let whole = parse([stream.as_slice()]);
        assert_eq!(whole.1, None);
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        for round in 0..20 {
            let mut rest = stream.as_slice();
            let mut chunks = Vec::new();
            while !rest.is_empty() {
                let most = [10, 1_000, 50_000][round % 3];
                let (chunk, later) =
                    rest.split_at((1 + next_random(&mut seed) % most).min(rest.len()));
                chunks.push(chunk);
                rest = later;
            }
            assert!(parse(chunks) == whole, "round {round}");
        }
    }

    #[test]
    fn the_odd_but_legal_is_read_as_it_was_meant() {
        let read = |bytes: &[u8]| {
            let mut read = messages(bytes);
            assert_eq!(read.len(), 1);
            read.remove(0)
        };
        let plain = read(b"MSG a.b 18 reply 5\r\nhello\r\n");
        assert_eq!((plain.sid, plain.wire_len), (18, 27));
        assert_eq!((plain.message.subject(), plain.message.reply()), ("a.b", Some("reply")));
        assert_eq!(plain.message.payload(), b"hello");
        let spaced = read(b"mSg \t a\t\t7   3  \na\r\n\r\n");
        assert_eq!((spaced.sid, spaced.message.payload()), (7, &b"a\r\n"[..]));
        assert_eq!(spaced.message.reply(), None);
        let none = read(b"HMSG a 1 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        assert!(none.message.status().unwrap().is_no_responders());
        assert_eq!(none.header_fault, None);
        let empty = read(b"HMSG a 1 0 2\r\nhi\r\n");
        assert_eq!(empty.message.payload(), b"hi");
        assert!(empty.header_fault.is_some());
        let odd = read(b"HMSG a 1 13 15\r\nNATS/1.05\r\n\r\nhi\r\n");
        assert_eq!((odd.message.status(), odd.message.payload()), (None, &b"hi"[..]));
        assert!(odd.header_fault.is_some());
        let foreign = read(b"MSG a\0\xff\rb 1 1\r\nx\r\n");
        assert_eq!(foreign.message.subject(), "a\0\u{fffd}\rb");
        assert_eq!(read(b"MSG a 0009 0001\r\nx\r\n").sid, 9);
    }

    #[test]
    fn every_hostile_stream_ends_in_a_protocol_error_and_delivers_nothing() {
        let cases: &[&[u8]] = &[
            b"\r\n",
            b"\n",
            b"\0\n",
            b"X\r\n",
            b"MSGA a 1 2\r\n",
            b"MSG\r\n",
            b"MSG a\r\n",
            b"MSG a 2\r\nhi\r\n",
            b"MSG a x 2\r\nhi\r\n",
            b"MSG a -1 2\r\nhi\r\n",
            b"MSG a 1 -2\r\nhi\r\n",
            b"MSG a 1 +2\r\nhi\r\n",
            b"MSG a 1 2.0\r\nhi\r\n",
            b"MSG a 1 0x2\r\nhi\r\n",
            b"MSG a 1 \xd9\xa2\r\nhi\r\n",
            b"MSG a 1 r s 2\r\nhi\r\n",
            b"MSG a 1 00000000000000000002\r\nhi\r\n",
            b"MSG a 1 18446744073709551615\r\n",
            b"MSG a 1 18446744073709551616\r\n",
            b"MSG a 99999999999999999999 1\r\nx\r\n",
            b"MSG a 1 9223372036854775808\r\n",
            b"MSG a 1 67108865\r\n",
            b"MSG a 1 2\r\nhiXX",
            b"MSG a 1 2\r\nhi\n\n",
            b"MSG a 1 2\r\nhi\r\r",
            b"MSG a 1 1\r\nhi\r\n",
            b"MSG a 1 3\r\nhi\r\nPING\r\n",
            b"HMSG a 1 2\r\nhi\r\n",
            b"HMSG a 1 14 12\r\nNATS/1.0\r\n\r\n\r\n",
            b"HMSG a 1 r s 12 12\r\n",
            b"HMSG a 1 18446744073709551615 12\r\n",
            b"HMSG a 1 -1 12\r\n",
            b"INFO\r\n",
            b"INFO null\r\n",
            b"INFO {}x\r\n",
            b"INFO{}\r\n",
            b"PONG 1\r\n",
            b"+OK +OK\r\n",
            b"-ERRATIC\r\n",
        ];
        for case in cases {
            let shown = String::from_utf8_lossy(case);
            let mut parser = Parser::new(Limits::default());
            parser.push(case);
            let mut ops = Vec::new();
            let error = drain(&mut parser, &mut ops).unwrap_or_else(|| panic!("{shown:?}"));
            assert_eq!(error.kind(), ErrorKind::Protocol, "{shown:?}");
            assert!(ops.is_empty(), "{shown:?}: {ops:?}");
            // It stays in error, whatever comes.
            parser.push(b"\r\nPING\r\n");
            let again = drain(&mut parser, &mut ops).unwrap();
            assert_eq!(again.to_string(), error.to_string());
            assert!(ops.is_empty());
        }
    }

    #[test]
    fn an_error_names_the_offending_part_escaped_and_cut_but_never_a_payload() {
        let text = |bytes: &[u8]| fault(bytes).unwrap().to_string();
        assert_eq!(
            text(b"MSG a x 2\r\n"),
            "the server broke the protocol: a sid that is no number in MSG 'a x 2'"
        );
        assert_eq!(
            text(b"HTTP/1.1\x1b 400\r\n"),
            "the server broke the protocol: the unknown operation 'HTTP/1.1\\u{1b}'"
        );
        assert!(!text(b"MSG a 1 6\r\nsecretXX").contains("secret"));
        assert!(text(&[[b'x'; 60_000].as_slice(), b"\n"].concat()).len() < 200);
    }

    #[test]
    fn an_endless_line_ends_at_its_limit() {
        let limits = Limits::default();
        for (begin, limit) in [
            (&b"a"[..], limits.control_line),
            (b"MSG ", limits.control_line),
            (b"-ERR ", limits.control_line),
            (b"info ", limits.info_line),
        ] {
            let mut parser = Parser::new(limits);
            parser.push(begin);
            let mut sent = begin.len();
            while parser.next().is_ok() {
                parser.push(&[b'a'; 1000]);
                sent += 1000;
                assert!(sent <= limit + 1000, "{limit}");
            }
            assert!(sent > limit);
            assert_eq!(parser.next().unwrap_err().kind(), ErrorKind::Protocol);
            assert!(parser.capacity() <= 2 * sent + 2 * BUFFER);
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
        let limit = small_limits().control_line;
        let line = |len: usize| [b"-ERR ".as_slice(), &vec![b'x'; len - 6], b"\r\n"].concat();
        assert_eq!(parse([line(limit).as_slice()]).1, None);
        assert!(parse([line(limit + 1).as_slice()]).1.is_some());
    }

    #[test]
    fn a_long_info_is_read_byte_by_byte_without_looking_at_a_byte_twice() {
        let urls = "\"10.0.0.1:4222\",".repeat(20_000);
        let info = format!("INFO {{\"connect_urls\":[{urls}\"\"]}}\r\n");
        let mut parser = Parser::new(Limits::default());
        for byte in info.as_bytes() {
            assert!(parser.next().unwrap().is_none());
            assert_eq!(parser.scanned, parser.end);
            parser.push(&[*byte]);
        }
        assert!(matches!(parser.next().unwrap(), Some(ServerOp::Info(_))));
        assert!(parser.capacity() > BUFFER);
        parser.push(b"PING\r\n");
        assert!(parser.capacity() <= BUFFER, "the buffer shrinks again");
        assert!(matches!(parser.next().unwrap(), Some(ServerOp::Ping)));
    }

    /// The blocks of 4 KiB that the small messages of these reads share, all of them kept. `wanted`
    /// says which are made, by their sid.
    fn blocks_kept(reads: &[Vec<u8>], wanted: impl Fn(u64) -> bool) -> usize {
        let mut parser = Parser::new(Limits::default());
        let mut kept = Vec::new();
        for read in reads {
            parser.push(read);
            while let Some(plain) = parser.plain() {
                if wanted(plain.sid) {
                    kept.push(taken(&mut parser, &plain));
                }
            }
            assert!(parser.is_empty());
        }
        let places = kept.iter().map(|message| message.payload().as_ptr() as usize / BLOCK);
        let pages: std::collections::BTreeSet<_> = places.collect();
        pages.len()
    }

    #[test]
    fn small_messages_far_from_each_other_share_blocks_all_the_same() {
        let small = b"MSG a 1 10\r\n0123456789\r\n".as_slice();
        for between in [300, 1_500, 4_096, 20_000] {
            let other = format!("MSG b 2 {between}\r\n{}\r\n", "x".repeat(between));
            let read = [small, other.as_bytes()].concat().repeat(40);
            let blocks = blocks_kept(&[read], |sid| sid == 1);
            assert!(blocks <= 4, "{blocks} for 40 messages, {between} bytes between two");
        }
    }

    #[test]
    fn small_messages_close_together_are_copied_in_pieces() {
        let mut parser = Parser::new(Limits::default());
        let stream = format!("MSG a 1 100\r\n{}\r\n", "x".repeat(100)).repeat(200);
        parser.push(stream.as_bytes());
        let mut in_pieces = 0;
        while let Some(plain) = parser.plain() {
            taken(&mut parser, &plain);
            in_pieces += usize::from(parser.piece.is_some());
        }
        assert!(in_pieces > 120, "{in_pieces} of 200");
    }

    #[test]
    fn messages_of_a_kilobyte_are_copied_as_many_as_fit_with_nothing_behind_them() {
        for (len, fit) in [(600, 6), (1_000, 4), (1_024, 3), (1_300, 3)] {
            let mut parser = Parser::new(Limits::default());
            let stream = format!("MSG a 1 {len}\r\n{}\r\n", "x".repeat(len)).repeat(40);
            parser.push(stream.as_bytes());
            let mut pieces = std::collections::BTreeMap::new();
            while let Some(plain) = parser.plain() {
                let message = taken(&mut parser, &plain);
                assert_eq!(message.payload(), "x".repeat(len).as_bytes());
                if let Some(piece) = &parser.piece {
                    pieces.entry(piece.as_ptr()).or_insert_with(|| (0, Arc::clone(piece))).0 += 1;
                }
            }
            assert!(pieces.len() * fit >= 27, "{len}: {} pieces", pieces.len());
            for (count, piece) in pieces.into_values() {
                assert!(count == fit && piece.len() <= BLOCK, "{len}: {count} messages");
                assert!(piece.len() - fit * len < 100, "{len}: {} bytes", piece.len());
            }
        }
    }

    #[test]
    fn a_few_small_messages_of_a_read_take_no_block_of_their_own() {
        let read = b"MSG a 1 10\r\n0123456789\r\n".repeat(5);
        let blocks = blocks_kept(&vec![read; 100], |_| true);
        assert!(blocks <= 10, "{blocks} for 500 messages of 20 bytes");
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        for announced in ["1000", "2147483648", "4294967295", "9223372036854775807"] {
            for names in ["MSG a 1", "HMSG a 1 12"] {
                let mut parser = Parser::new(Limits { payload: 0, ..Limits::default() });
                parser.push(format!("{names} {announced}\r\n").as_bytes());
                assert!(parser.next().unwrap().is_none());
                assert!(!parser.is_empty());
                assert!(parser.space().len() >= LEAST_SPACE);
                assert!(parser.capacity() <= 2 * BUFFER, "{announced}: {}", parser.capacity());
            }
        }
    }

    #[test]
    fn memory_follows_what_has_arrived_and_goes_again() {
        let len = 8 * 1024 * 1024;
        let mut parser = Parser::new(Limits::default());
        parser.push(format!("MSG a 1 {len}\r\n").as_bytes());
        let chunk = [b'x'; 10_000];
        let mut left = len;
        while left > 0 {
            assert!(parser.next().unwrap().is_none());
            let n = left.min(chunk.len());
            parser.push(&chunk[..n]);
            left -= n;
            let bound = 2 * (len - left) + 2 * BUFFER;
            assert!(parser.capacity() <= bound, "{} over {bound}", parser.capacity());
        }
        parser.push(b"\r\nPI");
        let Some(ServerOp::Message(delivery)) = parser.next().unwrap() else { panic!() };
        assert_eq!(delivery.message.payload().len(), len);
        assert!(delivery.message.payload().iter().all(|byte| *byte == b'x'));
        assert!(parser.capacity() <= 2 * BUFFER);
        parser.push(b"NG\r\n");
        assert!(matches!(parser.next().unwrap(), Some(ServerOp::Ping)));
        assert!(parser.is_empty());
    }

    #[test]
    fn the_space_to_read_into_is_never_small() {
        let mut parser = Parser::new(Limits::default());
        let stream: Vec<u8> = [1, 100, 2_000, 40_000, 70_000, 300_000]
            .iter()
            .flat_map(|len| [format!("MSG a 1 {len}\r\n").into_bytes(), vec![b'x'; *len]].concat())
            .chain(*b"\r\n")
            .collect();
        // The line ends between the messages are missing: the parser fails early and goes on.
        for chunk in stream.chunks(777) {
            let space = parser.space();
            assert!(space.len() >= LEAST_SPACE);
            space[..chunk.len()].copy_from_slice(chunk);
            parser.filled(chunk.len());
            while let Ok(Some(_)) = parser.next() {}
        }
        assert!(parser.next().is_err());
        assert!(parser.capacity() <= 2 * BUFFER);
    }

    #[test]
    fn small_messages_share_blocks_and_large_ones_pin_only_themselves() {
        let kept = messages(
            &b"MSG subject 1 100\r\n"
                .iter()
                .copied()
                .chain([b'x'; 100])
                .chain(*b"\r\n")
                .collect::<Vec<u8>>()
                .repeat(1000),
        );
        let places: Vec<usize> =
            kept.iter().map(|kept| kept.message.payload().as_ptr() as usize).collect();
        let frame = "MSG subject 1 100\r\n\r\n".len() + 100;
        // The first window shows how close they lie, then 33 messages fit into a piece of the
        // buffer. Of three reads each begins a piece.
        let breaks = places.windows(2).filter(|pair| pair[1] != pair[0] + frame).count();
        assert!((34..34 + 999 / 33 + 10).contains(&breaks), "{breaks}");
    }

    #[test]
    fn messages_that_are_alike_fill_their_blocks() {
        let mut parser = Parser::new(Limits::default());
        for (size, count) in [(1000, 4), (1024, 3), (1300, 3), (100, 37)] {
            let mut stream = format!("MSG a 1 {size}\r\n").into_bytes();
            stream.resize(stream.len() + size, b'x');
            stream.extend_from_slice(b"\r\n");
            let kept: Vec<_> = (0..3 * count)
                .map(|_| {
                    parser.push(&stream);
                    parser.next().unwrap().expect("a message")
                })
                .collect();
            assert_eq!(parser.block.capacity(), 0, "{size} bytes");
            drop(kept);
            parser.block = BytesMut::new();
        }
    }

    #[test]
    fn a_block_whose_messages_are_gone_is_used_again() {
        let mut parser = Parser::new(Limits::default());
        let mut places = Vec::new();
        for _ in 0..1000 {
            parser.push(b"MSG subject 1 5\r\nhello\r\n");
            let Some(ServerOp::Message(delivery)) = parser.next().unwrap() else { panic!() };
            places.push(delivery.message.payload().as_ptr() as usize);
        }
        let (low, high) = (places.iter().min().unwrap(), places.iter().max().unwrap());
        assert!(high - low < BLOCK);
    }

    #[test]
    fn bytes_that_wait_are_seen() {
        let mut parser = Parser::new(Limits::default());
        assert!(parser.is_empty());
        parser.push(b"PING\r\nP");
        assert!(!parser.is_empty());
        assert!(matches!(parser.next().unwrap(), Some(ServerOp::Ping)));
        assert!(!parser.is_empty());
        parser.push(b"ING\r\n");
        assert!(matches!(parser.next().unwrap(), Some(ServerOp::Ping)));
        assert!(parser.is_empty());
        parser.push(b"MSG a 1 5\r\n");
        assert!(parser.next().unwrap().is_none());
        assert!(!parser.is_empty());
    }

    #[test]
    fn filling_more_than_there_is_space_is_harmless() {
        let mut parser = Parser::new(Limits::default());
        parser.filled(10);
        assert!(parser.is_empty());
        parser.space();
        parser.filled(usize::MAX);
        assert!(parser.next().is_ok());
        parser.push(b"\n");
        assert!(parser.next().is_err());
    }

    #[test]
    fn random_bytes_and_broken_streams_never_panic_and_never_loop() {
        let words: &[&[u8]] = &[
            b"MSG",
            b"HMSG",
            b"INFO",
            b"PING",
            b"PONG",
            b"+OK",
            b"-ERR",
            b" ",
            b" ",
            b"\t",
            b"\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"0",
            b"1",
            b"2",
            b"12",
            b"14",
            b"99999999999",
            b"a",
            b"\0",
            b"NATS/1.0",
            b"A: b",
            b":",
            b"{}",
            b"{\"port\":",
            b"'",
            b"\xff",
            b"-",
        ];
        let mut seed = 0x1234_5678_9abc_def1;
        for case in 0..100_000 {
            let mut bytes = Vec::new();
            for _ in 0..next_random(&mut seed) % 24 {
                if case % 2 == 0 {
                    bytes.extend_from_slice(words[next_random(&mut seed) % words.len()]);
                } else {
                    bytes.push(next_random(&mut seed).to_le_bytes()[0]);
                }
            }
            if case % 3 == 0 && !bytes.is_empty() {
                let stream = STREAMS[next_random(&mut seed) % STREAMS.len()];
                bytes = [&stream[..next_random(&mut seed) % (stream.len() + 1)], &bytes].concat();
            }
            let at = next_random(&mut seed) % (bytes.len() + 1);
            let (one, two) = bytes.split_at(at);
            let (ops, fault) = parse([one, two]);
            // An operation takes at least four bytes, so there is an end.
            assert!(ops.len() <= bytes.len() / 4, "{bytes:?}");
            assert_eq!((ops, fault), parse([bytes.as_slice()]), "{bytes:?}");
        }
    }
}
