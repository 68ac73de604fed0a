//! The bytes of a message: alone in an allocation, or a part of a block that many share.
//!
//! A part costs one step of the block's counter and a few words, all of which the compiler sees:
//! what [`Bytes`] does behind calls of functions that it finds at run time is most of the cost of a
//! small message. Messages of a dense stream are parts; every other one is a [`Bytes`], which may
//! share a block of its own kind. Invariant: a part lies inside its block.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// The bytes of a message.
#[derive(Clone)]
pub(crate) enum Frame {
    Whole(Bytes),
    Part(Part),
}

/// A piece of a block.
#[derive(Clone)]
pub(crate) struct Part {
    /// None of nothing.
    block: Option<Arc<[u8]>>,
    from: u32,
    len: u32,
}

impl Part {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        let Some(block) = &self.block else { return &[] };
        let from = self.from as usize;
        block.get(from..from + self.len as usize).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Frame {
    /// No bytes.
    pub(crate) const NOTHING: Self = Self::Part(Part { block: None, from: 0, len: 0 });

    /// A part of a block, which is shorter than 4 GiB; nothing if it does not lie inside.
    #[inline(always)]
    pub(crate) fn part(block: &Arc<[u8]>, from: usize, len: usize) -> Self {
        let inside = from.checked_add(len).is_some_and(|end| end <= block.len());
        debug_assert!(inside && u32::try_from(block.len()).is_ok(), "a part of the block");
        Self::Part(Part { block: Some(Arc::clone(block)), from: from as u32, len: len as u32 })
    }

    /// Cuts the end off.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Whole(bytes) => bytes.truncate(len),
            Self::Part(part) => part.len = u32::try_from(len).map_or(part.len, |l| l.min(part.len)),
        }
    }

    /// The end from a place on, or nothing, as a counted reference of its own, which costs a part
    /// an allocation.
    pub(crate) fn end(&self, from: usize) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.slice(from.min(bytes.len())..),
            Self::Part(part) => {
                let skipped = u32::try_from(from).map_or(part.len, |from| from.min(part.len));
                let (from, len) = (part.from + skipped, part.len - skipped);
                if len == 0 {
                    return Bytes::new();
                }
                Bytes::from_owner(Part { block: part.block.clone(), from, len })
            }
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Part(part) => part.bytes(),
        }
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl fmt::Debug for Frame {
    /// Its bytes may be a secret, and long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_its_bytes_alone_would_be() {
        let block: Arc<[u8]> = Arc::from(&b"0123456789"[..]);
        for from in 0..=10 {
            for len in 0..=10 - from {
                let part = Frame::part(&block, from, len);
                let whole = Frame::from(block[from..from + len].to_vec());
                assert_eq!(&*part, &*whole);
                for at in 0..=12 {
                    assert_eq!(part.end(at), whole.end(at), "{from}, {len}, {at}");
                    let (mut part, mut whole) = (part.clone(), whole.clone());
                    part.truncate(at);
                    whole.truncate(at);
                    assert_eq!(&*part, &*whole, "{from}, {len}, {at}");
                }
            }
        }
        assert_eq!(Arc::strong_count(&block), 1);
    }

    #[test]
    fn the_end_of_a_part_is_no_copy_and_keeps_the_block() {
        let block: Arc<[u8]> = Arc::from(&b"0123456789"[..]);
        let end = Frame::part(&block, 2, 6).end(3);
        assert_eq!((&end[..], end.as_ptr()), (&b"567"[..], block[5..].as_ptr()));
        assert_eq!(Arc::strong_count(&block), 2);
        drop(end);
        assert_eq!(Arc::strong_count(&block), 1);
    }

    // Where addresses are shorter, a tag is needed beside them.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_part_takes_no_more_room_than_bytes() {
        assert_eq!(size_of::<Frame>(), size_of::<Bytes>());
        assert!(Frame::NOTHING.is_empty() && Frame::NOTHING.end(1).is_empty());
    }
}
