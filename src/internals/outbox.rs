//! The outbox with its flusher and the line of PONGs, without a connection.
//!
//! Called from the threads from which the connection calls it: publishers and flushes from any,
//! `flusher` from one, `begin`, `end`, `pong` from the reader's.

use std::time::Duration;

use super::pipe::{Pipe, PipeStream};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::{
    self, Accepted, Batch, OutboxConfig, OutboxPolicy, Outgoing, Pong, ReconnectBuffer,
    ServerLimits, Urgency,
};
use crate::outcome::Outcome;
use crate::sync::Arc;

/// An outbox on its own.
pub struct Outbox(outbox::Outbox);

/// Somebody waits for a PONG.
pub struct FlushWait(Pong);

impl FlushWait {
    /// `None`: the time is over.
    pub fn wait(&self, timeout: Duration) -> Option<Result<()>> {
        self.0.wait(clock::after(timeout))
    }

    /// Waits as long as it takes, which only a model may do.
    pub fn get(&self) -> Option<Result<()>> {
        self.0.get()
    }
}

impl Outbox {
    /// At most so many bytes wait.
    pub fn new(limit: usize, policy: OutboxPolicy) -> Self {
        Self::with_high_water(limit, limit, policy)
    }

    /// From `high_water` bytes on publishers let the writer catch up.
    pub fn with_high_water(limit: usize, high_water: usize, policy: OutboxPolicy) -> Self {
        let reconnect_buffer = ReconnectBuffer::Bytes(limit);
        let control_line = 4096;
        let config = OutboxConfig { limit, high_water, policy, reconnect_buffer, control_line };
        Self(outbox::Outbox::new(config))
    }

    /// A connection with that number is up.
    pub fn begin(&self, epoch: u64, pipe: &Arc<dyn Pipe>) {
        let limits = ServerLimits { max_payload: 0, headers: true };
        self.0.open();
        self.0.begin(epoch, Arc::new(PipeStream(Arc::clone(pipe))), limits);
    }

    /// Publishes to the subject `a`.
    pub fn publish(&self, payload: &str) -> Result<()> {
        let payload = payload.as_bytes();
        let outgoing = Outgoing { subject: "a", reply: None, headers: None, payload };
        if self.0.publish(outgoing, Urgency::Idle, || true)? == Accepted::Idle {
            self.write(self.0.kick(Urgency::Idle), Urgency::Idle);
        }
        Ok(())
    }

    /// The first half of a flush.
    pub fn ping(&self) -> Result<FlushWait> {
        let pong = Pong::new(Outcome::new());
        let batch = self.0.ping(Arc::clone(&pong))?;
        self.write(batch, Urgency::Now);
        Ok(FlushWait(pong))
    }

    /// A PONG arrived.
    pub fn pong(&self) {
        if let Some(pong) = self.0.pong() {
            pong.complete(Ok(()));
        }
    }

    /// The server sent a PING.
    pub fn answer_ping(&self) {
        self.0.answer_ping();
    }

    /// The keep-alive sends a PING.
    pub fn keep_alive(&self) {
        self.0.keep_alive();
    }

    fn write(&self, batch: Option<Batch>, urgency: Urgency) {
        let Some(batch) = batch else { return };
        if let Err(broken) = self.0.write_inline(batch, urgency) {
            self.0.mark_broken(broken.epoch);
        }
    }

    /// What the flusher's thread does.
    pub fn flusher(&self) {
        while let Some(mut batch) = self.0.next_batch() {
            let mut broken = false;
            while !batch.is_done() && !broken {
                match batch.stream.write(batch.bytes()) {
                    Ok(count) if count > 0 => batch.wrote(count),
                    _ => broken = true,
                }
            }
            self.0.give_back(batch, broken);
        }
    }

    /// One step of a flusher that never waits: writes what is there until the pipe takes no more.
    /// Returns whether anything was there.
    pub fn write_some(&self) -> bool {
        let Some(mut batch) = self.0.try_next_batch() else { return false };
        let mut broken = false;
        while !batch.is_done() && !broken {
            match batch.stream.try_write(batch.bytes()) {
                Ok(0) => break,
                Ok(count) => batch.wrote(count),
                Err(_) => broken = true,
            }
        }
        self.0.give_back(batch, broken);
        true
    }

    /// The connection is lost and its pipe shut down. Flushes under way fail.
    pub fn end(&self, patience: Duration) {
        self.0.suspend();
        for pong in self.0.end(patience).pongs {
            pong.complete(Err(Error::new(ErrorKind::Disconnected, "lost")));
        }
    }

    /// Nothing is added any more.
    pub fn close(&self) {
        self.0.close();
    }

    /// After `close`: waits until everything is written.
    pub fn wait_written(&self, timeout: Duration) {
        self.0.wait_written(clock::after(timeout));
    }

    /// The end of everything.
    pub fn finish(&self) {
        for pong in self.0.end(Duration::ZERO).pongs {
            pong.complete(Err(Error::new(ErrorKind::Closed, "closed")));
        }
        self.0.finish();
    }

    /// Messages and bytes that wait.
    pub fn pending(&self) -> (u64, usize) {
        self.0.pending()
    }

    /// Messages given up, and messages torn by a loss.
    pub fn lost(&self) -> (u64, u64) {
        let counts = self.0.counts();
        (counts.discarded, counts.torn)
    }
}
