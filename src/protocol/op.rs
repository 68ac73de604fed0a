//! The operations of the protocol: the client's as bytes, the server's as values.
//!
//! Client operations are written straight into the caller's buffer, messages into the place that
//! they take in it: no formatting machinery, no allocation of their own. Nothing is validated here:
//! the names passed the checks of `subject` before, and a buffer gets whole frames only. CONNECT is
//! JSON and has a file of its own.

use crate::protocol::headers::Headers;
use crate::protocol::info::ServerInfoUpdate;
use crate::protocol::message::Message;
use crate::protocol::space::Space;
use crate::server_error::ServerError;

/// The client's PING, and what a server sends.
pub(crate) const PING: &[u8] = b"PING\r\n";
/// The answer to a PING.
pub(crate) const PONG: &[u8] = b"PONG\r\n";

const CRLF: &[u8] = b"\r\n";

/// One operation of the server.
#[derive(Debug)]
pub(crate) enum ServerOp {
    Info(ServerInfoUpdate),
    Message(Delivery),
    Ping,
    Pong,
    Ok,
    Err(ServerError),
}

/// A message as it arrived.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) sid: u64,
    pub(crate) message: Message,
    /// The whole frame on the wire: control line, headers, payload and line ends.
    pub(crate) wire_len: usize,
    /// What was wrong with the header block; the message is whole otherwise.
    pub(crate) header_fault: Option<String>,
}

/// The lengths of a PUB, or of an HPUB if there are headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublishLen {
    /// The control line, its line end included.
    pub(crate) line: usize,
    /// Headers and payload: what the line announces.
    pub(crate) announced: usize,
    /// The whole frame that [`encode_publish`] writes.
    pub(crate) frame: usize,
}

/// Measures what [`encode_publish`] writes, exactly.
#[inline]
pub(crate) fn publish_len(
    subject: &str,
    reply: Option<&str>,
    headers: Option<&Headers>,
    payload_len: usize,
) -> PublishLen {
    // Around the names: the operation, and the length of a header block.
    let (around, announced) = match headers.filter(|headers| !headers.is_empty()) {
        None => (b"PUB ".len(), payload_len),
        Some(headers) => with_block(headers, payload_len),
    };
    let reply_len = reply.map_or(0, |reply| reply.len() + 1);
    // No sum of lengths of things in memory overflows; an announced length could be any.
    let names = around + subject.len() + reply_len;
    let line = names + b" ".len() + digits(announced) + CRLF.len();
    let frame = (line + CRLF.len()).saturating_add(announced);
    PublishLen { line, announced, frame }
}

#[inline(never)]
fn with_block(headers: &Headers, payload_len: usize) -> (usize, usize) {
    let block = headers.encoded_len();
    (b"HPUB ".len() + digits(block) + 1, block.saturating_add(payload_len))
}

/// Writes a PUB, or an HPUB if there are headers, into a place as long as the frame that
/// [`publish_len`] told.
// Each message goes through here; its names and payload stay in registers.
#[inline(always)]
pub(crate) fn encode_publish(
    place: &mut [u8],
    len: PublishLen,
    subject: &str,
    reply: Option<&str>,
    headers: Option<&Headers>,
    payload: &[u8],
) {
    debug_assert_eq!(place.len(), len.frame, "as long as the frame");
    let mut out = Space::new(place);
    let end = len.announced as u64;
    if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
        encode_with_headers(&mut out, end, subject, reply, headers);
    } else {
        out.put(b"PUB ");
        put_names(&mut out, subject, reply);
        put_line_end(&mut out, end);
    }
    out.put(payload);
    out.put(CRLF);
    debug_assert!(out.is_full(), "the length was computed wrongly");
}

/// Of its own, so that a message without headers pays nothing for them.
#[inline(never)]
fn encode_with_headers(
    out: &mut Space<'_>,
    end: u64,
    subject: &str,
    reply: Option<&str>,
    headers: &Headers,
) {
    out.put(b"HPUB ");
    put_names(out, subject, reply);
    out.put(b" ");
    put_number(out, headers.encoded_len() as u64);
    put_line_end(out, end);
    headers.encode(out);
}

#[inline(always)]
fn put_names(out: &mut Space<'_>, subject: &str, reply: Option<&str>) {
    out.put(subject.as_bytes());
    if let Some(reply) = reply {
        out.put(b" ");
        out.put(reply.as_bytes());
    }
}

