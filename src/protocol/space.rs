//! The place of one frame in a buffer, filled from its begin to its end.
//!
//! It has the frame's length, which was told before: nothing is checked for each of its parts but
//! that they fit, and nothing grows. No knowledge of what is written.

/// What is left of the place of a frame; nothing once a part did not fit.
pub(crate) struct Space<'a>(Option<&'a mut [u8]>);

impl<'a> Space<'a> {
    #[inline(always)]
    pub(crate) fn new(place: &'a mut [u8]) -> Self {
        Self(Some(place))
    }

    /// Writes the next bytes. Where they do not fit, which the told length forbids, nothing is
    /// written from there on.
    #[inline(always)]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let place = self.0.take().and_then(|place| place.split_at_mut_checked(bytes.len()));
        if let Some((place, rest)) = place {
            place.copy_from_slice(bytes);
            self.0 = Some(rest);
        }
    }

    /// Whether the frame is whole: its parts were as long as it was told, no less and no more.
    pub(crate) fn is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|rest| rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_none_goes_over_the_end() {
        let mut bytes = *b"........";
        let mut space = Space::new(&mut bytes[1..7]);
        space.put(b"abc");
        space.put(b"");
        assert!(!space.is_full());
        space.put(b"def");
        assert!(space.is_full());
        assert_eq!(&bytes, b".abcdef.");

        let mut space = Space::new(&mut bytes[1..7]);
        space.put(b"ABCDE");
        space.put(b"fg");
        space.put(b"h");
        assert!(!space.is_full(), "the told length was too short");
        assert_eq!(&bytes, b".ABCDEf.");
    }
}
