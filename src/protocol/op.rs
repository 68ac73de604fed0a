//! The operations of the protocol: the client's as bytes, the server's as values.
//!
//! Client operations are written straight into the caller's buffer: no formatting machinery, no
//! allocation of their own. Nothing is validated here: the names passed the checks of `subject`
//! before, and a buffer gets whole frames only. CONNECT is JSON and has a file of its own.

use crate::protocol::headers::Headers;
use crate::protocol::info::ServerInfoUpdate;
use crate::protocol::message::Message;
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

/// The length of the control line of a publish, its line end included.
pub(crate) fn publish_line_len(
    subject: &str,
    reply: Option<&str>,
    headers: Option<&Headers>,
    payload_len: usize,
) -> usize {
    let reply_len = reply.map_or(0, |reply| reply.len().saturating_add(1));
    let (name_len, lengths_len) = match block_len(headers) {
        None => (b"PUB ".len(), digits(payload_len)),
        Some(block) => {
            let total = block.saturating_add(payload_len);
            (b"HPUB ".len(), digits(block) + 1 + digits(total))
        }
    };
    // The one byte more is the blank behind the subject.
    subject
        .len()
        .saturating_add(1)
        .saturating_add(reply_len)
        .saturating_add(name_len + lengths_len + CRLF.len())
}

/// The exact length of the frame that [`encode_publish`] writes.
pub(crate) fn publish_len(
    subject: &str,
    reply: Option<&str>,
    headers: Option<&Headers>,
    payload_len: usize,
) -> usize {
    publish_line_len(subject, reply, headers, payload_len)
        .saturating_add(block_len(headers).unwrap_or(0))
        .saturating_add(payload_len)
        .saturating_add(CRLF.len())
}

/// Appends a PUB, or an HPUB if there are headers.
pub(crate) fn encode_publish(
    out: &mut Vec<u8>,
    subject: &str,
    reply: Option<&str>,
    headers: Option<&Headers>,
    payload: &[u8],
) {
    let block = block_len(headers);
    // Two calls, each of a length that the compiler knows.
    match block {
        Some(_) => out.extend_from_slice(b"HPUB "),
        None => out.extend_from_slice(b"PUB "),
    }
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply.as_bytes());
        out.push(b' ');
    }
    if let Some(block) = block {
        push_number(out, block as u64);
        out.push(b' ');
    }
    push_number(out, block.unwrap_or(0).saturating_add(payload.len()) as u64);
    out.extend_from_slice(CRLF);
    if let (Some(_), Some(headers)) = (block, headers) {
        headers.encode(out);
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(CRLF);
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

/// The length of the header block, or `None` if none is to be sent.
fn block_len(headers: Option<&Headers>) -> Option<usize> {
    headers.filter(|headers| !headers.is_empty()).map(Headers::encoded_len)
}

/// Most lengths have few digits: those are written without a buffer between.
fn push_number(out: &mut Vec<u8>, number: u64) {
    let digit = |divisor: u64| b'0' + (number / divisor % 10) as u8;
    match number {
        0..10 => out.push(digit(1)),
        10..100 => out.extend_from_slice(&[digit(10), digit(1)]),
        100..1_000 => out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        _ => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

fn digits(number: usize) -> usize {
    match number {
        0..10 => 1,
        10..100 => 2,
        100..1_000 => 3,
        1_000..10_000 => 4,
        _ => number.ilog10() as usize + 1,
    }
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
        let mut out = Vec::new();
        encode_publish(&mut out, subject, reply, headers, payload);
        assert_eq!(out.len(), publish_len(subject, reply, headers, payload.len()));
        let line = out.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(line, publish_line_len(subject, reply, headers, payload.len()));
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
        assert_eq!(publish_len("a", None, None, usize::MAX), usize::MAX);
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
