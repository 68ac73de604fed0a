//! The control line of a MSG as servers write it, read in one walk.
//!
//! Only the plain is read here: single blanks, ASCII names, numbers of a sane length. Everything
//! else is none of it and left to the parser, which knows what is odd and what is broken. Names are
//! looked through by words of eight bytes, as long as so many follow.

use crate::protocol::message::Layout;

/// No length or sid that a server could mean has more digits.
pub(super) const MOST_DIGITS: usize = 19;

/// The control line of a MSG with single blanks, ASCII names and its line end, from the subject on.
pub(super) struct Plain {
    pub(super) sid: u64,
    /// The length of the payload.
    pub(super) total: usize,
    /// The length of the line with its end.
    pub(super) line: usize,
    pub(super) layout: Layout,
}

impl Plain {
    #[inline(always)]
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let subject = word(text, 0)?;
        let (sid, names, b' ') = decimal(text, subject + 1)? else { return None };
        let (total, end, layout) = match decimal(text, names + 1) {
            Some((total, end, b'\r')) => {
                let behind = u8::try_from(end + b"\r\n".len() - subject).ok()?;
                (total, end, Layout { subject: length(subject)?, behind, ..Layout::default() })
            }
            // What stands here is the reply subject, digits or not.
            _ => Self::answerable(text, subject, names)?,
        };
        if text.get(end + 1) != Some(&b'\n') {
            return None;
        }
        let line = end + b"\r\n".len();
        Some(Self { sid, total: usize::try_from(total).ok()?, line, layout })
    }

    /// From the reply subject on, up to the line end.
    #[inline]
    fn answerable(text: &[u8], subject: usize, names: usize) -> Option<(u64, usize, Layout)> {
        let end = word(text, names + 1)?;
        let (total, line_end, b'\r') = decimal(text, end + 1)? else { return None };
        let layout = Layout {
            subject: length(subject)?,
            reply: length(end - names - 1)?,
            between: u8::try_from(names + 1 - subject).ok()?,
            behind: u8::try_from(line_end + b"\r\n".len() - end).ok()?,
            parts: Layout::REPLY,
            ..Layout::default()
        };
        Some((total, line_end, layout))
    }
}

/// A length as a layout has it.
#[inline(always)]
fn length(len: usize) -> Option<u32> {
    u32::try_from(len).ok()
}

/// Where the name that begins at `from` ends: at its blank.
#[inline(always)]
fn word(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(bytes) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let odd = not_graphic(u64::from_le_bytes(*bytes));
        if odd != 0 {
            at += (odd.trailing_zeros() / u8::BITS) as usize;
            break;
        }
        at += bytes.len();
    }
    while text.get(at)?.is_ascii_graphic() {
        at += 1;
    }
    (text.get(at) == Some(&b' ') && at > from).then_some(at)
}

/// The high bit of each byte that is no graphic ASCII, or stands behind one that is not: the first
/// of them is right.
#[inline(always)]
fn not_graphic(word: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    // Each lends from, or hands on to, the bytes behind it only.
    let below = word.wrapping_sub(EACH * (b' ' as u64 + 1)) & !word;
    let above = word.wrapping_add(EACH) | word;
    (below | above) & (EACH << 7)
}

/// The number that begins at `from`, where it ends, and the byte there.
#[inline(always)]
fn decimal(text: &[u8], from: usize) -> Option<(u64, usize, u8)> {
    let (mut at, mut number) = (from, 0u64);
    loop {
        let byte = *text.get(at)?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            // So few digits have not wrapped.
            let len = at - from;
            return (len > 0 && len <= MOST_DIGITS).then_some((number, at, byte));
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_no_graphic_ascii_is_found_wherever_it_stands() {
        for at in 0..8 {
            for odd in 0..=u8::MAX {
                for rest in [b'!', b'a', b'~', 0, 0xff] {
                    let mut bytes = [b'a'; 8];
                    bytes[at..].fill(rest);
                    bytes[at] = odd;
                    let first = bytes.iter().position(|byte| !byte.is_ascii_graphic());
                    let found = not_graphic(u64::from_le_bytes(bytes));
                    let found = (found != 0).then(|| (found.trailing_zeros() / 8) as usize);
                    assert_eq!(found, first, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn a_name_ends_at_its_blank_near_the_end_of_the_text_too() {
        for len in 0..20 {
            let name = "n".repeat(len);
            for rest in ["", "1", "12345678"] {
                let found = word(format!("{name} {rest}").as_bytes(), 0);
                assert_eq!(found, (len > 0).then_some(len), "{len}, {rest}");
                assert_eq!(word(format!("{name}\t{rest}").as_bytes(), 0), None);
            }
            assert_eq!(word(name.as_bytes(), 0), None);
        }
    }
}
