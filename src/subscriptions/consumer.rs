//! What all consumers have in common: limits, status, counts, and why one ends.
//!
//! Plain values and the trait that a program sees; the counting is in `subscriber.rs`.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::error::{Error, ErrorKind};
use crate::sync::Arc;

/// How much may wait for a consumer before its newest messages are dropped.
///
/// A consumer is full when either limit is reached. The default, 524,288 messages or 64 MiB, is
/// that of the Java client.
///
/// ```
/// use nats_blocking::{Options, PendingLimits};
///
/// // For every subscription of a connection; `set_pending_limits` is for one.
/// let limits = PendingLimits::new(10_000, 8 * 1024 * 1024);
/// let options = Options::builder().pending_limits(limits);
/// assert_eq!((limits.messages(), limits.bytes()), (10_000, 8_388_608));
/// # drop(options);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PendingLimits {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl PendingLimits {
    /// No limit: what waits may use all memory.
    pub const UNLIMITED: Self = Self { messages: u64::MAX, bytes: u64::MAX };

    /// At most so many messages and so many bytes of payload and headers. Zero means no limit.
    pub const fn new(messages: u64, bytes: u64) -> Self {
        Self {
            messages: if messages == 0 { u64::MAX } else { messages },
            bytes: if bytes == 0 { u64::MAX } else { bytes },
        }
    }

    /// The limit in messages; `u64::MAX` is no limit.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// The limit in bytes of payload and headers; `u64::MAX` is no limit.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self::new(512 * 1024, 64 * 1024 * 1024)
    }
}

/// Where a consumer is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsumerStatus {
    /// It takes messages.
    Active,
    /// It takes no new messages; what had arrived is still handed out.
    Draining,
    /// It has ended. Messages that had arrived may still be readable.
    Ended,
}

/// What a [`Subscription`](crate::Subscription) and a [`Dispatcher`](crate::Dispatcher) have in
/// common: something that messages wait for.
///
/// Sealed: only types of this crate implement it, so that it can grow. No method blocks. A listener
/// gets one of these with a slow-consumer notice; it stays valid after
/// the subscription is gone.
pub trait Consumer: sealed::Sealed + fmt::Debug + Send + Sync {
    /// The sid of a subscription; the number of a dispatcher.
    fn id(&self) -> u64;

    /// The subject of a subscription; the subjects of a dispatcher, separated by commas.
    fn subject(&self) -> String;

    /// The queue group of a subscription that is a member of one; a dispatcher has none.
    fn queue(&self) -> Option<String>;

    /// Messages that have arrived and were not handed out yet.
    fn pending_messages(&self) -> u64;

    /// Bytes of payload and headers of those.
    fn pending_bytes(&self) -> u64;

    /// The limits beyond which the newest messages are dropped.
    fn pending_limits(&self) -> PendingLimits;

    /// Messages handed out to the program so far.
    fn delivered(&self) -> u64;

    /// Messages dropped so far because the consumer was at its limit.
    fn dropped(&self) -> u64;

    /// Where the consumer is in its life.
    fn status(&self) -> ConsumerStatus;

    /// Whether the server in use has refused the subscription, or one of the dispatcher's. It stays
    /// and is announced again to the next server.
    fn is_refused(&self) -> bool;
}

pub(crate) mod sealed {
    /// What implements [`Consumer`](super::Consumer).
    pub trait Sealed {}
}

/// Why a subscription takes no more messages.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndReason {
    /// The program unsubscribed, or dropped it.
    Unsubscribed,
    /// The number of messages asked for has arrived.
    Completed,
    /// It, or its dispatcher or connection, was drained; where the end of the connection threw
    /// messages away that were for a handler, [`Closed`](Self::Closed) counts.
    Drained,
    /// The connection has ended, with the cause unless the program closed it.
    Closed(Option<Error>),
}

impl EndReason {
    pub(crate) fn error(&self) -> Error {
        let closed = |text: &str| Error::new(ErrorKind::Closed, text);
        match self {
            Self::Unsubscribed => closed("the subscription was unsubscribed"),
            Self::Completed => closed("the subscription got all the messages it asked for"),
            Self::Drained => closed("the subscription was drained"),
            Self::Closed(None) => closed("the connection is closed"),
            Self::Closed(Some(cause)) => Error::caused_by(
                ErrorKind::Closed,
                format!("the connection is closed: {cause}"),
                cause.clone(),
            ),
        }
    }
}

/// The end of a subscription, as told to the closure of
/// [`Subscription::on_closed`](crate::Subscription::on_closed).
#[derive(Debug, Clone)]
pub struct SubscriptionEnd {
    consumer: ConsumerView,
    reason: EndReason,
}

impl SubscriptionEnd {
    pub(crate) fn new(consumer: ConsumerView, reason: EndReason) -> Self {
        Self { consumer, reason }
    }

    /// The subscription: its sid and subject, what it delivered and dropped.
    pub fn consumer(&self) -> &ConsumerView {
        &self.consumer
    }

    /// The number of the subscription.
    pub fn sid(&self) -> u64 {
        self.consumer.id()
    }

    /// The subject of the subscription.
    pub fn subject(&self) -> String {
        self.consumer.subject()
    }

    /// Why it ended. The first reason counts: one that was complete and then dropped is complete.
    pub fn reason(&self) -> &EndReason {
        &self.reason
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl fmt::Display for SubscriptionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sid {}, subject '{}': {}", self.sid(), self.subject(), self.reason)
    }
}

/// A consumer as a notice carries it: it can be looked at for as long as it is kept.
#[derive(Clone)]
pub struct ConsumerView(Arc<dyn Consumer>);

impl ConsumerView {
    pub(crate) fn new(consumer: Arc<dyn Consumer>) -> Self {
        Self(consumer)
    }
}

/// It only looks, and what it looks at stays whole when code of the program panics.
impl UnwindSafe for ConsumerView {}
impl RefUnwindSafe for ConsumerView {}

impl std::ops::Deref for ConsumerView {
    type Target = dyn Consumer;

    fn deref(&self) -> &(dyn Consumer + 'static) {
        &*self.0
    }
}

impl fmt::Debug for ConsumerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
