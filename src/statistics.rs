//! What a connection has counted since it was made.
//!
//! [`Counters`] is what the core counts into: each counter is written with relaxed order, because
//! nothing is decided by it. [`Statistics`] is the copy that a program gets.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! statistics {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What a connection has counted since it was made; the counts go on across reconnects.
        ///
        /// A copy: it does not change while you look at it. The counts are read one after the
        /// other, so two of them may differ by what happened in between.
        ///
        /// Bytes are counted as Java's client does: whole frames as they stand on the wire, control
        /// line and line ends included.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Statistics {
            $($name: u64,)+
        }

        impl Statistics {
            $($(#[$doc])* pub fn $name(&self) -> u64 { self.$name })+
        }

        /// The counters behind [`Statistics`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Statistics {
                Statistics { $($name: self.$name.load(),)+ }
            }
        }
    };
}

statistics! {
    /// Messages received, dropped ones included.
    in_messages,
    /// Bytes of received messages.
    in_bytes,
    /// Messages accepted for sending.
    out_messages,
    /// Bytes of messages accepted for sending.
    out_bytes,
    /// Completed handshakes, the first included.
    connects,
    /// Completed handshakes after the first.
    reconnects,
    /// Established connections that were lost.
    disconnects,
    /// Received messages dropped because a consumer was at its limit.
    dropped,
    /// Times that a consumer became slow.
    slow_consumers,
    /// Outgoing messages that were accepted or dropped and not sent: dropped in discard mode, given
    /// up at close, or kept for a server that would refuse their size or headers.
    discarded,
    /// Outgoing messages of which a part had been written when the connection was lost.
    torn,
    /// Requests sent.
    requests,
    /// Replies that answered a request, no-responders replies included.
    replies,
    /// Replies that nobody waited for any more.
    late_replies,
    /// Keep-alive pings and flush pings sent.
    pings,
    /// Flushes that succeeded.
    flushes,
    /// `+OK` lines received (verbose mode).
    oks,
    /// `-ERR` lines received.
    errors,
    /// Failures that the library handled, as given to `exception_occurred`.
    exceptions,
    /// Panics of listeners and handlers.
    panics,
    /// Notices that were not delivered because a listener was too far behind.
    skipped,
}

impl Statistics {
    /// Adds what the outbox counts under its own lock.
    pub(crate) fn with_outbox(
        mut self,
        messages: u64,
        bytes: u64,
        torn: u64,
        discarded: u64,
        pings: u64,
    ) -> Self {
        self.out_messages += messages;
        self.out_bytes += bytes;
        self.torn += torn;
        self.discarded += discarded;
        self.pings += pings;
        self
    }
}

/// A count that is only ever read to be shown.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds where only one thread, or one holder of a lock, ever adds: no locked instruction.
    pub(crate) fn add_owned(&self, amount: u64) {
        self.0.store(self.load().wrapping_add(amount), Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
