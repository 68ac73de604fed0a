//! Bytes that a stream over another has made and not sent yet.
//!
//! They leave in the order in which they were made, by one writer at a time, who has them while the
//! socket is written and so holds no lock then. Not here: the lock, and the socket.

/// Memory that an empty buffer keeps: what one write makes, and a little.
const KEEP: usize = 96 * 1024;

/// Bytes that a writer has taken out to send.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.bytes.len());
    }
}

/// What comes first to be sent.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    sending: Unsent,
    /// A writer has `sending`; nothing may be sent past it.
    is_out: bool,
}

impl HeldBack {
    /// Whether everything was sent, and no writer is under way.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_out && self.sending.rest().is_empty()
    }

    /// Takes out what comes next to be sent, if no one else has it: the rest of what was taken
    /// before, or all that was made since. It must be given back.
    pub(super) fn take(&mut self, made: &mut Vec<u8>) -> Option<Unsent> {
        if self.is_out {
            return None;
        }
        if self.sending.rest().is_empty() {
            self.sending.sent = 0;
            self.sending.bytes.clear();
            std::mem::swap(&mut self.sending.bytes, made);
        }
        if self.sending.rest().is_empty() {
            return None;
        }
        self.is_out = true;
        Some(std::mem::take(&mut self.sending))
    }

    pub(super) fn give_back(&mut self, mut unsent: Unsent) {
        if unsent.rest().is_empty() && unsent.bytes.capacity() > KEEP {
            unsent = Unsent::default();
        }
        self.sending = unsent;
        self.is_out = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_leaves_in_order() {
        let mut held = HeldBack::default();
        let mut made = b"abc".to_vec();
        assert!(held.is_empty());
        let mut unsent = held.take(&mut made).expect("bytes");
        assert!(!held.is_empty() && made.is_empty());
        made.extend_from_slice(b"de");
        assert!(held.take(&mut made).is_none(), "one writer at a time");
        unsent.sent(2);
        held.give_back(unsent);
        let mut unsent = held.take(&mut made).expect("the rest");
        assert_eq!(unsent.rest(), b"c");
        unsent.sent(9);
        held.give_back(unsent);
        assert!(held.is_empty());
        assert_eq!(held.take(&mut made).expect("what came later").rest(), b"de");
    }
}
