//! Frames, without IO: heads out of what comes in, frames out of what goes out.

use std::io::{self, Cursor};

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::error::{Error, ErrorKind};
use crate::random;

/// The longest payload of a control frame (RFC 6455, 5.5).
const CONTROL_MOST: u64 = 125;

/// The longest frame that is believed: no server holds back more for a client. Nothing of a frame
/// is kept here, so a longer one would only be read on and on.
const FRAME_MOST: u64 = 1 << 30;

/// The code of a close in order (RFC 6455, 7.4.1).
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// Frames that come in.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The beginning of a head.
    head: Vec<u8>,
    /// So much is left of the present frame.
    left: u64,
    /// Which control frame it is; none for data.
    control: Option<Control>,
    /// The payload of that control frame, so far.
    payload: Vec<u8>,
    /// More frames of the present message follow.
    goes_on: bool,
    /// What is to be answered: of several pings the last (RFC 6455, 5.5.3).
    answer: Option<(Control, Vec<u8>)>,
    end: Option<End>,
}

/// After this nothing is decoded.
#[derive(Debug, Clone)]
enum End {
    /// The server has said so.
    Closed,
    Fault(&'static str),
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            head: Vec::with_capacity(16),
            left: 0,
            control: None,
            payload: Vec::new(),
            goes_on: false,
            answer: None,
            end: None,
        }
    }

    /// What every read gives from now on; none while there may be more to come.
    pub(crate) fn end(&self) -> Option<io::Result<usize>> {
        match self.end.as_ref()? {
            End::Closed => Some(Ok(0)),
            End::Fault(what) => {
                let text = format!("the server broke the WebSocket protocol: it sent {what}");
                Some(Err(io::Error::other(Error::new(ErrorKind::Protocol, text))))
            }
        }
    }

    /// Takes the first `count` bytes of the buffer in. What is data of the protocol above stands at
    /// its beginning afterwards; returns how much that is.
    pub(crate) fn decode(&mut self, buffer: &mut [u8], count: usize) -> usize {
        let (mut from, mut to) = (0, 0);
        while from < count && self.end.is_none() {
            if self.left == 0 {
                let byte = buffer.get(from).copied().unwrap_or_default();
                from += 1;
                self.head.push(byte);
                self.look_at_head();
                continue;
            }
            let there = count - from;
            let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
            if self.control.is_some() {
                self.payload.extend_from_slice(buffer.get(from..from + part).unwrap_or_default());
            } else {
                if from != to {
                    buffer.copy_within(from..from + part, to);
                }
                to += part;
            }
            from += part;
            self.left -= part as u64;
            if self.left == 0 {
                self.frame_ends();
            }
        }
        to
    }

    /// The answer to a control frame, if one is due.
    pub(crate) fn take_answer(&mut self) -> Option<(Control, Vec<u8>)> {
        self.answer.take()
    }

    fn look_at_head(&mut self) {
        match FrameHeader::parse(&mut Cursor::new(&self.head)) {
            Ok(None) => {}
            Ok(Some((header, length))) => {
                self.head.clear();
                match self.begin(&header, length) {
                    Ok(()) if self.left == 0 => self.frame_ends(),
                    Ok(()) => {}
                    Err(what) => self.end = Some(End::Fault(what)),
                }
            }
            Err(_) => self.end = Some(End::Fault("a frame of an unknown kind")),
        }
    }

    /// A frame begins, or what is wrong with it.
    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<(), &'static str> {
        if header.mask.is_some() {
            return Err("a masked frame, as only clients do");
        }
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err("a compressed frame, or one of another extension, which was not agreed on");
        }
        let control = match header.opcode {
            OpCode::Control(control) => Some(control),
            OpCode::Data(Data::Text) => return Err("a text frame, and NATS is binary"),
            OpCode::Data(Data::Continue) if !self.goes_on => {
                return Err("a continuation of nothing");
            }
            OpCode::Data(Data::Binary) if self.goes_on => {
                return Err("a message within another");
            }
            OpCode::Data(_) => None,
        };
        if control.is_some() && (length > CONTROL_MOST || !header.is_final) {
            return Err("a control frame that is too long, or in parts");
        }
        if length > FRAME_MOST {
            return Err("a frame of more than 1 GiB");
        }
        if control.is_none() {
            self.goes_on = !header.is_final;
        }
        self.control = control;
        self.left = length;
        Ok(())
    }

    fn frame_ends(&mut self) {
        match self.control.take() {
            None | Some(Control::Reserved(_)) => {}
            Some(Control::Pong) => self.payload.clear(),
            Some(Control::Ping) => {
                self.answer = Some((Control::Pong, std::mem::take(&mut self.payload)));
            }
            Some(Control::Close) => {
                // The same code back; a reason is for people, and the server's -ERR came before.
                self.payload.truncate(NORMAL.len());
                self.answer = Some((Control::Close, std::mem::take(&mut self.payload)));
                self.end = Some(End::Closed);
            }
        }
    }
}

