//! The frames of a byte stream, one parser for each direction.
//!
//! Written apart from the parsers of the crate, so that neither hides a fault of the other. It is
//! strict: whatever is no frame marks the stream as broken, once and for ever.

use std::fmt;
use std::str;

/// What a frame is. The first six come from clients, the others from servers, PING and PONG from
/// both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Op {
    Connect,
    Pub,
    Hpub,
    Sub,
    Unsub,
    Ping,
    Pong,
    Info,
    Msg,
    Hmsg,
    Ok,
    Err,
}

/// One whole frame.
pub(crate) struct Frame<'a> {
    pub(crate) op: Op,
    /// What stands behind the operation on its line.
    pub(crate) arguments: &'a str,
    /// Headers and payload, without the line end.
    pub(crate) body: &'a [u8],
    /// How much of the body is headers.
    pub(crate) header_length: usize,
}

impl Frame<'_> {
    /// The nth argument.
    pub(crate) fn argument(&self, index: usize) -> &str {
        self.arguments.split_whitespace().nth(index).unwrap_or("")
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.body[self.header_length..]
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} ({} bytes)", self.op, self.arguments, self.body.len())
    }
}

/// Who wrote the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    Client,
    Server,
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub(crate) struct Frames {
    writer: Writer,
    pending: Vec<u8>,
    broken: Option<String>,
}

/// A line of the protocol that was read, and what it announces.
struct Line {
    op: Op,
    /// Where the arguments stand in what is pending.
    arguments: std::ops::Range<usize>,
    header_length: usize,
    body_length: Option<usize>,
    /// Where the body begins.
    end: usize,
}

impl Frames {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer, pending: Vec::new(), broken: None }
    }

    /// Takes in bytes and calls `each` for every frame that is whole with them.
    pub(crate) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(&Frame<'_>)) {
        if self.broken.is_some() {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            match self.frame(at, each) {
                Ok(Some(next)) => at = next,
                Ok(None) => break,
                Err(why) => {
                    self.broken = Some(why);
                    break;
                }
            }
        }
        self.pending.drain(..at);
    }

    /// What was no frame.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Bytes of a frame that is not whole.
    pub(crate) fn partial(&self) -> usize {
        self.pending.len()
    }

    /// The frame that begins at `at`; gives where the next one begins, or none if it is not whole.
    fn frame(&self, at: usize, each: &mut dyn FnMut(&Frame<'_>)) -> Result<Option<usize>, String> {
        let Some(line) = self.line(at)? else { return Ok(None) };
        let (body, next) = match line.body_length {
            None => (line.end..line.end, line.end),
            Some(length) => {
                let end = line.end + length;
                let Some(tail) = self.pending.get(end..end + 2) else { return Ok(None) };
                if tail != b"\r\n" {
                    return Err(format!("{:?} with a body of another length", line.op));
                }
                (line.end..end, end + 2)
            }
        };
        let arguments = str::from_utf8(&self.pending[line.arguments.clone()])
            .map_err(|_| format!("{:?} with arguments that are no UTF-8", line.op))?;
        let header_length = line.header_length;
        each(&Frame { op: line.op, arguments, body: &self.pending[body], header_length });
        Ok(Some(next))
    }

    fn line(&self, at: usize) -> Result<Option<Line>, String> {
        let pending = &self.pending[at..];
        let Some(length) = pending.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let text = pending[..length].strip_suffix(b"\r").ok_or("a line without a return")?;
        let split = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
        let name = &text[..split];
        let op = self.op(name).ok_or_else(|| {
            format!("no operation: {:?}", String::from_utf8_lossy(&name[..name.len().min(40)]))
        })?;
        let arguments = &text[(split + 1).min(text.len())..];
        let mut words = arguments.rsplit(|byte| *byte == b' ');
        let mut number = || str::from_utf8(words.next()?).ok()?.parse::<usize>().ok();
        let missing = || format!("{op:?} without its lengths");
        let (header_length, body_length) = match op {
            Op::Pub | Op::Msg => (0, Some(number().ok_or_else(missing)?)),
            Op::Hpub | Op::Hmsg => {
                let whole = number().ok_or_else(missing)?;
                let headers = number().ok_or_else(missing)?;
                if headers > whole {
                    return Err(format!("{op:?} with more headers than bytes"));
                }
                (headers, Some(whole))
            }
            _ => (0, None),
        };
        let begin = at + split + usize::from(split < text.len());
        Ok(Some(Line {
            op,
            arguments: begin..begin + arguments.len(),
            header_length,
            body_length,
            end: at + length + 1,
        }))
    }

    fn op(&self, name: &[u8]) -> Option<Op> {
        match (self.writer, name) {
            (_, b"PING") => Some(Op::Ping),
            (_, b"PONG") => Some(Op::Pong),
            (Writer::Client, b"CONNECT") => Some(Op::Connect),
            (Writer::Client, b"PUB") => Some(Op::Pub),
            (Writer::Client, b"HPUB") => Some(Op::Hpub),
            (Writer::Client, b"SUB") => Some(Op::Sub),
            (Writer::Client, b"UNSUB") => Some(Op::Unsub),
            (Writer::Server, b"INFO") => Some(Op::Info),
            (Writer::Server, b"MSG") => Some(Op::Msg),
            (Writer::Server, b"HMSG") => Some(Op::Hmsg),
            (Writer::Server, b"+OK") => Some(Op::Ok),
            (Writer::Server, b"-ERR") => Some(Op::Err),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(writer: Writer, chunks: &[&[u8]]) -> (Vec<String>, Option<String>, usize) {
        let mut frames = Frames::new(writer);
        let mut seen = Vec::new();
        for chunk in chunks {
            frames.push(chunk, &mut |frame| {
                let payload = String::from_utf8_lossy(frame.payload()).into_owned();
                seen.push(format!("{:?} {} {payload}", frame.op, frame.arguments));
            });
        }
        (seen, frames.broken().map(str::to_owned), frames.partial())
    }

    #[test]
    fn frames_are_found_at_every_split() {
        let stream =
            b"CONNECT {\"a\": 1}\r\nPUB s 2\r\nhi\r\nHPUB s r 12 13\r\nNATS/1.0\r\n\r\nx\r\n\
                       SUB s q 1\r\nPING\r\nPUB t 0\r\n\r\n";
        let (whole, broken, partial) = read(Writer::Client, &[stream]);
        assert_eq!((broken, partial), (None, 0));
        assert_eq!(
            whole,
            [
                "Connect {\"a\": 1} ",
                "Pub s 2 hi",
                "Hpub s r 12 13 x",
                "Sub s q 1 ",
                "Ping  ",
                "Pub t 0 "
            ]
        );
        for at in 0..stream.len() {
            let (split, broken, _) = read(Writer::Client, &[&stream[..at], &stream[at..]]);
            assert_eq!((split, broken), (whole.clone(), None), "split at {at}");
        }
    }

    #[test]
    fn what_is_no_frame_breaks_the_stream() {
        let cases: [(&[u8], &str); 6] = [
            (b"MSG s 1 2\r\nhi\r\n", "no operation"),
            (b"PUB s 2\r\nhix\r\n", "another length"),
            (b"PUB s\r\n", "without its lengths"),
            (b"HPUB s 9 8\r\nxxxxxxxx\r\n", "more headers"),
            (b"PING\n", "without a return"),
            (b"ello\r\n", "no operation"),
        ];
        for (stream, why) in cases {
            let (_, broken, _) = read(Writer::Client, &[stream]);
            let broken = broken.unwrap_or_else(|| panic!("{stream:?}"));
            assert!(broken.contains(why), "{broken}");
        }
    }
}
