//! The writing thread: takes a batch, writes it whole or gives the connection up, takes the next.
//!
//! It never reconnects and never looks at the life of the connection: a failure is reported with
//! the epoch it belongs to, and the next batch comes when the reader has another stream. The kernel
//! lets a write wait a quarter of a second at most, so that this thread keeps the clock over the
//! batch: a peer that takes a byte now and then does not count as alive.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::notice::ErrorNotice;
use super::shared::Core;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::outbox::Batch;
use crate::sync::{Arc, assert_unlocked};
use crate::transport::is_wait;

/// The body of the flusher thread; ends when the outbox is closed.
pub(crate) fn run(core: &Arc<Core>) {
    while let Some(mut batch) = core.outbox.next_batch() {
        let epoch = batch.epoch;
        // A panic here would be a fault of ours; the turn must come back all the same.
        let write = AssertUnwindSafe(|| write(core, &mut batch));
        let outcome = catch_unwind(write).unwrap_or_else(|_| {
            core.counters.panics.add(1);
            Err(Error::new(ErrorKind::Internal, "the flusher thread panicked"))
        });
        core.outbox.give_back(batch, outcome.is_err());
        if let Err(error) = outcome {
            core.fail(epoch, error);
        }
    }
}

fn write(core: &Core, batch: &mut Batch) -> Result<(), Error> {
    assert_unlocked("writing a batch");
    let mut deadline = None;
    while !batch.is_done() {
        match batch.stream.write(batch.bytes()) {
            Ok(count) => batch.wrote(count),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(Error::io("writing to the server", error)),
        }
        if batch.is_done() {
            break;
        }
        // The clock starts when the first write did not take everything.
        let now = clock::now();
        if now >= *deadline.get_or_insert_with(|| now + core.config.write_timeout) {
            core.notice(ErrorNotice::SocketWriteTimeout);
            let text =
                format!("a write took longer than the {:?} it may take", core.config.write_timeout);
            return Err(Error::new(ErrorKind::WriteTimeout, text));
        }
    }
    Ok(())
}
