//! The control line of a MSG as servers write it, read in one walk.
//!
//! Only the plain is read here: single blanks, ASCII names, numbers of a sane length. Everything
//! else is none of it and left to the parser, which knows what is odd and what is broken.

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
    #[inline]
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut at = text.iter();
        let subject = word(&mut at)?;
        let (sid, b' ') = decimal(&mut at)? else { return None };
        let names = text.len() - at.len();
        let mut layout = Layout { subject, ..Layout::default() };
        let mut end = at.clone();
        let total = match decimal(&mut end) {
            Some((total, b'\r')) => total,
            // What stands here is the reply subject, digits or not.
            _ => {
                layout.reply = word(&mut at)?;
                layout.has_reply = true;
                layout.between = u8::try_from(names - subject).ok()?;
                end = at;
                let (total, b'\r') = decimal(&mut end)? else { return None };
                total
            }
        };
        if end.next() != Some(&b'\n') {
            return None;
        }
        let line = text.len() - end.len();
        let names_end = subject + usize::from(layout.between) + layout.reply;
        layout.behind = u8::try_from(line - names_end).ok()?;
        Some(Self { sid, total: usize::try_from(total).ok()?, line, layout })
    }
}

/// The length of the name in front; its blank is taken too.
#[inline]
fn word(at: &mut std::slice::Iter<'_, u8>) -> Option<usize> {
    let before = at.len();
    let end = at.by_ref().find(|byte| !byte.is_ascii_graphic())?;
    let len = before - at.len() - 1;
    (*end == b' ' && len > 0).then_some(len)
}

/// The number in front, and the byte behind it, which is taken too.
#[inline]
fn decimal(at: &mut std::slice::Iter<'_, u8>) -> Option<(u64, u8)> {
    let before = at.len();
    let mut number = 0u64;
    loop {
        let byte = *at.next()?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            // So few digits have not wrapped.
            let len = before - at.len() - 1;
            return (len > 0 && len <= MOST_DIGITS).then_some((number, byte));
        }
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
}