/// Appends a SUB.
pub(crate) fn encode_subscribe(out: &mut Vec<u8>, subject: &str, queue: Option<&str>, sid: u64) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    if let Some(queue) = queue {
        out.extend_from_slice(queue.as_bytes());
        out.push(b' ');
    }
    push_number(out, sid);
    out.extend_from_slice(CRLF);
}

/// Appends an UNSUB: at once, or after the server has sent `max` messages in all.
pub(crate) fn encode_unsubscribe(out: &mut Vec<u8>, sid: u64, max: Option<u64>) {
    out.extend_from_slice(b"UNSUB ");
    push_number(out, sid);
    if let Some(max) = max {
        out.push(b' ');
        push_number(out, max);
    }
    out.extend_from_slice(CRLF);
}

/// What an encoded PUB or HPUB announces as headers and payload together.
///
/// For frames kept across a reconnect, whose new server may accept less. `None` for other frames.
pub(crate) fn announced_size(frame: &[u8]) -> Option<u64> {
    let is_publish = frame.starts_with(b"PUB ") || frame.starts_with(b"HPUB ");
    let end = memchr::memchr(b'\r', frame).filter(|_| is_publish)?;
    let line = frame.get(..end)?;
    let number = line.get(memchr::memrchr(b' ', line)?.checked_add(1)?..)?;
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The length of the encoded PUB or HPUB that `bytes` begins with. `None` for other frames.
pub(crate) fn publish_frame_len(bytes: &[u8]) -> Option<usize> {
    let line = memchr::memchr(b'\n', bytes)? + 1;
    let announced = usize::try_from(announced_size(bytes.get(..line)?)?).ok()?;
    line.checked_add(announced)?.checked_add(CRLF.len())
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_number(out: &mut Space<'_>, number: u64) {
    out.put(itoa::Buffer::new().format(number).as_bytes());
}

/// The last number of a line, with the blank before it and the line end: in one piece where the
/// compiler can know its length.
#[inline(always)]
fn put_line_end(out: &mut Space<'_>, number: u64) {
    let digit = |divisor: u64| b'0' + (number / divisor % 10) as u8;
    match number {
        0..10 => out.put(&[b' ', digit(1), b'\r', b'\n']),
        10..100 => out.put(&[b' ', digit(10), digit(1), b'\r', b'\n']),
        100..1_000 => out.put(&[b' ', digit(100), digit(10), digit(1), b'\r', b'\n']),
        _ => put_long_line_end(out, number),
    }
}

#[inline(never)]
fn put_long_line_end(out: &mut Space<'_>, number: u64) {
    out.put(b" ");
    put_number(out, number);
    out.put(CRLF);
}

#[inline]
fn digits(number: usize) -> usize {
    match number {
        0..10 => 1,
        10..100 => 2,
        100..1_000 => 3,
        1_000..10_000 => 4,
        _ => many_digits(number),
    }
}

#[inline(never)]
fn many_digits(number: usize) -> usize {
    number.ilog10() as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::subject;

    fn publish(
        subject: &str,
        reply: Option<&str>,
        headers: Option<&Headers>,
        payload: &[u8],
    ) -> Vec<u8> {
        let len = publish_len(subject, reply, headers, payload.len());
        let mut out = vec![0; len.frame];
        encode_publish(&mut out, len, subject, reply, headers, payload);
        let line = out.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(line, len.line);
        assert_eq!(publish_frame_len(&out), Some(out.len()));
        let block = headers.filter(|headers| !headers.is_empty()).map_or(0, Headers::encoded_len);
        assert_eq!(announced_size(&out), Some((block + payload.len()) as u64));
        out
    }

    fn one_header(name: &str, value: &str) -> Headers {
        let mut headers = Headers::new();
        headers.append(name, value).unwrap();
        headers
    }

    #[test]
    fn publishes_look_as_the_protocol_says() {
        assert_eq!(publish("a.b", None, None, b"hi"), b"PUB a.b 2\r\nhi\r\n");
        assert_eq!(publish("a", Some("r"), None, b""), b"PUB a r 0\r\n\r\n");
        assert_eq!(publish("a", None, Some(&Headers::new()), b"x"), b"PUB a 1\r\nx\r\n");
        let headers = one_header("N", "v");
        assert_eq!(
            publish("a", Some("r"), Some(&headers), b"hi"),
            b"HPUB a r 18 20\r\nNATS/1.0\r\nN: v\r\n\r\nhi\r\n"
        );
    }

    #[test]
    fn the_told_length_is_exact_for_every_number_of_digits() {
        let headers = one_header("N", "v");
        for len in [0, 1, 9, 10, 99, 100, 999, 1_000, 9_999, 10_000, 99_999, 100_000] {
            let payload = vec![b'x'; len];
            publish("subject", None, None, &payload);
            publish("subject", Some("reply"), Some(&headers), &payload);
        }
        assert_eq!(publish_len("a", None, None, usize::MAX).frame, usize::MAX);
    }

    #[test]
    fn subscribes_and_unsubscribes_look_as_the_protocol_says() {
        let mut out = Vec::new();
        encode_subscribe(&mut out, "a.>", None, 1);
        encode_subscribe(&mut out, "a", Some("q"), u64::MAX);
        encode_unsubscribe(&mut out, 7, None);
        encode_unsubscribe(&mut out, 7, Some(10));
        let expected = "SUB a.> 1\r\nSUB a q 18446744073709551615\r\nUNSUB 7\r\nUNSUB 7 10\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn only_publishes_announce_a_size() {
        for frame in [&b"PING\r\n"[..], b"SUB a 1\r\n", b"PUB a 5", b"PUB a x\r\n", b"", b"PUB "] {
            assert_eq!(announced_size(frame), None);
        }
        assert_eq!(announced_size(b"PUB a 12\r\nhello 99\r\n"), Some(12));
    }

    /// All ASCII strings of one and two characters.
    fn short_strings() -> impl Iterator<Item = String> {
        let one = (0u8..128).map(|a| char::from(a).to_string());
        let two = (0u8..128).flat_map(|a| {
            (0u8..128).map(move |b| [char::from(a), char::from(b)].into_iter().collect())
        });
        one.chain(two)
    }

    /// The tokens of a frame's first line, as a server splits them.
    fn tokens(frame: &[u8]) -> Vec<String> {
        let end = frame.windows(2).position(|pair| pair == b"\r\n").unwrap();
        frame[..end]
            .split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
            .map(|token| String::from_utf8(token.to_vec()).unwrap())
            .collect()
    }

    fn line_ends(frame: &[u8]) -> (usize, usize, usize) {
        let count = |wanted: u8| frame.iter().filter(|byte| **byte == wanted).count();
        let pairs = frame.windows(2).filter(|pair| *pair == b"\r\n").count();
        (pairs, count(b'\r'), count(b'\n'))
    }

    #[test]
    fn no_name_of_one_or_two_characters_becomes_a_second_line() {
        let mut accepted = 0;
        for text in short_strings() {
            if subject::check_publish(&text).is_ok() {
                let frame = publish(&text, Some(&text), None, b"pp");
                assert_eq!(tokens(&frame), ["PUB", &text, &text, "2"]);
                assert_eq!(line_ends(&frame), (2, 2, 2), "{text:?}");
                accepted += 1;
            }
            if subject::check_subscribe(&text).is_ok() && subject::check_queue(&text).is_ok() {
                let mut frame = Vec::new();
                encode_subscribe(&mut frame, &text, Some(&text), 5);
                assert_eq!(tokens(&frame), ["SUB", &text, &text, "5"]);
                assert_eq!(line_ends(&frame), (1, 1, 1), "{text:?}");
            }
        }
        // 94 visible characters: every other string was refused.
        assert_eq!(accepted, 94 + 94 * 94);
    }

    #[test]
    fn no_header_of_one_or_two_characters_becomes_a_second_line() {
        let mut accepted = (0, 0);
        for text in short_strings() {
            let mut by_name = Headers::new();
            if by_name.append(&text, "v").is_ok() {
                let frame = publish("s", None, Some(&by_name), b"");
                assert_eq!(line_ends(&frame), (5, 5, 5), "{text:?}");
                accepted.0 += 1;
            }
            let mut by_value = Headers::new();
            if by_value.append("n", &text).is_ok() {
                let frame = publish("s", None, Some(&by_value), b"");
                assert_eq!(line_ends(&frame), (5, 5, 5), "{text:?}");
                accepted.1 += 1;
            }
        }
        assert_eq!(accepted, (93 + 93 * 93, 125 + 125 * 125));
    }
}