/// Adds a frame with data.
pub(super) fn encode_data(payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    encode(OpCode::Data(Data::Binary), payload, out)
}

/// Adds a control frame.
pub(super) fn encode_control(kind: Control, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    encode(OpCode::Control(kind), payload, out)
}

/// Adds our own farewell.
pub(super) fn encode_close(out: &mut Vec<u8>) -> io::Result<()> {
    encode_control(Control::Close, &NORMAL, out)
}

/// A client masks each frame with bytes that nobody can guess: what a program publishes must not be
/// able to look like a request to a proxy on the way.
fn encode(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mask: [u8; 4] = random::seed().map_err(io::Error::other)?;
    let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
    header.format(payload.len() as u64, out).map_err(io::Error::other)?;
    let start = out.len();
    out.extend_from_slice(payload);
    apply(mask, out.get_mut(start..).unwrap_or_default());
    Ok(())
}

/// Masks, eight bytes at a time.
fn apply([a, b, c, d]: [u8; 4], bytes: &mut [u8]) {
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip([a, b, c, d].into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len();
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(length as u8),
            126..=65535 => {
                bytes.push(126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Decodes in parts of that size.
    fn decoded(bytes: &[u8], part: usize) -> (Vec<u8>, Decoder) {
        let mut decoder = Decoder::new();
        let mut data = Vec::new();
        for chunk in bytes.chunks(part) {
            let mut buffer = chunk.to_vec();
            let count = decoder.decode(&mut buffer, chunk.len());
            data.extend_from_slice(&buffer[..count]);
        }
        (data, decoder)
    }

    #[test]
    fn frames_of_every_length_give_their_bytes_at_every_split() {
        let big: Vec<u8> = (0..70_000_u32).map(|number| number as u8).collect();
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for length in [0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000] {
            bytes.extend(frame(0x82, &big[..length]));
            expected.extend_from_slice(&big[..length]);
        }
        for part in [1, 2, 3, 7, 125, 4096, 1 << 20] {
            let (data, decoder) = decoded(&bytes, part);
            assert!(data == expected && decoder.end().is_none(), "{part}");
        }
    }

    #[test]
    fn a_message_in_parts_with_a_ping_between_is_its_bytes_and_the_ping_is_answered() {
        let bytes = [frame(0x02, b"ab"), frame(0x89, b"?"), frame(0, b""), frame(0x80, b"cd")];
        for part in 1..20 {
            let (data, mut decoder) = decoded(&bytes.concat(), part);
            assert_eq!(data, b"abcd");
            assert_eq!(decoder.take_answer(), Some((Control::Pong, b"?".to_vec())));
            assert!(decoder.take_answer().is_none() && decoder.end().is_none());
        }
        let (_, mut decoder) = decoded(&[frame(0x89, b"1"), frame(0x89, b"2")].concat(), 99);
        assert_eq!(decoder.take_answer(), Some((Control::Pong, b"2".to_vec())));
    }

    #[test]
    fn a_close_is_the_end_and_is_answered_and_what_came_before_it_counts() {
        let close = frame(0x88, &[&NORMAL[..], b"bye"].concat());
        let bytes = [frame(0x82, b"ab"), close, frame(0x82, b"cd")].concat();
        let (data, mut decoder) = decoded(&bytes, 99);
        assert_eq!(data, b"ab");
        assert_eq!(decoder.take_answer(), Some((Control::Close, NORMAL.to_vec())));
        assert_eq!(decoder.end().expect("the end").expect("in order"), 0);
    }

    #[test]
    fn what_no_server_may_send_is_a_protocol_error_that_names_it() {
        let length = |bytes: u64| [&[0x82, 127][..], &bytes.to_be_bytes()].concat();
        let cases: [(&str, Vec<u8>); 13] = [
            ("a text frame", frame(0x81, b"INFO")),
            ("a masked frame", vec![0x82, 0x81, 1, 2, 3, 4, 5]),
            ("compressed", frame(0xC2, b"x")),
            ("extension", frame(0xA2, b"x")),
            ("extension", frame(0x92, b"x")),
            ("unknown kind", frame(0x83, b"x")),
            ("unknown kind", frame(0x8B, b"x")),
            ("continuation of nothing", frame(0x80, b"x")),
            ("a message within another", [frame(0x02, b"x"), frame(0x82, b"y")].concat()),
            ("control frame that is too long", frame(0x89, &[0; 126])),
            ("in parts", frame(0x09, b"x")),
            ("more than 1 GiB", length(u64::MAX)),
            ("more than 1 GiB", length(FRAME_MOST + 1)),
        ];
        for (what, bad) in cases {
            let bytes = [frame(0x82, b"good"), bad, frame(0x82, b"never")].concat();
            for part in [1, 99] {
                // A text frame stands within a message too, but is named as what it is.
                let (data, decoder) = decoded(&bytes, part);
                assert!(data.starts_with(b"good") && data.len() <= 5, "{what}: {data:?}");
                let error = Error::io("reading", decoder.end().expect(what).expect_err(what));
                assert_eq!(error.kind(), ErrorKind::Protocol);
                assert!(error.to_string().contains(what), "{what}: {error}");
            }
        }
    }

    #[test]
    fn any_bytes_at_all_end_or_give_no_more_than_they_are() {
        let mut random = random::Random::new().expect("random numbers");
        for _ in 0..20_000 {
            let length = (random.draw() % 64) as usize;
            let mut bytes: Vec<u8> = (0..length).map(|_| random.draw() as u8).collect();
            if random.draw() % 2 == 0 && !bytes.is_empty() {
                bytes[0] = 0x82;
            }
            let (whole, one) = decoded(&bytes, 1 << 20);
            let (parts, other) = decoded(&bytes, 1);
            assert_eq!(whole, parts);
            assert!(whole.len() <= bytes.len());
            assert_eq!(one.end().is_some(), other.end().is_some());
        }
    }

    #[test]
    fn what_is_sent_is_masked_with_another_mask_each_time_and_comes_back() {
        let big: Vec<u8> = (0..66_000_u32).map(|number| number as u8).collect();
        let mut masks = std::collections::HashSet::new();
        for length in (0..40).chain([125, 126, 65_535, 65_536, 66_000]) {
            let mut out = b"before".to_vec();
            encode_data(&big[..length], &mut out).expect("a frame");
            let (header, size) = FrameHeader::parse(&mut Cursor::new(&out[6..]))
                .expect("a head")
                .expect("a whole head");
            assert!(header.is_final && header.opcode == OpCode::Data(Data::Binary));
            assert_eq!(size, length as u64);
            let mask = header.mask.expect("a mask");
            masks.insert(mask);
            let payload = &out[6 + header.len(size)..];
            let plain: Vec<u8> =
                payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert!(plain == big[..length], "{length}");
        }
        assert!(masks.len() > 40, "{}", masks.len());
    }
}
