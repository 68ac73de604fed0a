//! The server's bytes read a second time: the whole buffer at once, without any care for speed.
//!
//! Written from the definition of the protocol and not from the parser, whose operations must be
//! these for every input. What stands inside of INFO and `-ERR` is read by the crate.

use nats_blocking::internals::{HeaderBlock, Op, Received, read_info, read_server_error};

/// The limits in bytes; a payload of 0 is unlimited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) control_line: usize,
    pub(crate) info_line: usize,
    pub(crate) payload: u128,
}

/// The operations of the bytes, and whether what follows them is broken or just not whole.
pub(crate) fn read(mut rest: &[u8], limits: Limits) -> (Vec<Op>, bool) {
    let mut ops = Vec::new();
    loop {
        match read_one(rest, limits) {
            Ok(Some((op, length))) => {
                ops.push(op);
                rest = &rest[length..];
            }
            Ok(None) => return (ops, false),
            Err(Broken) => return (ops, true),
        }
    }
}

struct Broken;

/// The first operation and its length.
fn read_one(rest: &[u8], limits: Limits) -> Result<Option<(Op, usize)>, Broken> {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let line = &rest[..end.unwrap_or(rest.len())];
    let is_info = line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"INFO");
    if line.len() > if is_info { limits.info_line } else { limits.control_line } {
        return Err(Broken);
    }
    let Some(end) = end else { return Ok(None) };
    let text = line.strip_suffix(b"\r").unwrap_or(line);
    let is_blank = |byte: &u8| [b' ', b'\t'].contains(byte);
    let name_end = text.iter().position(is_blank).unwrap_or(text.len());
    let name = text[..name_end].to_ascii_uppercase();
    let words: Vec<&[u8]> =
        text[name_end..].split(is_blank).filter(|word| !word.is_empty()).collect();
    let behind = text[name_end..].iter().position(|byte| !is_blank(byte)).unwrap_or(0);
    let op = match name.as_slice() {
        b"PING" if words.is_empty() => Op::Ping,
        b"PONG" if words.is_empty() => Op::Pong,
        b"+OK" if words.is_empty() => Op::Ok,
        b"INFO" => {
            let json = if words.is_empty() { &[][..] } else { &text[name_end + behind..] };
            Op::Info(read_info(json).map_err(|_| Broken)?.1)
        }
        b"MSG" | b"HMSG" => {
            return read_message(&rest[end + 1..], name.len() == 4, &words, end + 1, limits);
        }
        _ if name.starts_with(b"-ERR") && matches!(name.get(4), None | Some(b'\'' | b'"')) => {
            Op::Err(read_server_error(&String::from_utf8_lossy(&text[4..])))
        }
        _ => return Err(Broken),
    };
    Ok(Some((op, end + 1)))
}

/// The message whose line had these words and whose body is at the front of `rest`.
fn read_message(
    rest: &[u8],
    with_headers: bool,
    words: &[&[u8]],
    line: usize,
    limits: Limits,
) -> Result<Option<(Op, usize)>, Broken> {
    let least = if with_headers { 4 } else { 3 };
    if words.len() != least && words.len() != least + 1 {
        return Err(Broken);
    }
    let reply = (words.len() > least).then(|| String::from_utf8_lossy(words[2]).into_owned());
    let sid = read_number(words[1])?;
    let total = read_number(words[words.len() - 1])?;
    let block = if with_headers { read_number(words[words.len() - 2])? } else { 0 };
    if block > total || (limits.payload != 0 && total > limits.payload) {
        return Err(Broken);
    }
    let (Ok(block), Ok(total)) = (usize::try_from(block), usize::try_from(total)) else {
        return Err(Broken);
    };
    if rest.len() < total.saturating_add(2) {
        return Ok(None);
    }
    let (body, trailer) = rest[..total + 2].split_at(total);
    if trailer != b"\r\n" {
        return Err(Broken);
    }
    let (block, payload) = body.split_at(block);
    let headers = if with_headers { read_headers(block) } else { HeaderBlock::default() };
    let received = Received {
        sid: u64::try_from(sid).map_err(|_| Broken)?,
        subject: String::from_utf8_lossy(words[0]).into_owned(),
        reply,
        block: with_headers.then(|| block.to_vec()),
        headers,
        payload: payload.to_vec(),
        wire_len: line + total + 2,
    };
    Ok(Some((Op::Message(Box::new(received)), line + total + 2)))
}

