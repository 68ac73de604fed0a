//! A buffer of whole frames that remembers where groups of them end and of what kind they are.
//!
//! ```text
//!  bytes:  [ written | torn frame | frame | frame | … | room for more ]
//!                    ▲        ▲                        ▲
//!               frame_start  head: what was given     end
//!                            to the kernel
//! ```
//!
//! Messages that follow each other are one group of at most 64 KiB, so that a message costs no
//! entry of its own; where one message ends is read from its bytes, and only where a group was
//! written in part. Every other frame is a group.
//!
//! Frames are written into places that are there already: a buffer that grows with each part of a
//! frame costs a check for each.
//!
//! Invariants: `frame_start ≤ head ≤ end ≤ bytes.len()`; the lengths of the groups from `first` on
//! add up to the bytes from `frame_start` to `end`; after `settle`, `head` is inside the first
//! unfinished frame; `cut_end` is the end of a group, or `head` where nothing is cut; what was cut
//! gets no frames any more.

use crate::protocol::publish_frame_len;

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

/// Frames that leave together.
#[derive(Debug, Clone, Copy)]
struct Group {
    kind: Kind,
    bytes: usize,
    messages: u64,
}

impl Group {
    fn new(kind: Kind, bytes: usize) -> Self {
        Self { kind, bytes, messages: u64::from(kind == Kind::Data) }
    }

    /// The first of the group's frames, which begin with `bytes`.
    fn first(self, bytes: &[u8]) -> usize {
        // Only messages share a group, and all of them were encoded here.
        let length = if self.messages > 1 { publish_frame_len(bytes) } else { None };
        length.unwrap_or(self.bytes).min(self.bytes)
    }
}

/// A group has at most so many bytes, or one message.
pub(super) const GROUP_MOST: usize = 64 * 1024;

/// Frames in order.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    end: usize,
    head: usize,
    frame_start: usize,
    groups: Vec<Group>,
    first: usize,
    cut_groups: usize,
    cut_end: usize,
    written_bytes: usize,
    written_messages: u64,
}

/// Memory that a buffer keeps when it is empty: enough for a burst to go round without allocating,
/// whatever peak there was before.
pub(super) const KEEP: usize = 1024 * 1024;

