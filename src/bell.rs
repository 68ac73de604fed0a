//! What a queue rings when it has something, for those who wait on more than one queue.
//!
//! A queue rings after it was given something and has let go of its lock, and again after something
//! was taken while more is there: so a bell says "look again", as often as there is a reason to,
//! and now and then once too often. Rung by any thread; ringing never waits and never runs code of
//! the program.
//!
//! [`Signal`] is the bell behind `ready()`: a channel for one token, of the feature
//! `crossbeam-channel`. Messages never enter it, so that limits, counts and order stay with the
//! queue.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Something to ring.
pub(crate) trait Bell: fmt::Debug + Send + Sync + UnwindSafe + RefUnwindSafe {
    /// There is something to look at.
    fn ring(&self);
}

/// A token in a channel, as long as there is something to look at.
#[cfg(feature = "crossbeam-channel")]
#[derive(Debug)]
pub(crate) struct Signal {
    sender: crossbeam_channel::Sender<()>,
    receiver: crossbeam_channel::Receiver<()>,
}

#[cfg(feature = "crossbeam-channel")]
impl Signal {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        Self { sender, receiver }
    }

    pub(crate) fn receiver(&self) -> &crossbeam_channel::Receiver<()> {
        &self.receiver
    }
}

#[cfg(feature = "crossbeam-channel")]
impl Bell for Signal {
    fn ring(&self) {
        // A token that is there already says the same.
        let _ = self.sender.try_send(());
    }
}
