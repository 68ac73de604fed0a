//! Keeps a publisher from running away from its receivers.
//!
//! Without it a fast publisher fills the server's memory for a slow receiver until the server ends
//! the receiver's connection, and what is measured is the size of buffers.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use crate::Failure;
use crate::watch::{Bell, STEP};

/// A receiver tells after so many messages that it has them.
const CHUNK: u64 = 1_000;
/// So many messages may be under way to each receiver, or so many bytes.
const AHEAD: u64 = 50_000;
const AHEAD_BYTES: u64 = 32 * 1024 * 1024;

/// The receivers' side: one for each.
pub(crate) struct Told {
    sender: Sender<()>,
    seen: u64,
    chunk: u64,
}

/// The publisher's side.
pub(crate) struct Credit {
    receiver: Receiver<()>,
    receivers: u64,
    published: u64,
    told: u64,
    chunk: u64,
    ahead: u64,
}

/// One side for the publisher, and one that each of so many receivers gets a copy of.
pub(crate) fn credit(receivers: u64, size: usize) -> (Credit, Told) {
    let (sender, receiver) = channel();
    let ahead = AHEAD.min(AHEAD_BYTES / (size as u64).max(1)).max(2);
    let chunk = CHUNK.min(ahead / 2).max(1);
    let told = Told { sender, seen: 0, chunk };
    (Credit { receiver, receivers, published: 0, told: 0, chunk, ahead }, told)
}

impl Told {
    /// For one receiver more, which has seen nothing.
    pub(crate) fn another(&self) -> Self {
        Self { sender: self.sender.clone(), seen: 0, chunk: self.chunk }
    }

    /// A message has arrived.
    pub(crate) fn message(&mut self) {
        self.seen += 1;
        if self.seen % self.chunk == 0 {
            // A publisher that has ended needs no credit.
            let _ = self.sender.send(());
        }
    }
}

impl Credit {
    /// Waits until one message more may be published.
    pub(crate) fn take(&mut self, bell: &Bell) -> Result<(), Failure> {
        self.published += 1;
        // Receivers are counted together: the chunks that all of them have told, on average.
        while self.published > self.told * self.chunk / self.receivers + self.ahead {
            bell.check()?;
            match self.receiver.recv_timeout(STEP) {
                Ok(()) => self.told += 1,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the receivers ended".into()),
            }
        }
        Ok(())
    }
}