impl Frames {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, kind: Kind, frame: &[u8]) {
        self.place(frame.len()).copy_from_slice(frame);
        self.appended(kind, frame.len());
    }

    /// The place of the next frame, of exactly that length; `appended` follows.
    #[inline(always)]
    pub(super) fn place(&mut self, length: usize) -> &mut [u8] {
        let end = self.end.saturating_add(length);
        if end > self.bytes.len() {
            self.grow(end);
        }
        self.bytes.get_mut(self.end..end).unwrap_or_default()
    }

    /// Makes the buffer longer, by no more than it keeps when it is empty where that is enough.
    #[cold]
    fn grow(&mut self, least: usize) {
        let len = if least <= KEEP {
            least.max(2 * self.bytes.len()).min(KEEP)
        } else {
            least.saturating_add(least / 2)
        };
        // Asked for zeroed: the system gives the pages of a large one when they are written to.
        let mut longer = vec![0; len];
        let used = self.bytes.get(..self.end).unwrap_or_default();
        if let Some(front) = longer.get_mut(..used.len()) {
            front.copy_from_slice(used);
        }
        self.bytes = longer;
    }

    /// Takes in the frame that was written into its place.
    #[inline(always)]
    pub(super) fn appended(&mut self, kind: Kind, length: usize) {
        self.end += length;
        match self.groups.last_mut() {
            Some(last)
                if kind == Kind::Data
                    && last.kind == kind
                    && last.bytes.saturating_add(length) <= GROUP_MOST =>
            {
                last.bytes += length;
                last.messages += 1;
            }
            _ => self.groups.push(Group::new(kind, length)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == self.groups.len()
    }

    /// Whether a part of the first frame was given to the kernel.
    pub(super) fn is_torn(&self) -> bool {
        self.head > self.frame_start
    }

    /// Whether a part of a batch is left: its PINGs count as sent, so nothing may overtake it.
    pub(super) fn has_cut(&self) -> bool {
        self.cut_end > self.head
    }

    /// Cuts the next batch: whole groups of at most `most` bytes together, or one. Returns its
    /// length and the number of flush PINGs in it that were not in a batch before. What is left of
    /// an earlier batch comes first, alone.
    pub(super) fn cut(&mut self, most: usize) -> (usize, usize) {
        if self.has_cut() {
            return (self.cut_end - self.head, 0);
        }
        let (mut length, mut pings) = (0, 0);
        self.cut_groups = self.cut_groups.max(self.first);
        for group in self.groups.get(self.cut_groups..).unwrap_or_default() {
            if length > 0 && length + group.bytes > most {
                break;
            }
            length += group.bytes;
            pings += usize::from(group.kind == Kind::Ping);
            self.cut_groups += 1;
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
        self.head = (self.head + count).min(self.end);
        while let Some(group) = self.groups.get(self.first) {
            let end = self.frame_start + group.bytes;
            if end > self.head {
                break;
            }
            self.frame_start = end;
            self.first += 1;
            self.written_bytes += group.bytes;
            self.written_messages += group.messages;
        }
    }

    /// Finds the messages that were written whole in a group that was not. It reads the group, so
    /// it is called with no lock held where many bytes may be in it.
    pub(super) fn settle(&mut self) {
        let Some(group) = self.groups.get_mut(self.first) else { return };
        while self.head > self.frame_start {
            let length =
                group.first(self.bytes.get(self.frame_start..self.end).unwrap_or_default());
            if length == 0 || length >= group.bytes || self.frame_start + length > self.head {
                return;
            }
            self.frame_start += length;
            group.bytes -= length;
            group.messages = group.messages.saturating_sub(1);
            self.written_bytes += length;
            self.written_messages += 1;
        }
    }

    /// Bytes and messages of the frames written whole since the last call. `settle` comes before.
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
        let mut groups = std::mem::take(&mut self.groups);
        if bytes.capacity() > KEEP {
            bytes = Vec::new();
        }
        if groups.capacity() > KEEP / 1024 {
            groups = Vec::new();
        }
        groups.clear();
        *self = Self { bytes, groups, ..Self::default() };
    }

    /// Moves the frames that `wanted` says yes to, by kind and bytes, into `kept`. Returns whether
    /// the first frame was a message that had been given to the kernel in part, which is never
    /// moved.
    pub(super) fn drain(
        &mut self,
        kept: &mut Self,
        mut wanted: impl FnMut(Kind, &[u8]) -> bool,
    ) -> bool {
        self.settle();
        let mut torn = self.is_torn();
        let mut torn_message = false;
        let mut rest = self.bytes.get(self.frame_start..self.end).unwrap_or_default();
        for group in self.groups.get(self.first..).unwrap_or_default() {
            let mut group = *group;
            while group.bytes > 0 {
                let length = group.first(rest).max(1);
                let (frame, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                rest = behind;
                group.bytes -= length.min(group.bytes);
                group.messages = group.messages.saturating_sub(1);
                if std::mem::take(&mut torn) {
                    torn_message = group.kind == Kind::Data;
                } else if wanted(group.kind, frame) {
                    kept.push(group.kind, frame);
                }
            }
        }
        *self = Self::new();
        torn_message
    }

    /// Bytes and messages of what is not written whole.
    pub(super) fn totals(&self) -> (usize, u64) {
        let rest = self.groups.get(self.first..).unwrap_or_default().iter();
        rest.fold((0, 0), |(bytes, messages), group| {
            (bytes + group.bytes, messages + group.messages)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(list: &[(Kind, &str)]) -> Frames {
        let mut frames = Frames::new();
        for (kind, text) in list {
            frames.push(*kind, text.as_bytes());
        }
        frames
    }

    const A: &str = "PUB a 1\r\na\r\n";
    const B: &str = "HPUB b 12 15\r\nNATS/1.0\r\n\r\n\r\nb\r\n";
    const C: &str = "PUB c r 0\r\n\r\n";

    #[test]
    fn a_batch_is_whole_groups_and_pings_are_counted_once() {
        let mut frames = frames(&[(Kind::Data, A), (Kind::Ping, "pp"), (Kind::Data, B)]);
        let (first, second) = (A.len() + 2, B.len());
        assert_eq!(frames.cut(first + 1), (first, 1));
        frames.advance(first - 1);
        assert!(frames.is_torn());
        assert_eq!(frames.cut(first + 1), (1, 0), "the rest of the batch comes first");
        assert_eq!(frames.front(1), b"p");
        frames.advance(1);
        assert_eq!(frames.take_written(), (first, 1));
        assert_eq!(frames.cut(7), (second, 0), "one frame may be larger than a batch");
        frames.advance(second);
        assert_eq!(frames.take_written(), (second, 1));
        assert!(frames.is_empty() && frames.cut(7) == (0, 0));
    }

    #[test]
    fn messages_share_a_group_up_to_a_size_and_a_larger_one_is_alone() {
        let large = format!("PUB a {GROUP_MOST}\r\n{}\r\n", "x".repeat(GROUP_MOST));
        let mut frames = frames(&[(Kind::Data, A), (Kind::Data, &large), (Kind::Data, A)]);
        let all = A.len() * 2 + large.len();
        for length in [A.len(), large.len(), A.len()] {
            assert_eq!(frames.cut(GROUP_MOST), (length, 0));
            frames.advance(length);
        }
        assert_eq!(frames.take_written(), (all, 3));
        for _ in 0..GROUP_MOST {
            frames.push(Kind::Data, A.as_bytes());
        }
        assert_eq!(frames.cut(GROUP_MOST), (GROUP_MOST / A.len() * A.len(), 0));
    }

    #[test]
    fn the_space_of_a_burst_is_kept_whatever_the_messages_are_and_that_of_a_peak_is_not() {
        let high_water = KEEP / 2;
        for length in (20..2000).step_by(7).chain((2000..KEEP - high_water).step_by(9973)) {
            let frame = vec![b'x'; length];
            let mut frames = Frames::new();
            while frames.end < high_water {
                frames.push(Kind::Data, &frame);
            }
            let (bytes, _) = frames.totals();
            frames.advance(bytes);
            frames.take_written();
            assert!(frames.is_empty() && frames.bytes.len() >= high_water, "{length}");
            frames.push(Kind::Data, &vec![b'x'; KEEP + 1]);
            frames.advance(KEEP + 1);
            frames.take_written();
            assert!(frames.is_empty() && frames.bytes.is_empty(), "{length}");
        }
    }

    #[test]
    fn wherever_a_write_ends_the_messages_before_it_count_as_written_and_those_behind_are_kept() {
        let list = [A, B, C, B, A];
        let all = list.concat();
        for at in 0..=all.len() {
            let mut frames = frames(&list.map(|text| (Kind::Data, text)));
            frames.cut(GROUP_MOST);
            // In two steps, as a socket takes it.
            for count in [at / 2, at - at / 2] {
                frames.advance(count);
                frames.settle();
            }
            let (mut end, mut whole) = (0, 0);
            while whole < list.len() && end + list[whole].len() <= at {
                end += list[whole].len();
                whole += 1;
            }
            assert_eq!(frames.totals(), (all.len() - end, (list.len() - whole) as u64), "{at}");
            assert_eq!(frames.is_torn(), end < at, "{at}");
            assert_eq!(frames.take_written(), (end, whole as u64), "{at}");
            let mut kept = Frames::new();
            assert_eq!(frames.drain(&mut kept, |_, _| true), end < at, "{at}");
            let rest = list[whole..].iter().skip(usize::from(end < at)).copied();
            assert_eq!(kept.bytes[..kept.end], *rest.collect::<String>().as_bytes(), "{at}");
        }
    }

    #[test]
    fn messages_survive_but_neither_control_frames_nor_the_torn_one() {
        let mut frames = frames(&[
            (Kind::Data, A),
            (Kind::Data, B),
            (Kind::Control, "cc"),
            (Kind::Ping, "pp"),
            (Kind::Data, C),
        ]);
        frames.cut(1000);
        frames.advance(A.len() + 2);
        let mut kept = Frames::new();
        assert!(frames.drain(&mut kept, |kind, _| kind == Kind::Data));
        assert_eq!(kept.totals(), (C.len(), 1));
        assert_eq!(kept.front(C.len()), C.as_bytes());
        assert!(!kept.is_torn());
    }
}
