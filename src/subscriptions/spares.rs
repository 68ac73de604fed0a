//! The space of queues that were emptied, for those that are filled next.
//!
//! The reader collects what a read brings in a list, which it then changes for the consumer's empty
//! queue. A consumer that has emptied a large one lays it here rather than keep it or give it
//! back to the allocator, and the reader begins with it: steady traffic allocates nothing, and what
//! idles holds next to nothing. Any thread calls, with a mailbox locked too: this lock is a leaf.
//!
//! Invariant: the lists here are empty, and have space for at most [`MOST`] messages together.

use std::collections::VecDeque;

use crate::sync::{Mutex, Rank};

/// The space, in messages, that an empty queue keeps for itself.
pub(super) const KEEP: usize = 64;

/// The space that lies here at most: twice what a read of 64 KiB needs for the smallest messages,
/// of which it brings about 5,000.
const MOST: usize = 16 * 1024;

/// Emptied lists and queues of one connection, as lists.
#[derive(Debug)]
pub(crate) struct Spares<T>(Mutex<Vec<Vec<T>>>);

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self(Mutex::new(Rank::Leaf, Vec::new()))
    }
}

impl<T> Spares<T> {
    /// An empty list, with space if some was left here.
    pub(super) fn take(&self) -> Vec<T> {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Takes the space of an empty queue, if it has more than it may keep.
    #[inline]
    pub(super) fn take_in(&self, emptied: &mut VecDeque<T>) {
        if emptied.is_empty() && emptied.capacity() > KEEP {
            self.lay_in(std::mem::take(emptied).into());
        }
    }

    /// The same of an empty list.
    pub(super) fn take_in_list(&self, emptied: &mut Vec<T>) {
        if emptied.is_empty() && emptied.capacity() > KEEP {
            self.lay_in(std::mem::take(emptied));
        }
    }

    fn lay_in(&self, emptied: Vec<T>) {
        let mut lists = self.0.lock();
        let space: usize = lists.iter().map(Vec::capacity).sum();
        if space + emptied.capacity() <= MOST {
            lists.push(emptied);
        }
    }

    /// How much space lies here, in messages.
    #[cfg(test)]
    pub(super) fn space(&self) -> usize {
        self.0.lock().iter().map(Vec::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_queue_that_is_empty_is_taken_in_and_no_more_than_is_needed() {
        let spares = Spares::default();
        let mut small: VecDeque<u8> = VecDeque::with_capacity(KEEP);
        spares.take_in(&mut small);
        assert_eq!((small.capacity(), spares.space()), (KEEP, 0));
        let mut full = VecDeque::with_capacity(KEEP + 1);
        full.push_back(1);
        spares.take_in(&mut full);
        assert_eq!((full.len(), spares.space()), (1, 0));
        let mut peak: VecDeque<u8> = VecDeque::with_capacity(MOST + 1);
        spares.take_in(&mut peak);
        assert_eq!((peak.capacity(), spares.space()), (0, 0));
        for _ in 0..9 {
            spares.take_in(&mut VecDeque::with_capacity(MOST / 4));
        }
        assert_eq!(spares.space(), MOST);
        assert_eq!(spares.take().capacity(), MOST / 4);
        assert_eq!(spares.space(), MOST / 4 * 3);
    }
}
