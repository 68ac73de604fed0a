//! A buffer of whole frames that remembers where each one ends and what kind it is.
//!
//! ```text
//!  bytes:  [ written | torn part | frame | frame | … ]
//!                    ▲           ▲
//!               frame_start     head: what was given to the kernel
//! ```
//!
//! Invariants: `frame_start ≤ head`, and `head` is inside the first unfinished frame; the lengths
//! of the frames from `first` on add up to the bytes from `frame_start` on; `cut_end` is the end of
//! a frame, or `head` where nothing is cut.

use crate::error::{Error, ErrorKind, Result};

/// What a frame is, for what happens to it when the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message: kept.
    Data,
    /// SUB or UNSUB: dropped, the registry announces everything again.
    Control,
    /// PING of a flush: dropped, the flush fails.
    Ping,
}

/// Length and kind of a frame: the kind in the two highest bits.
#[derive(Debug, Clone, Copy)]
struct Frame(u32);

const LENGTH_BITS: u32 = 30;

impl Frame {
    fn new(kind: Kind, length: usize) -> Result<Self> {
        let length = u32::try_from(length).ok().filter(|length| length >> LENGTH_BITS == 0);
        let Some(length) = length else {
            return Err(Error::new(ErrorKind::MaxPayload, "a message takes 1 GiB or more"));
        };
        Ok(Self((kind as u32) << LENGTH_BITS | length))
    }

    fn length(self) -> usize {
        (self.0 & ((1 << LENGTH_BITS) - 1)) as usize
    }

    fn kind(self) -> Kind {
        match self.0 >> LENGTH_BITS {
            0 => Kind::Data,
            1 => Kind::Control,
            _ => Kind::Ping,
        }
    }

    fn is(self, kind: Kind) -> bool {
        self.kind() == kind
    }
}

/// Frames in order.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    head: usize,
    frame_start: usize,
    frames: Vec<Frame>,
    first: usize,
    cut_frames: usize,
    cut_end: usize,
    written_bytes: usize,
    written_messages: u64,
}

/// Memory that a buffer keeps when it is empty: enough for a burst to go round without allocating,
/// whatever peak there was before.
const KEEP: usize = 1024 * 1024;

