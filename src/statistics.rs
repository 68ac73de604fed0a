//! What a connection has counted since it was made.
//!
//! [`Counters`] is what the core counts into: each counter is written with relaxed order, because
//! nothing is decided by it. [`Statistics`] is the copy that a program gets.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! statistics {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// What a connection has counted since it was made; the counts go on across reconnects.
        ///
        /// A copy: it does not change while you look at it. The counts are read one after the
        /// other, so two of them may differ by what happened in between.
        ///
        /// Bytes are those on the wire, as Java's client counts them. `Display` gives one line with
        /// all counts, for a log.
        ///
        /// ```
        /// # #[cfg(feature = "testing")]
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let server = nats_blocking::testing::Server::start()?;
        /// let connection = nats_blocking::connect(server.url())?;
        /// let before = connection.statistics();
        /// connection.publish("greet.joe", "hello")?;
        /// connection.flush()?;
        /// let now = connection.statistics();
        /// assert_eq!(now.out_messages() - before.out_messages(), 1);
        /// assert_eq!(now.out_bytes(), "PUB greet.joe 5\r\nhello\r\n".len() as u64);
        /// assert!(now.to_string().starts_with("in_messages 0, in_bytes 0, out_messages 1,"));
        /// # Ok(())
        /// # }
        /// # #[cfg(not(feature = "testing"))]
        /// # fn main() {}
        /// ```
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Statistics {
            $($name: u64,)+
        }

        impl Statistics {
            $($(#[$doc])* pub fn $name(&self) -> u64 { self.$name })+
        }

        impl fmt::Display for Statistics {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let counts = [$((stringify!($name), self.$name),)+];
                for (index, (name, count)) in counts.into_iter().enumerate() {
                    let between = if index == 0 { "" } else { ", " };
                    write!(f, "{between}{name} {count}")?;
                }
                Ok(())
            }
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
    /// Messages (MSG and HMSG) read from servers: replies, dropped ones and those of subscriptions
    /// that are gone included.
    in_messages,
    /// Bytes of those messages: whole frames, control line, headers, payload and line ends.
    in_bytes,
    /// Messages (PUB and HPUB) accepted for sending, requests included. Unlike Java's count not the
    /// control lines. What of these did not reach a server is in [`torn`](Self::torn) and
    /// [`discarded`](Self::discarded), as far as the client can know it.
    out_messages,
    /// Bytes of those messages: whole frames, control line, headers, payload and line ends.
    out_bytes,
    /// Completed handshakes, the first included.
    connects,
    /// Completed handshakes after a loss.
    reconnects,
    /// Established connections that were lost, by `force_reconnect` too; not those that `close` or
    /// `drain` ended.
    disconnects,
    /// Received messages dropped because a consumer was at its limit; the sum of what each
    /// [`Consumer::dropped`](crate::Consumer::dropped) tells.
    dropped,
    /// Times that a consumer became slow: one for each episode, however many messages it lost.
    slow_consumers,
    /// Outgoing messages that were never given to a socket: refused by a full outbox with
    /// [`DropNewest`](crate::OutboxPolicy::DropNewest) (these are not in `out_messages`), left over
    /// at the end of the connection, or kept during an outage for a server that would refuse their
    /// size or headers.
    discarded,
    /// Outgoing messages of which a part had been given to a socket when the connection was lost.
    torn,
    /// Requests sent that wait for one reply. `request_many` counts as the message and the
    /// subscription that it is.
    requests,
    /// Replies that came to a request that waited, no-responders replies included.
    replies,
    /// Replies that nobody waited for any more.
    late_replies,
    /// PINGs given to a socket to be answered: keep-alive, `flush` and `rtt`; not the one of a
    /// login.
    pings,
    /// Flushes that the server has answered; `rtt` is one.
    flushes,
    /// `+OK` lines, which a server sends in verbose mode; not those of a login.
    oks,
    /// `-ERR` lines that were told to `error_occurred`: all but those that a `close` overtook.
    errors,
    /// Failures that the library handled, as told to `exception_occurred`: failed attempts to
    /// connect, losses that no `-ERR` explains, odd headers, the first panic of each listener, ….
    exceptions,
    /// Panics of code of the program on the connection's threads: listeners, handlers, loggers.
    panics,
    /// Notices that no listener was told because the callback thread was too far behind.
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
