//! Keeps a publisher from running away from its receivers.
//!
//! Without it a fast publisher fills the server's memory for a slow receiver until the server ends
//! the receiver's connection, and what is measured is the size of buffers.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nats_blocking::Connection;

use crate::Failure;

/// A receiver tells after so many messages that it has them.
const CHUNK: u64 = 1_000;
/// So many messages may be under way to each receiver, or so many bytes.
const AHEAD: u64 = 50_000;
const AHEAD_BYTES: u64 = 32 * 1024 * 1024;
/// A receiver that tells nothing for so long has lost its connection or its messages.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

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

/// One side for the publisher, and one for each of so many receivers.
pub(crate) fn credit(receivers: u64, size: usize) -> (Credit, Vec<Told>) {
    let (sender, receiver) = channel();
    let ahead = AHEAD.min(AHEAD_BYTES / (size as u64).max(1)).max(2);
    let chunk = CHUNK.min(ahead / 2).max(1);
    let told = (0..receivers).map(|_| Told { sender: sender.clone(), seen: 0, chunk }).collect();
    (Credit { receiver, receivers, published: 0, told: 0, chunk, ahead }, told)
}

impl Told {
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
    pub(crate) fn take(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.published += 1;
        // Receivers are counted together: the chunks that all of them have told, on average.
        while self.published > self.told * self.chunk / self.receivers + self.ahead {
            match self.receiver.recv_timeout(PATIENCE) {
                Ok(()) => self.told += 1,
                Err(RecvTimeoutError::Timeout) => {
                    let last = connection.last_error();
                    let cause = last.map_or_else(String::new, |error| format!(" ({error})"));
                    return Err(format!("nothing arrived for {PATIENCE:?}{cause}").into());
                }
                Err(RecvTimeoutError::Disconnected) => return Err("the receivers ended".into()),
            }
        }
        Ok(())
    }
}
