//! The calls for debugging: the read listener, and the trace of attempts to connect.
//!
//! Both are code of the program that runs on the reader thread, with no lock held. A panic is
//! caught and counted; the first one is told to `exception_occurred`.

use std::sync::atomic::Ordering;

use super::shared::Core;
use crate::error::{Error, ErrorKind};
use crate::protocol::ServerOp;
use crate::read_listener::ReadOperation;
use crate::server_url::ServerUrl;
use crate::sync::guarded;
use crate::trace::Trace;

impl Core {
    /// Whether a read listener is there. Asked once a read, not once a message.
    pub(super) fn is_watched(&self) -> bool {
        self.config.watch.read.is_some()
    }

    /// Tells the read listener, if there is one, what is about to be handled.
    pub(super) fn operation_read(&self, op: &ServerOp) {
        let Some(listener) = &self.config.watch.read else { return };
        if !guarded(|| listener.operation_read(&ReadOperation::new(op))) {
            self.watch_panicked(1);
        }
    }

    /// The trace of one attempt, which begins now.
    pub(super) fn trace(&self, url: &ServerUrl) -> Trace<'_> {
        Trace::new(self.config.watch.trace.as_deref(), url)
    }

    /// Counts panics of the calls for debugging, and tells the first.
    pub(super) fn watch_panicked(&self, panics: u64) {
        if panics == 0 {
            return;
        }
        self.counters.panics.add(panics);
        if !self.watch_told.swap(true, Ordering::Relaxed) {
            let text = "a read listener or a trace panicked; further panics of them are only \
                        counted";
            self.exception(Error::new(ErrorKind::UserPanic, text));
        }
    }
}