impl Frames {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Appends a frame of exactly `length` bytes, written by `encode`.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        length: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let frame = Frame::new(kind, length)?;
        let before = self.bytes.len();
        encode(&mut self.bytes);
        debug_assert_eq!(self.bytes.len() - before, length, "the length was computed wrongly");
        self.frames.push(frame);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == self.frames.len()
    }

    /// Whether a part of the first frame was given to the kernel.
    pub(super) fn is_torn(&self) -> bool {
        self.head > self.frame_start
    }

    /// Whether a part of a batch is left: its PINGs count as sent, so nothing may overtake it.
    pub(super) fn has_cut(&self) -> bool {
        self.cut_end > self.head
    }

    /// Cuts the next batch: whole frames of at most `most` bytes together, or one. Returns its
    /// length and the number of flush PINGs in it that were not in a batch before. What is left of
    /// an earlier batch comes first, alone.
    pub(super) fn cut(&mut self, most: usize) -> (usize, usize) {
        if self.has_cut() {
            return (self.cut_end - self.head, 0);
        }
        let (mut length, mut pings) = (0, 0);
        self.cut_frames = self.cut_frames.max(self.first);
        for frame in self.frames.get(self.cut_frames..).unwrap_or_default() {
            if length > 0 && length + frame.length() > most {
                break;
            }
            length += frame.length();
            pings += usize::from(frame.is(Kind::Ping));
            self.cut_frames += 1;
        }
        self.cut_end = self.head + length;
        (length, pings)
    }

    /// The next `length` bytes that were not given to the kernel.
    pub(super) fn front(&self, length: usize) -> &[u8] {
        self.bytes.get(self.head..self.head + length).unwrap_or_default()
    }

    /// So many bytes more were given to the kernel.
    pub(super) fn advance(&mut self, count: usize) {
        self.head = (self.head + count).min(self.bytes.len());
        while let Some(frame) = self.frames.get(self.first) {
            let end = self.frame_start + frame.length();
            if end > self.head {
                break;
            }
            self.frame_start = end;
            self.first += 1;
            self.written_bytes += frame.length();
            self.written_messages += u64::from(frame.is(Kind::Data));
        }
    }

    /// Bytes and messages of the frames written whole since the last call.
    pub(super) fn take_written(&mut self) -> (usize, u64) {
        let written = (self.written_bytes, self.written_messages);
        (self.written_bytes, self.written_messages) = (0, 0);
        if self.is_empty() {
            self.reset();
        }
        written
    }

    /// Empties the buffer and gives back the memory of a peak.
    fn reset(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut frames = std::mem::take(&mut self.frames);
        if bytes.capacity() > KEEP {
            bytes = Vec::new();
        }
        if frames.capacity() > KEEP / 16 {
            frames = Vec::new();
        }
        bytes.clear();
        frames.clear();
        *self = Self { bytes, frames, ..Self::default() };
    }

    /// Moves the frames that `wanted` says yes to, by kind and bytes, into `kept`. Returns whether
    /// the first frame was a message that had been given to the kernel in part, which is never
    /// moved.
    pub(super) fn drain(
        &mut self,
        kept: &mut Self,
        mut wanted: impl FnMut(Kind, &[u8]) -> bool,
    ) -> bool {
        let torn = self.is_torn();
        let mut torn_message = false;
        let mut start = self.frame_start;
        for (index, frame) in self.frames.iter().enumerate().skip(self.first) {
            let bytes = self.bytes.get(start..start + frame.length()).unwrap_or_default();
            start += frame.length();
            if torn && index == self.first {
                torn_message = frame.is(Kind::Data);
            } else if wanted(frame.kind(), bytes) {
                kept.bytes.extend_from_slice(bytes);
                kept.frames.push(*frame);
            }
        }
        *self = Self::new();
        torn_message
    }

    /// Bytes and messages of what is not written whole.
    pub(super) fn totals(&self) -> (usize, u64) {
        let rest = self.frames.get(self.first..).unwrap_or_default();
        let bytes = rest.iter().map(|frame| frame.length()).sum();
        (bytes, rest.iter().filter(|frame| frame.is(Kind::Data)).count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(list: &[(Kind, &str)]) -> Frames {
        let mut frames = Frames::new();
        for (kind, text) in list {
            let push = |bytes: &mut Vec<u8>| bytes.extend_from_slice(text.as_bytes());
            frames.push(*kind, text.len(), push).expect("short");
        }
        frames
    }

    #[test]
    fn a_batch_is_whole_frames_and_pings_are_counted_once() {
        let mut frames =
            frames(&[(Kind::Data, "aaaa"), (Kind::Ping, "pp"), (Kind::Data, "bbbbbbbbbb")]);
        assert_eq!(frames.cut(7), (6, 1));
        frames.advance(5);
        assert!(frames.is_torn());
        assert_eq!(frames.cut(7), (1, 0), "the rest of the batch comes first");
        assert_eq!(frames.front(1), b"p");
        frames.advance(1);
        assert_eq!(frames.take_written(), (6, 1));
        assert_eq!(frames.cut(7), (10, 0), "one frame may be larger than a batch");
        frames.advance(10);
        assert_eq!(frames.take_written(), (10, 1));
        assert!(frames.is_empty() && frames.cut(7) == (0, 0));
    }

    #[test]
    fn messages_survive_but_neither_control_frames_nor_the_torn_one() {
        let mut frames = frames(&[
            (Kind::Data, "aaaa"),
            (Kind::Data, "bbbb"),
            (Kind::Control, "cc"),
            (Kind::Ping, "pp"),
            (Kind::Data, "dddd"),
        ]);
        frames.cut(100);
        frames.advance(6);
        let mut kept = Frames::new();
        assert!(frames.drain(&mut kept, |kind, _| kind == Kind::Data));
        assert_eq!(kept.totals(), (4, 1));
        assert_eq!(kept.front(4), b"dddd");
        assert!(!kept.is_torn());
    }

    #[test]
    fn a_frame_of_a_gibibyte_is_refused() {
        let error = Frame::new(Kind::Data, 1 << 30).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::MaxPayload);
        let frame = Frame::new(Kind::Ping, (1 << 30) - 1).expect("just fits");
        assert!(frame.is(Kind::Ping) && frame.length() == (1 << 30) - 1);
    }
}
