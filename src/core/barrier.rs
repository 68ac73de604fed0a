//! Waiting until the program's code has worked off what there is.
//!
//! A barrier goes into the queue of every dispatcher and into that of the callback thread; each
//! reaches it when it has handled what stands before it. The end of the connection gives up those
//! that are waited for and refuses others, before it throws away what waits to be handled: so one
//! that is reached has nothing thrown away before it.

use std::time::Instant;

use super::shared::{Core, closed_error};
use crate::error::{Error, ErrorKind, Result};
use crate::outcome::Barrier;
use crate::sync::Arc;

impl Core {
    /// See [`Connection::barrier`](crate::Connection::barrier).
    pub(crate) fn barrier(&self, deadline: Instant) -> Result<()> {
        if self.on_own_thread() {
            let text = "a barrier in a listener or handler would wait for that very call";
            return Err(Error::new(ErrorKind::Misuse, text));
        }
        let mailboxes = self.dispatcher_mailboxes();
        let barrier = Arc::new(Barrier::new(mailboxes.len() + 1));
        let told = Arc::clone(&barrier);
        if !self.keep_barrier(&barrier) || self.hub.call(Box::new(move |_| told.arrive())).is_err()
        {
            return Err(closed_error(self.life().close_cause.as_ref()));
        }
        for mailbox in &mailboxes {
            mailbox.put_barrier(&barrier);
        }
        match barrier.wait(deadline) {
            Some(true) => Ok(()),
            Some(false) => Err(closed_error(self.life().close_cause.as_ref())),
            None => {
                let text = "handlers and listeners had not finished by the deadline";
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// Has the end of the connection give the barrier up; false once there is one.
    fn keep_barrier(&self, barrier: &Arc<Barrier>) -> bool {
        let mut barriers = self.barriers.lock();
        let Some(barriers) = barriers.as_mut() else { return false };
        barriers.retain(|known| known.strong_count() > 0);
        barriers.push(Arc::downgrade(barrier));
        true
    }

    /// Nothing is handled any more: whoever waits at a barrier goes on, and no other is put up.
    pub(super) fn give_up_barriers(&self) {
        let barriers = self.barriers.lock().take().unwrap_or_default();
        for barrier in barriers.iter().filter_map(std::sync::Weak::upgrade) {
            barrier.give_up();
        }
    }
}