/// Digits alone, and not more than make a 64-bit number.
fn read_number(word: &[u8]) -> Result<u128, Broken> {
    if word.len() > 19 || !word.iter().all(u8::is_ascii_digit) {
        return Err(Broken);
    }
    std::str::from_utf8(word).ok().and_then(|text| text.parse().ok()).ok_or(Broken)
}

/// A header block, a line after the other.
pub(crate) fn read_headers(block: &[u8]) -> HeaderBlock {
    let mut read = HeaderBlock::default();
    let mut lines = lines_of(block).into_iter();
    let first = lines.next().unwrap_or_default();
    let Some(behind) = first.strip_prefix(b"NATS/1.0") else {
        return HeaderBlock { is_faulty: true, ..read };
    };
    let status = String::from_utf8_lossy(trim(behind)).into_owned();
    if !status.is_empty() {
        let (code, words) = status.split_once([' ', '\t']).unwrap_or((status.as_str(), ""));
        let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
        if is_code && [b' ', b'\t'].contains(&behind[0]) {
            let words = words.trim_matches([' ', '\t']).to_owned();
            read.status = Some((code.parse().unwrap(), words));
        } else {
            read.is_faulty = true;
        }
    }
    for line in lines.by_ref() {
        if line.is_empty() {
            // Whatever stands behind the blank line but line ends is a fault.
            let more = lines.any(|line| line.iter().any(|byte| *byte != b'\r'));
            read.is_faulty |= more;
            return read;
        }
        match line.iter().position(|byte| *byte == b':') {
            None | Some(0) => read.is_faulty = true,
            Some(colon) => {
                let name = String::from_utf8_lossy(&line[..colon]).into_owned();
                let value = String::from_utf8_lossy(trim(&line[colon + 1..])).into_owned();
                read.is_faulty |= std::str::from_utf8(line).is_err();
                read.lines.push((name, value));
            }
        }
    }
    read.is_faulty = true;
    read
}

/// The lines without their ends. What stands behind the last line feed is a line if it is not
/// empty, and keeps a carriage return.
fn lines_of(block: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = block.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    let mut lines: Vec<&[u8]> =
        lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    if !last.is_empty() {
        lines.push(last);
    }
    lines
}

fn trim(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| ![b' ', b'\t'].contains(byte);
    match (text.iter().position(is_text), text.iter().rposition(is_text)) {
        (Some(first), Some(last)) => &text[first..=last],
        _ => &[],
    }
}

/// The data of WebSocket frames, by the letter of RFC 6455, up to the first that breaks it or the
/// close; of the last frame as much as is there.
pub(crate) fn websocket_data(bytes: &[u8]) -> Vec<u8> {
    let (mut data, mut at, mut goes_on) = (Vec::new(), 0, false);
    let number = |from: usize, count: usize| -> Option<u64> {
        let digits = bytes.get(from..from + count)?;
        Some(digits.iter().fold(0, |sum, digit| sum << 8 | u64::from(*digit)))
    };
    while let (Some(first), Some(second)) = (number(at, 1), number(at + 1, 1)) {
        let (long, width) = match second & 0x7f {
            126 => (true, 2),
            127 => (true, 8),
            _ => (false, 0),
        };
        let length = if long { number(at + 2, width) } else { Some(second & 0x7f) };
        let Some(length) = length else { break };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let control = matches!(opcode, 8..=10);
        let in_order = if goes_on { opcode == 0 } else { opcode == 2 };
        let whole = if control { length <= 125 && last } else { in_order };
        if second & 0x80 != 0 || first & 0x70 != 0 || !whole || length > 1 << 30 {
            break;
        }
        let begin = at + 2 + width;
        let end = begin.saturating_add(length as usize);
        if control {
            if end > bytes.len() || opcode == 8 {
                break;
            }
        } else {
            goes_on = !last;
            data.extend_from_slice(&bytes[begin.min(bytes.len())..end.min(bytes.len())]);
        }
        at = end;
    }
    data
}
