//! A message of which a part has arrived.
//!
//! It has an allocation of its own, which grows by doubling with what has arrived, so that an
//! announced length reserves next to nothing. Invariants: `held` lies inside `frame`, and what is
//! behind it is space to read into.

/// The least space for a read.
pub(super) const LEAST_SPACE: usize = 16 * 1024;

/// What the control line of a message says.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    pub(super) sid: u64,
    pub(super) subject: usize,
    pub(super) reply: Option<usize>,
    pub(super) headers: Option<usize>,
    /// Headers and payload.
    pub(super) total: usize,
    pub(super) wire: usize,
}

impl Lengths {
    /// Subject and reply subject, which stand in front of the headers in a frame.
    pub(super) fn names(&self) -> usize {
        self.subject + self.reply.unwrap_or(0)
    }
}

/// A message whose end has not arrived.
pub(super) struct Body {
    pub(super) lengths: Lengths,
    /// Subject, reply subject and what arrived; behind `held` zeroed space to read into.
    pub(super) frame: Vec<u8>,
    pub(super) held: usize,
    /// The length of the whole frame with the line end behind the payload.
    pub(super) whole: usize,
}

impl Body {
    pub(super) fn new(lengths: Lengths, subject: &[u8], reply: &[u8]) -> Self {
        let held = lengths.names();
        let whole = held + lengths.total + 2;
        let mut frame = Vec::with_capacity(whole.min(held + 2 * LEAST_SPACE));
        frame.extend_from_slice(subject);
        frame.extend_from_slice(reply);
        Self { lengths, frame, held, whole }
    }

    pub(super) fn missing(&self) -> usize {
        self.whole.saturating_sub(self.held)
    }

    /// The length to which the frame may grow when it must: in proportion to what it holds.
    fn next_len(&self) -> usize {
        self.whole.min(self.held.saturating_mul(2).max(self.held.saturating_add(2 * LEAST_SPACE)))
    }

    /// Makes room for a read that goes directly into the frame.
    pub(super) fn make_space(&mut self) {
        if self.frame.len().saturating_sub(self.held) < LEAST_SPACE {
            let len = self.next_len();
            self.frame.reserve_exact(len.saturating_sub(self.frame.len()));
            self.frame.resize(len, 0);
        }
    }

    /// Takes what belongs to this message from the front of `unread`; gives back how much.
    pub(super) fn take(&mut self, unread: &[u8]) -> usize {
        let part = unread.get(..self.missing()).unwrap_or(unread);
        if part.is_empty() {
            return 0;
        }
        self.frame.truncate(self.held);
        let len = self.held + part.len();
        if self.frame.capacity() < len {
            let wanted = self.next_len().max(len);
            self.frame.reserve_exact(wanted - self.held);
        }
        self.frame.extend_from_slice(part);
        self.held = len;
        part.len()
    }
}
